"""Build typed dataclasses from JSON values, naming the field at fault."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")

_FLOAT_MAX = int(sys.float_info.max)
_PLAIN = (float, int, str)


class OtherFields(ValueError):
    """A field that is missing, or one that the dataclass does not have: what another version wrote."""


def build(cls: type[T], value: Any, where: str = "") -> T:
    """Check `value` (parsed JSON) against the fields of dataclass `cls` and construct it.

    Handles nested dataclasses, ``str``, ``int``, ``float``, ``bool``, ``Any``, ``Literal``, ``X | None``,
    ``X | tuple[Y, ...]``, ``tuple[X, ...]``, ``tuple[X, Y]`` and ``dict[str, X]``. An instance of a dataclass that is
    built already stays.

    Raises:
        ValueError: with the path of the field, what was expected and what was found; :class:`OtherFields` where the
            fields are others.
    """
    result: T = _value(cls, value, where)
    return result


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        return _dataclass(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        lists = [arg for arg in kinds if typing.get_origin(arg) is tuple]
        return _value(lists[0] if lists and isinstance(value, list) else kinds[0], value, where)
    if origin is typing.Literal:
        return _expect(value in args, value, f"one of {list(args)}", where)
    if origin is tuple:
        _expect(isinstance(value, list), value, "a list", where)
        if args[0] in _PLAIN and args[-1] is Ellipsis and set(map(type, value)) <= {args[0]}:
            return tuple(value)  # thousands of order statistics, one look for all
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        _expect(len(value) == len(kinds), value, f"{len(kinds)} values", where)
        return tuple(_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        _expect(isinstance(value, dict), value, "an object", where)
        return {key: _value(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _expect(number and not (isinstance(value, int) and abs(value) > _FLOAT_MAX), value, "a number", where)
        return float(value)
    return _expect(type(value) is kind, value, f"a value of type {kind.__name__}", where)


def _dataclass(cls: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, "an object", where)
    hints = typing.get_type_hints(cls)
    prefix = f"{where}." if where else ""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(value.keys() - fields.keys()):
        raise OtherFields(f"{prefix}{unknown[0]}: unknown field; known are {sorted(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise OtherFields(f"{prefix}{name}: missing")
    built = {name: _value(hints[name], item, f"{prefix}{name}") for name, item in value.items()}
    try:
        return cls(**built)
    except ValueError as error:
        raise ValueError(f"{where or 'document'}: {error}") from error


def _expect(holds: bool, value: Any, expected: str, where: str) -> Any:
    if not holds:
        raise ValueError(f"{where or 'document'}: expected {expected}, found {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
