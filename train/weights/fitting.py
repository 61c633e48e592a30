"""Which of a file's weights are the model's, and by which names: entries, prefixes, and what is left over."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.exceptions import ModelError
from train.weights.files import State, Weights, is_averaged

# What profilers and averaging leave beside the weights.
_IGNORED = ("total_ops", "total_params", "n_averaged", "num_batches_tracked")
_PARAMETRISED = {
    "weight_g": ("original0",),
    "weight_v": ("original1", "0._v"),
    "weight_orig": ("original",),
    "weight_u": ("0._u",),
}

_QUANTISED = (
    "they are quantised by torch; give those from before, of which --precision int8 makes whole numbers, or export the "
    "quantised model to ONNX"
)
_FUSED = (
    "they are of blocks fused for inference: let the factory return timm.utils.reparameterize_model(model), or what its "
    "package has for it, or give the weights from before"
)


@dataclass(frozen=True)
class Choice:
    """Which entry of the file to take: the averaged one, or the one of this name."""

    averaged: bool = False
    key: str | None = None


@dataclass(frozen=True)
class Fit:
    """How well an entry's tensors are a model's, once `prefix` is taken off their names and `added` put before them.

    Attributes:
        tensors: those of the entry with that prefix, by the names they get.
        others: how many of the entry have another prefix.
        matching: how many have the model's name and shape.
        rest: where the last of them come from, if not all from one place.
    """

    entry: str
    prefix: str
    added: str
    tensors: State
    others: int
    matching: int
    rest: Fit | None = None

    @property
    def averaged(self) -> bool:
        return is_averaged(f"{self.entry}.{self.prefix}")

    @property
    def place(self) -> str:
        parts = f"entry {self.entry!r}" if self.entry else "", f"prefix {self.prefix!r}" if self.prefix else ""
        place = ", ".join(filter(None, parts))
        return f"{place} and {self.rest.place}" if self.rest else place


PLAIN = Choice()


def load(
    module: nn.Module,
    weights: Weights,
    choice: Choice = PLAIN,
    free: frozenset[str] = frozenset(),
    option: str = "--ema",
) -> tuple[str, ...]:
    """Give a module its weights; remarks on which they are.

    Args:
        module, weights, choice: what is given which of them.
        free: names of the module's that may be missing or of another shape, and are not taken.
        option: that takes weights averaged over training in place of the others, for remarks.

    Raises:
        ModelError: none of the file's entries fits, or not the one chosen.
    """
    own = {name: value for name, value in module.state_dict().items() if name not in free}
    fits = [fit for name, state in _chosen(weights, choice).items() for fit in _fits(name, state, own, free)]
    if not fits:
        raise ModelError(_nothing(weights, own))
    whole = [fit for fit in fits if not _problems(fit, own)] or _joined(fits, own)
    if not whole:
        reason = _QUANTISED if weights.quantised else _explain(max(fits, key=_agreement), own)
        raise ModelError(f"{weights.path}: the weights don't fit the model: {reason}")
    taken = min(whole, key=lambda fit: (fit.averaged != choice.averaged, fit.others > 0, whole.index(fit)))
    if choice.averaged and not taken.averaged:
        raise ModelError(f"{weights.path}: --ema finds no averaged weights that fit; there are {_listed(whole)}")
    module.load_state_dict(
        {name: value.to(own[name].dtype) for name, value in taken.tensors.items() if name in own}, strict=False
    )
    return _remarks(taken, whole, option)


def _chosen(weights: Weights, choice: Choice) -> Mapping[str, State]:
    if choice.key is None:
        return weights.entries
    chosen = {
        name: state
        for name, state in weights.entries.items()
        if name == choice.key or name.startswith(f"{choice.key}.")
    }
    for name, state in weights.entries.items():  # a prefix inside an entry
        if inside := {key: value for key, value in state.items() if key.startswith(f"{choice.key}.")}:
            chosen.setdefault(f"{name}.{choice.key}" if name else choice.key, inside)
    if not chosen:
        raise ModelError(f"{weights.path}: --key {choice.key}: there are {', '.join(map(repr, weights.entries))}")
    return chosen


def _fits(entry: str, state: State, own: Mapping[str, Tensor], free: frozenset[str]) -> list[Fit]:
    """The ways in which an entry's names might be the model's: nothing, or a prefix taken off, or put before."""
    off = _prefixes(state, own)
    on = {prefix for prefix in _prefixes(own, state) if prefix}
    found = [_fit(entry, state, own, prefix, "") for prefix in off] + [
        _fit(entry, state, own, "", added) for added in on
    ]
    for fit in found:
        for name in free & fit.tensors.keys():
            del fit.tensors[name]
    return [fit for fit in found if fit.matching]


def _prefixes(longer: Mapping[str, object], shorter: Mapping[str, object]) -> list[str]:
    """What stands before names of `shorter` in names of `longer`, the most frequent first; "" is one."""
    last = {name: name.rpartition(".")[2] for name in shorter}
    by_last: dict[str, list[str]] = {}
    for name, word in last.items():
        by_last.setdefault(word, []).append(name)
    counts: Counter[str] = Counter({"": 0})
    for name in longer:
        for other in by_last.get(name.rpartition(".")[2], ()):
            if name == other or name.endswith(f".{other}"):
                counts[name[: len(name) - len(other)]] += 1
    return [prefix for prefix, _ in counts.most_common(12)]


def _fit(entry: str, state: State, own: Mapping[str, Tensor], prefix: str, added: str) -> Fit:
    tensors = {
        _of_today(added + name.removeprefix(prefix), own): value
        for name, value in state.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    if own.keys() <= tensors.keys():
        for copy in filter(None, _prefixes(tensors, own)):
            if all(f"{copy}{name}" in tensors for name in own):  # averaged weights, a teacher's: another fit
                tensors = {name: value for name, value in tensors.items() if not name.startswith(copy)}
    matching = sum(name in own and own[name].shape == value.shape for name, value in tensors.items())
    return Fit(entry, prefix, added, tensors, len(state) - len(tensors), matching)


def _joined(fits: list[Fit], own: Mapping[str, Tensor]) -> list[Fit]:
    """A model whose weights are in two places, as of a backbone and its head; none where that is not all, or not clear."""
    first = max(fits, key=_agreement)
    problems = _problems(first, own)
    missing = set(problems.missing)
    seconds = [fit for fit in fits if fit.tensors.keys() >= missing and not _problems(fit, own).other_shape]
    if problems.unknown or problems.other_shape or not seconds or not all(_equal(seconds[0], fit) for fit in seconds):
        return []
    (second, *_), tensors = seconds, {**seconds[0].tensors, **first.tensors}
    joined = dataclasses.replace(first, tensors=tensors, rest=second)
    return [] if _problems(joined, own) else [joined]


def _of_today(name: str, own: Mapping[str, Tensor]) -> str:
    """The name that torch's parametrisations give to what its weight and spectral norms of old call otherwise."""
    layer, _, word = name.rpartition(".")
    base = f"{layer}." if layer else ""
    names = (f"{base}parametrizations.weight.{other}" for other in _PARAMETRISED.get(word, ()))
    return next((other for other in names if other in own), name)


