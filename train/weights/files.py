"""Weights from files of any kind: safetensors, one or several; what torch.save wrote, whatever is beside the tensors."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from train.exceptions import ModelError
from train.weights import strangers
from train.weights.pickles import PICKLE, Inert, state_of

State = dict[str, Tensor]

_AVERAGED = ("ema", "averaged", "swa")

_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_IN_DIRECTORY = ("model.safetensors", "pytorch_model.bin")
_DEPTH = 4


@dataclass(frozen=True)
class Weights:
    """What a file has.

    Attributes:
        entries: sets of tensors by the keys that lead to them, joined by dots; "" is the file itself.
        settings: the arguments of the training script, where they are in it.
        pickled: the class of the whole model that the file holds, if it does.
        keys: of the file's outermost dictionary.
        quantised: whether torch has made whole numbers of some, which are left out.
    """

    path: Path
    entries: Mapping[str, State]
    settings: Mapping[str, Any] = field(default_factory=dict)
    pickled: str | None = None
    keys: tuple[str, ...] = ()
    quantised: bool = False


def read(path: Path) -> Weights:
    """Read a file, or the weights of a directory.

    Raises:
        ModelError: there is no such file, or no weights in it.
    """
    if path.is_dir():
        return _read_directory(path)
    try:
        if _is_safetensors(path):
            return Weights(path, {"": dict(load_file(path))})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a class has changed since, of which nothing is read
            loaded = torch.load(path, map_location="cpu", weights_only=False, pickle_module=PICKLE)
    except FileNotFoundError as error:
        raise ModelError(strangers.of_missing(path)) from error
    except Exception as error:  # a damaged file may make its reader raise anything
        raise ModelError(f"{path}: not readable as weights: {_reason(path, error)}") from error
    return _weights(path, loaded)


def chosen(path: Path) -> Path:
    """What :func:`read` takes: a file itself, of a directory the one in it, or, where that is in shards, the directory."""
    if path.is_dir() and not any((path / name).is_file() for name in _INDEX):
        return next((path / name for name in _IN_DIRECTORY if (path / name).is_file()), path)
    return path


def _read_directory(path: Path) -> Weights:
    for name in _INDEX:
        if (path / name).is_file():
            return Weights(path, {"": _read_shards(path / name)})
    if (file := chosen(path)) != path:
        return read(file)
    known = strangers.of_directory(path)
    raise ModelError(
        f"{path}: not readable as weights: a directory without {' or '.join(_IN_DIRECTORY)}"
        + (f"; it is {known}" if known else "; give the file in it")
    )


def _read_shards(index: Path) -> State:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index}: not an index of weights") from error
    state: State = {}
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{index}: {name!r} is not beside it")
        state |= read(index.parent / name).entries[""]
    return state


def _weights(path: Path, loaded: object) -> Weights:
    if isinstance(loaded, Inert):
        return Weights(path, {"": state_of(loaded)}, pickled=loaded.name)
    if isinstance(loaded, list | tuple) and any(isinstance(item, dict) for item in loaded):
        loaded = {str(index): item for index, item in enumerate(loaded)}
    if not isinstance(loaded, dict):
        raise ModelError(f"{path}: expected a state_dict, found {type(loaded).__name__}")
    entries = dict(_entries(loaded))
    pickled = [value.name for value in loaded.values() if isinstance(value, Inert) and state_of(value)]
    settings = loaded.get("args", loaded.get("hyper_parameters"))
    settings = settings.state if isinstance(settings, Inert) else settings
    return Weights(
        path,
        entries,
        settings if isinstance(settings, dict) else {},
        pickled[0] if pickled else None,
        tuple(map(str, loaded)),
        _quantised(loaded),
    )


def _entries(loaded: Mapping[Any, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Sets of named tensors, outermost first; what is numbered, as an optimiser's state is, is none."""
    own = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if own and any(value.ndim for value in own.values()):
        yield path, own
    for name, value in loaded.items():
        inner = value.state if isinstance(value, Inert) and not state_of(value) else value
        below = f"{path}.{name}" if path else str(name)
        if isinstance(value, Inert) and (state := state_of(value)):
            yield below, state
        elif isinstance(inner, Mapping) and isinstance(name, str) and depth < _DEPTH:
            yield from _entries(inner, below, depth + 1)


def _quantised(loaded: Mapping[Any, Any], depth: int = 0) -> bool:
    """Whether there are tensors of torch's quantisation, or what its layers pack them into."""
    return any(
        str(name).endswith("_packed_params")
        or (isinstance(value, Inert) and value.name.endswith("_rebuild_qtensor"))
        or (isinstance(value, Mapping) and depth < _DEPTH and _quantised(value, depth + 1))
        for name, value in loaded.items()
    )


def _is_safetensors(path: Path) -> bool:
    """By what the file begins with: the length of a JSON object, and the object."""
    with path.open("rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{" and head[:1] != b"\x80")


def _reason(path: Path, error: Exception) -> str:
    known = strangers.of_file(path)
    return f"it is {known}" if known else _shortened(error)


def _shortened(error: Exception) -> str:
    if isinstance(error, SafetensorError):
        return f"damaged, or no safetensors ({error})"
    if isinstance(error, pickle.UnpicklingError | EOFError | RuntimeError):
        return " ".join(str(error).partition("\n")[0].split())[:160] or "cut off"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def is_averaged(name: str) -> bool:
    """Whether keys such as ``state_dict_ema.module`` tell of weights averaged over training."""
    words = name.lower().replace(".", "_").split("_")
    return any(word in words for word in _AVERAGED)
