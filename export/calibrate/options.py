"""The options that make a gate, shared by the commands that calibrate one."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from export.detectors.combined.merged import parts
from export.exceptions import ExportError
from runtime.manifest import Manifest, MergeMethod

AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class GateOptions:
    """What gate is wanted.

    Attributes:
        score: key of the gate's score; several joined by ``+`` are merged; ``auto`` chooses.
        alpha: bound on the probability of rejecting an in-distribution image.
        temperature: T of the energy score; ``auto`` chooses; None chooses with the score ``auto``, and else leaves it.
        merge: how p-values are merged.
        class_conditional: whether every predicted class gets a threshold of its own.
        aux: sources of auxiliary outliers to choose by; none stands for synthetic ones.
        fit: training images, on which detectors are fitted to be chosen from; None for the scores that there are.
        strict: whether one image that can't be read is an error.
        allow_leakage: whether images that the model learned from may calibrate it.
    """

    score: str
    alpha: float = 0.05
    temperature: float | Literal["auto"] | None = None
    merge: MergeMethod = "min"
    class_conditional: bool = False
    aux: tuple[str, ...] = ()
    fit: str | None = None
    strict: bool = False
    allow_leakage: bool = False

    @classmethod
    def of(cls, manifest: Manifest) -> GateOptions:
        """Those of the gate that a bundle has, else the defaults."""
        gate = manifest.gate
        if gate is None:
            return cls("energy")
        merge = manifest.merged[gate.score].method if gate.score in manifest.merged else cls.merge
        return cls(gate.score, gate.alpha, merge=merge, class_conditional=gate.class_conditional)

    @property
    def parts(self) -> tuple[str, ...]:
        """The scores that are named."""
        return parts(self.score)

    @property
    def merges(self) -> bool:
        """Whether several scores are merged."""
        return len(self.parts) > 1

    @property
    def chooses_score(self) -> bool:
        return self.score == AUTO

    @property
    def chooses_temperature(self) -> bool:
        return self.temperature == AUTO or (self.chooses_score and self.temperature is None)

    @property
    def chooses(self) -> bool:
        return self.chooses_score or self.chooses_temperature

    def check(self, scores: Sequence[str]) -> None:
        """Raises ExportError for options that don't go with each other or with the `scores` that there are."""
        for part in self.parts:
            if part not in scores and not self.chooses_score:
                raise ExportError(f"unknown score {part!r}; there are {', '.join(scores)}, and {AUTO}")
        if len(set(self.parts)) != len(self.parts):
            raise ExportError(f"--score {self.score}: merges a score with itself; name each once")
        if self.chooses_temperature and "energy" not in scores:
            raise ExportError("a temperature is chosen for the energy score, which this graph does not have")
        if self.fit and not self.chooses_score:
            raise ExportError(f"--fit goes with --score {AUTO}; python -m export.fit adds detectors of your choice")
        if self.aux and not self.chooses:
            raise ExportError(f"--aux goes with --score {AUTO} or --temperature {AUTO}: there is nothing to choose")


def add_gate_options(parser: argparse.ArgumentParser, *, as_before: bool) -> None:
    """Add the options as a group; with `as_before` their default is None, for what the bundle has.

    Without, ``--calibration`` comes first, the source of the images.
    """
    group = parser.add_argument_group("gate")
    if not as_before:
        group.add_argument("--calibration", metavar="SOURCE", help="in-distribution images that were not trained on")

    def default(value: str) -> str:
        return f"default: {'as before, else ' if as_before else ''}{value}"

    group.add_argument(
        "--score",
        default=None if as_before else "energy",
        metavar="KEY|A+B|auto",
        help="the gate's score; A+B merges the p-values of several; auto takes the one with the largest AUROC between "
        f"a quarter of the calibration images and outliers, fusions of two among them ({default('energy')})",
    )
    group.add_argument(
        "--alpha",
        type=float,
        default=None if as_before else 0.05,
        help=f"bound on rejecting an ID image ({default('0.05')})",
    )
    group.add_argument(
        "--temperature",
        type=temperature,
        metavar="T|auto",
        help="T of the energy score; auto chooses it like the score "
        f"(default: auto with --score auto, else {'as before' if as_before else '1'})",
    )
    group.add_argument(
        "--merge",
        choices=get_args(MergeMethod),
        default=None if as_before else "min",
        help="how --score A+B merges p-values: Bonferroni's minimum, the harmonic mean, or Fisher's sum of logarithms "
        f"({default('min')})",
    )
    group.add_argument(
        "--class-conditional",
        action=argparse.BooleanOptionalAction,
        default=None if as_before else False,
        help=f"a threshold for every predicted class, with the promise for each of them ({default('no')})",
    )
    group.add_argument(
        "--aux",
        action="append",
        default=[],
        metavar="SOURCE",
        help="auxiliary outliers for auto, repeatable (default: synthetic ones); never those of an evaluation",
    )
    group.add_argument(
        "--fit",
        metavar="SOURCE",
        help=f"training images: --score {AUTO} fits detectors on them and chooses among these too",
    )


def temperature(text: str) -> float | Literal["auto"]:
    """``auto`` or a positive number.

    Raises:
        ExportError: neither.
    """
    if text == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ExportError(f"--temperature must be positive or {AUTO}, found {text}")
    return value
