"""Tensors out of torch's pickle files without running what else is in them.

Of all that a pickle asks to be imported, only what tensors are made of is; every other class or function is replaced by
:class:`Inert`, which keeps what it is given and does nothing. So the weights come out of a file that has an
``argparse.Namespace``, an optimiser or a whole model beside or around them.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


class Inert:
    """What stands for a class or function that is not imported: any call, state or item is kept, nothing is run."""

    name = "?"
    state: Any
    dump_patches = False  # torch asks this of a module's class in files of its first format

    def __new__(cls, *_: object, **__: object) -> Inert:
        made = super().__new__(cls)
        object.__setattr__(made, "state", {})
        return made

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        slots = isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict | None)
        object.__setattr__(self, "state", (state[1] or state[0]) if isinstance(state, tuple) and slots else state)

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None:
        """An item of what would be a list."""

    def extend(self, items: object) -> None:
        """Items of what would be a list."""

    def __call__(self, *_: object, **__: object) -> Inert:
        return self

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def _tensor_of(function: Callable[..., Any], _: object, arguments: tuple[Any, ...], __: object) -> Any:
    """What a tensor of another type holds; `function` is one of those below, or inert."""
    return function(*arguments)


def _first(data: Any, *_: object) -> Any:
    return data


def _instance(kind: Any, *_: object) -> Any:
    return kind() if isinstance(kind, type) and issubclass(kind, Inert) else Inert()


def _encode(text: str, *_: object) -> bytes:
    return text.encode("latin1")


# What tensors are made of. Nothing here takes a name, a path or code.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_of,
    ("torch", "Tensor"): Tensor,
    ("torch", "Size"): tuple,
    ("torch.nn.parameter", "Parameter"): _first,
    ("collections", "OrderedDict"): OrderedDict,
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (dict, list, set)},
    ("copyreg", "_reconstructor"): _instance,
    ("copy_reg", "_reconstructor"): _instance,
    ("_codecs", "encode"): _encode,
}
_STORAGES = {
    f"{kind}Storage": getattr(torch, f"{kind}Storage")
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
}


class _Unpickler(pickle.Unpickler):
    """Imports nothing but what :data:`_ALLOWED` has."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) in _ALLOWED:
            return _ALLOWED[module_name, global_name]
        if module_name == "torch":
            if global_name in _STORAGES:
                return _STORAGES[global_name]
            if isinstance(kind := getattr(torch, global_name, None), torch.dtype):
                return kind
        return type("Inert", (Inert,), {"name": f"{module_name}.{global_name}"})


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# What torch.load takes for Python's module of this name.
PICKLE: Any = SimpleNamespace(
    __name__="train.weights.pickles",
    Unpickler=_Unpickler,
    UnpicklingError=pickle.UnpicklingError,
    load=_load,
)


def state_of(module: Inert) -> dict[str, Tensor]:
    """The ``state_dict()`` of a pickled torch module, from its parts; empty for anything else."""
    state = module.state if isinstance(getattr(module, "state", None), dict) else {}
    found: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        passing, own = state.get("_non_persistent_buffers_set"), state.get(kind)
        found |= {
            str(name): value
            for name, value in (own.items() if isinstance(own, dict) else ())
            if isinstance(value, Tensor) and not (isinstance(passing, set) and name in passing)
        }
    children = state.get("_modules")
    for name, child in children.items() if isinstance(children, dict) else ():
        if isinstance(child, Inert):
            found |= {f"{name}.{key}": value for key, value in state_of(child).items()}
    return found
