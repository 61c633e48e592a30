"""Arithmetic on tensors of a graph, written as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from export.graph.building import Graph


@dataclass(frozen=True)
class Value:
    """A tensor of a graph; an operator appends a node, and a number beside it has its element type.

    Attributes:
        graph: where it is.
        name: what it is called there.
        dtype: its element type.
    """

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def op(self, kind: str, *others: Value | float, dtype: npt.DTypeLike | None = None, **attributes: Any) -> Value:
        """The first output of an operator on this and other tensors.

        Args:
            kind: ONNX operator.
            others: tensors; a number becomes a scalar of this element type.
            dtype: of the output; None for this one's.
            attributes: of the operator.
        """
        names = [other.name if isinstance(other, Value) else self.of(other).name for other in others]
        found = self.graph.op(kind, self.name, *names, **attributes)
        return Value(self.graph, found, self.dtype if dtype is None else np.dtype(dtype))

    def of(self, number: npt.ArrayLike) -> Value:
        """A constant of this element type."""
        return constant(self.graph, np.asarray(number, dtype=self.dtype))

    def cast(self, dtype: npt.DTypeLike) -> Value:
        """The same numbers in another element type; fractions are cut off on the way to whole numbers."""
        return self.op("Cast", dtype=dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def floor(self) -> Value:
        return self.op("Floor")

    def at_least(self, other: Value | float) -> Value:
        return self.op("Max", other)

    def at_most(self, other: Value | float) -> Value:
        return self.op("Min", other)

    def where(self, condition: Value, otherwise: Value | float) -> Value:
        """This where a condition holds, and something else where it does not."""
        other = otherwise if isinstance(otherwise, Value) else self.of(otherwise)
        return Value(self.graph, self.graph.op("Where", condition.name, self.name, other.name), self.dtype)

    def unsqueezed(self, axis: int) -> Value:
        return self.op("Unsqueeze", constant(self.graph, np.array([axis])))

    def reduced(self, kind: str, *, axis: int | None = None) -> Value:
        """Over one axis, which stays as one of length 1, or over all of them to a scalar."""
        if axis is None:
            return self.op(kind, keepdims=0)
        return self.op(kind, constant(self.graph, np.array([axis])))

    def __add__(self, other: Value | float) -> Value:
        return self.op("Add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self.op("Sub", other)

    def __rsub__(self, other: float) -> Value:
        return self.of(other).op("Sub", self)

    def __mul__(self, other: Value | float) -> Value:
        return self.op("Mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Value | float) -> Value:
        return self.op("Div", other)

    def __lt__(self, other: Value | float) -> Value:
        return self.op("Less", other, dtype=bool)

    def __le__(self, other: Value | float) -> Value:
        return self.op("LessOrEqual", other, dtype=bool)

    def __gt__(self, other: Value | float) -> Value:
        return self.op("Greater", other, dtype=bool)

    def __ge__(self, other: Value | float) -> Value:
        return self.op("GreaterOrEqual", other, dtype=bool)

    def __and__(self, other: Value) -> Value:
        return self.op("And", other)

    def __abs__(self) -> Value:
        return self.op("Abs")


def constant(graph: Graph, value: npt.ArrayLike) -> Value:
    """A constant tensor."""
    array = np.asarray(value)
    return Value(graph, graph.constant(array), array.dtype)


def arange(start: Value, stop: Value) -> Value:
    """Whole numbers from `start` up to `stop`, scalars of one element type, and without it."""
    return start.op("Range", stop, 1)


def joined(*parts: Value, axis: int) -> Value:
    """Tensors one behind the other."""
    return parts[0].op("Concat", *parts[1:], axis=axis)
