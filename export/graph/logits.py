"""Logits of a graph that ends in something else: in probabilities, their logarithms, or one output for two classes.

What stands behind the last layer is recognised by its values, whatever operators compute it, and cut off where a tensor
before it is found of which it is a function, of whatever values: exactly what the network computed, one step earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from scipy.special import log_expit, log_softmax, logsumexp

from export.graph.building import LOGITS, PENULTIMATE, Graph, prune, remove_node
from export.graph.last_layers import last_layers
from export.graph.probing import FLOATS, computing, probes, tensor_types, values_of

Array = npt.NDArray[np.float64]
Activation = Literal["softmax", "log_softmax", "sigmoid"]
Step = Literal["softmax", "log_softmax", "sigmoid", "one of two"]

_DEPTH = 40  # nodes before the end of the graph among which the logits are looked for
_ROUNDING = 5e-3  # of a sum of probabilities, in half precision
_TOLERANCE = 1e-3  # of a logarithm of a probability
_SMALLEST = 1e-7  # probabilities that differ by less are alike
_ONE = "logit_of_the_second"


def _probabilities_logarithm(values: Array) -> Array:
    return np.asarray(log_softmax(values, axis=1))


def _sigmoids_logarithm(values: Array) -> Array:
    return np.asarray(log_expit(values))


_LOGARITHMS: dict[Activation, Callable[[Array], Array]] = {
    "softmax": _probabilities_logarithm,
    "log_softmax": _probabilities_logarithm,
    "sigmoid": _sigmoids_logarithm,
}


def activation(outputs: npt.NDArray[np.floating]) -> Activation | None:
    """What rows (N, K) look like that are no logits; None for what may be logits.

    Rows that sum to one are a softmax, rows whose exponentials do a log_softmax, and values between 0 and 1 may be
    sigmoids.
    """
    values = np.asarray(outputs, dtype=np.float64)
    if values.shape[1] > 1 and values.max() <= _ROUNDING and np.abs(logsumexp(values, axis=1)).max() < _ROUNDING:
        return "log_softmax"
    if values.min() < 0 or values.max() > 1 + _ROUNDING:
        return None
    sums_to_one = bool(np.abs(values.sum(axis=1) - 1).max() < _ROUNDING)
    return "softmax" if values.shape[1] > 1 and sums_to_one else "sigmoid"


def undo(model: onnx.ModelProto, kind: Activation, images: npt.NDArray[np.uint8]) -> bool:
    """Let the tensor whose `kind` the logits are be the logits, in place; whether there is one.

    Args:
        model: with the outputs ``logits`` [N, K] and ``penultimate`` [N, D].
        kind: what the logits look like.
        images: uint8 [N, H, W, 3], to recognise the tensor by its values.
    """
    types = tensor_types(model)
    candidates = _before_the_logits(model, types)
    values = values_of(computing(model, [*candidates, LOGITS], types), {model.graph.input[0].name: images})
    outputs = values.pop(LOGITS).reshape(len(images), -1)
    for name, value in values.items():  # the earliest: a difference from its own largest has the same softmax
        if (
            value.size == outputs.size
            and len(value) == len(images)
            and _explains(kind, value.reshape(len(value), -1), outputs)
            and _explains_all(model, kind, name, images, types[name] != TensorProto.FLOAT16)
        ):
            _let_be_logits(model, name, types[name])
            return True
    return False


def widen(model: onnx.ModelProto) -> None:
    """Logits [-z/2, z/2] of two classes, in place, from one output z [N, 1] or [N] that is the logit of the second.

    softmax([-z/2, z/2]) = (1 - sigmoid(z), sigmoid(z)), as of [0, z]; but scores of these are alike for both classes: the
    energy of [0, z] is lowest for the images that are most certainly of the first.
    """
    (output,) = (output for output in model.graph.output if output.name == LOGITS)
    shape = [dim.dim_param or "N" for dim in output.type.tensor_type.shape.dim[:1]]
    last = _last_layer(model)
    if last is not None:
        let_be_linear(model, *(np.concatenate([-values / 2, values / 2]) for values in last))
    else:
        for node in model.graph.node:
            node.output[:] = [_ONE if name == LOGITS else name for name in node.output]
            node.name = _ONE if node.name == LOGITS else node.name
        g = Graph(model)
        column = g.op("Reshape", _ONE, g.constant(np.array([-1, 1])))
        g.op("MatMul", column, g.float32([[-0.5, 0.5]]), output=LOGITS)
    output.CopyFrom(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, (*shape, 2)))


def let_be_linear(model: onnx.ModelProto, weights: Array, bias: Array) -> None:
    """Let the logits be one linear layer of ``penultimate``, in place: weights (K, D) and bias (K,)."""
    remove_node(model, LOGITS)
    g = Graph(model)
    g.op("Gemm", PENULTIMATE, g.float32(weights), g.float32(bias), output=LOGITS, transB=1)
    prune(model)


def redo(steps: tuple[Step, ...], logits: Array) -> Array:
    """What the network itself outputs (N, K), of the logits (N, K) from which `steps` were undone, in that order."""
    for step in reversed(steps):
        if step == "one of two":
            logits = logits[:, 1:] - logits[:, :1]
        else:
            logits = _LOGARITHMS[step](logits)
            logits = logits if step == "log_softmax" else np.exp(logits)
    return logits


def _explains(kind: Activation, value: Array, outputs: Array) -> bool:
    """Whether `outputs` are the activations of `value`, compared as logarithms, which tell small ones apart."""
    found = outputs if kind == "log_softmax" else np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    expected = _LOGARITHMS[kind](value)
    alike = np.abs(expected - found) <= _TOLERANCE * np.maximum(1, np.abs(found))
    return bool((alike | (np.abs(np.exp(expected) - np.exp(found)) <= _SMALLEST)).all())


def _explains_all(
    model: onnx.ModelProto, kind: Activation, name: str, images: npt.NDArray[np.uint8], exact: bool
) -> bool:
    """Whether the logits are the activations of a tensor whatever its values: no clamp that these images do not reach.

    Small probabilities are told apart where they are `exact`; of half precision not where values are extreme.
    """
    for values, outputs in probes(model, name, images):
        value, found = values.reshape(len(values), -1), outputs.reshape(len(values), -1)
        probabilities = np.exp(found) if kind == "log_softmax" else found
        nearly = bool(np.abs(probabilities - np.exp(_LOGARITHMS[kind](value))).max() <= _ROUNDING)
        if not (_explains(kind, value, found) if exact else nearly):
            return False
    return True


def _before_the_logits(model: onnx.ModelProto, types: Mapping[str, int]) -> list[str]:
    """Floating-point tensors that the logits follow from, back to ``penultimate``, the earliest first."""
    producers = {name: node for node in model.graph.node for name in node.output}
    wanted, seen = [LOGITS], dict[str, None]()
    while wanted and len(seen) < _DEPTH:
        name = wanted.pop(0)
        if name in seen or name not in producers:
            continue
        seen[name] = None
        wanted += producers[name].input if name != PENULTIMATE else ()
    order = [name for node in model.graph.node for name in node.output if name in seen and name != LOGITS]
    return [name for name in order if types.get(name) in FLOATS]


def _let_be_logits(model: onnx.ModelProto, name: str, kind: int) -> None:
    remove_node(model, LOGITS)
    g = Graph(model)
    if kind == TensorProto.FLOAT:
        g.op("Identity", name, output=LOGITS)
    else:
        g.op("Cast", name, output=LOGITS, to=TensorProto.FLOAT)
    prune(model)


def _last_layer(model: onnx.ModelProto) -> tuple[Array, Array] | None:
    layers = last_layers(model)
    return layers.linear() if layers is not None and layers.is_linear else None
