"""Which files of weights somebody's code reads, and the same code without reading them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from safetensors import torch as safetensors
from torch import nn
from torch.utils import model_zoo


class _Nothing(dict[Any, Any]):
    """What a file of weights is where none is read: it has every entry, and nothing in it."""

    def __missing__(self, key: object) -> _Nothing:
        return _Nothing()

    def get(self, key: object, default: Any = None) -> Any:  # noqa: ARG002
        return _Nothing()

    def pop(self, key: object, default: Any = None) -> Any:  # noqa: ARG002
        return _Nothing()


@contextmanager
def watched() -> Iterator[list[str]]:
    """Within this context, the files that weights are read from, as far as torch or safetensors reads them; of weights that
    somebody else reads and a module loads, that there is one. Those that one module hands to another are of no file."""
    read: list[str] = []
    handed: set[int] = set()

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def reading(file: Any, *args: Any, **kwargs: Any) -> Any:
            read.append(str(file) if isinstance(file, str) or hasattr(file, "__fspath__") else "a file")
            return function(file, *args, **kwargs)

        return reading

    state_of, load = nn.Module.state_dict, nn.Module.load_state_dict

    def handing(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        state = state_of(module, *args, **kwargs)
        if not args and "destination" not in kwargs:  # else it is a part of one that is noted whole
            handed.update(map(_place, state.values()))
        return state

    def loading(module: nn.Module, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not read and not handed.issuperset(map(_place, state_dict.values())):
            read.append("a file")
        return load(module, state_dict, *args, **kwargs)

    with ExitStack() as stack:
        for owner, name in ((torch, "load"), (safetensors, "load_file")):
            stack.enter_context(mock.patch.object(owner, name, noted(getattr(owner, name))))
        stack.enter_context(mock.patch.object(nn.Module, "state_dict", handing))
        stack.enter_context(mock.patch.object(nn.Module, "load_state_dict", loading))
        yield read


def _place(value: Any) -> int:
    """Where a tensor's numbers are; 0 for what is none, or has none."""
    return value.untyped_storage().data_ptr() if isinstance(value, torch.Tensor) else 0


@contextmanager
def skipped() -> Iterator[None]:
    """Within this context torch and safetensors read no weights, nothing is downloaded, and modules load nothing."""
    with ExitStack() as stack:
        for owner, name in _reading():
            stack.enter_context(mock.patch.object(owner, name, _nothing))
        stack.enter_context(mock.patch.object(nn.Module, "load_state_dict", _loaded))
        stack.enter_context(mock.patch.object(torch.hub, "download_url_to_file", _nothing))
        yield


def _reading() -> Iterator[tuple[Any, str]]:
    yield torch, "load"
    yield safetensors, "load_file"
    yield torch.hub, "load_state_dict_from_url"
    yield model_zoo, "load_url"
    if "timm.models._builder" in sys.modules:
        yield sys.modules["timm.models._builder"], "load_pretrained"


def _nothing(*_: Any, **__: Any) -> _Nothing:
    return _Nothing()


def _loaded(*_: Any, **__: Any) -> Any:
    return nn.modules.module._IncompatibleKeys([], [])