def _agreement(fit: Fit) -> tuple[int, int]:
    return fit.matching, -len(fit.tensors)


@dataclass(frozen=True)
class _Problems:
    missing: list[str]
    unknown: list[str]
    other_shape: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.other_shape)


def _problems(fit: Fit, own: Mapping[str, Tensor]) -> _Problems:
    """What keeps the weights from being the model's; whole numbers, which no training learns, may differ in number."""
    return _Problems(
        [name for name, value in own.items() if name not in fit.tensors and _learned(name, value)],
        [name for name, value in fit.tensors.items() if name not in own and _learned(name, value)],
        [name for name, value in fit.tensors.items() if name in own and own[name].shape != value.shape],
    )


def _learned(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and name.rpartition(".")[2] not in _IGNORED


def _explain(fit: Fit, own: Mapping[str, Tensor]) -> str:
    problems = _problems(fit, own)
    if not problems.missing and not problems.unknown and (head := _other_classes(fit, own, problems.other_shape)):
        return head
    parts = []
    if problems.other_shape:
        shapes = [f"{name} {_shape(fit.tensors[name])}, not {_shape(own[name])}" for name in problems.other_shape[:3]]
        parts.append(f"{len(problems.other_shape)} of another shape: {'; '.join(shapes)}")
    if problems.missing:
        parts.append(f"{len(problems.missing)} of the model are not in the file: {_few(problems.missing)}")
    if problems.unknown:
        parts.append(f"{len(problems.unknown)} of the file are not in the model: {_few(problems.unknown)}")
    place = f" ({fit.place})" if fit.place else ""
    if any("reparam" in name for name in problems.unknown):
        parts.append(_FUSED)
    return f"{fit.matching} of {len(own)} do{place}; " + "; ".join(parts)


def _other_classes(fit: Fit, own: Mapping[str, Tensor], names: list[str]) -> str | None:
    """A line for weights that differ in the number of classes alone."""
    pairs = {
        (fit.tensors[name].shape[:1], own[name].shape[:1])
        for name in names
        if fit.tensors[name].ndim and own[name].ndim
    }
    if len(pairs) != 1 or len(names) > 4:
        return None
    ((theirs, _),) = pairs
    if any(fit.tensors[name].shape[1:] != own[name].shape[1:] for name in names):
        return None
    return (
        f"its head {names[0]} is {_shape(fit.tensors[names[0]])}, the model's {_shape(own[names[0]])}: it has "
        f"{theirs[0]} classes; let the factory build as many, such as --model 'FACTORY(num_classes={theirs[0]})'"
    )


def _nothing(weights: Weights, own: Mapping[str, Tensor]) -> str:
    if not weights.entries:
        held = f"it holds {', '.join(weights.keys[:6])}" if weights.keys else "it is empty"
        return f"{weights.path}: the weights don't fit the model: there are no named tensors in it; {held}"
    first = next(iter(weights.entries.values()))
    return (
        f"{weights.path}: the weights don't fit the model: it has {_few(list(first))}, the model {_few(list(own))}, "
        "and no name is shared"
    )


def describe(weights: Weights) -> str:
    """What a file's weights look like, for who has to say which model they are of."""
    if not weights.entries:
        return f"it holds {', '.join(weights.keys[:6]) or 'nothing'} and no named tensors"
    name, state = max(weights.entries.items(), key=lambda item: len(item[1]))
    names = list(state)
    shown = [f"{key} {_shape(state[key])}" for key in dict.fromkeys((names[0], *names[-2:]))]
    return f"{len(names)} tensors{f' under {name!r}' if name else ''}: {', '.join(shown)}"


def _remarks(taken: Fit, whole: list[Fit], option: str) -> tuple[str, ...]:
    remarks = []
    others = [fit for fit in whole if fit is not taken and not _equal(fit, taken)]
    if others:
        hint = "" if taken.averaged == any(fit.averaged for fit in others) else f"; {option} takes the averaged ones"
        hint = hint if not taken.averaged else f"; without {option} the others are taken"
        kind = "averaged weights" if taken.averaged else "weights"
        remarks.append(f"{kind} taken of the {taken.place or 'file itself'}; {_listed(others)} would fit too{hint}")
    elif taken.place or taken.added:
        remarks.append(
            f"weights of the {taken.place or 'file'}"
            + (f", with {taken.added!r} put before their names" if taken.added else "")
        )
    return tuple(remarks)


def _equal(first: Fit, second: Fit) -> bool:
    return first.tensors.keys() == second.tensors.keys() and all(
        torch.equal(value, second.tensors[name]) for name, value in first.tensors.items()
    )


def _listed(fits: list[Fit]) -> str:
    return ", ".join(fit.place or "the file itself" for fit in fits)


def _few(names: list[str]) -> str:
    return ", ".join(map(str, names[:3])) + (" ..." if len(names) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
