"""What gate is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from export import conformal
from export.detectors.combined.merged import parts
from export.detectors.confidence import CONFIDENCE
from export.exceptions import ExportError
from runtime.manifest import Guarantee, Manifest, MergeMethod, Task
from train.data import Reading

AUTO: Literal["auto"] = "auto"
NONE: Literal["none"] = "none"
DEFAULT: Literal["default"] = "default"
_MERGE: MergeMethod = "min"
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class GateOptions:
    """Options that go with each other, as :meth:`check` finds.

    Attributes:
        score: key of the gate's score; several joined by ``+`` are merged; ``auto`` chooses; ``default`` is what
            :meth:`for_task` says.
        alpha: bound on the probability of rejecting an in-distribution image.
        temperature: T of the energy score; ``auto`` chooses; None chooses with the score ``auto``, and else leaves it.
        merge: how p-values are merged; None for their minimum.
        class_conditional: whether every predicted class gets a threshold of its own.
        aux: sources of auxiliary outliers to choose by; none stands for synthetic ones.
        fit: training images, on which detectors are fitted to be chosen from; None for the scores that there are.
        reading: what the user says of the sources.
        allow_leakage: whether images that the model learned from may calibrate it.
        guarantee: ``marginal`` bounds the rejection rate on average over calibration sets, ``pac`` this gate's own, with a
            confidence.
        confidence: of ``pac``, and of `max_error`; None for 0.95.
        max_error: bound on the share of accepted in-distribution images that are classified wrong.
        select: key of the score whose threshold keeps that bound, or ``confidence``.
        prediction_sets: coverages of the label sets that known images have.
    """

    score: str
    alpha: float = 0.05
    temperature: float | Literal["auto"] | None = None
    merge: MergeMethod | None = None
    class_conditional: bool = False
    aux: tuple[str, ...] = ()
    fit: str | None = None
    reading: Reading = Reading()  # noqa: RUF009  frozen
    allow_leakage: bool = False
    guarantee: Guarantee = "marginal"
    confidence: float | None = None
    max_error: float | Literal["none"] = "none"
    select: str = CONFIDENCE
    prediction_sets: tuple[float, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest, reading: Reading = Reading(), *, allow_leakage: bool = False) -> GateOptions:  # noqa: B008  frozen
        """Those of the gate that a bundle has, else the defaults."""
        gate = manifest.gate
        if gate is None:
            return cls(DEFAULT, reading=reading, allow_leakage=allow_leakage)
        merge = manifest.merged[gate.score].method if gate.score in manifest.merged else None
        return cls(
            gate.score,
            gate.alpha,
            merge=merge,
            class_conditional=gate.class_conditional,
            reading=reading,
            allow_leakage=allow_leakage,
            guarantee=gate.guarantee,
            confidence=gate.confidence or (gate.max_error.confidence if gate.max_error else None),
            max_error=gate.max_error.rate if gate.max_error else NONE,
            select=gate.max_error.score if gate.max_error else CONFIDENCE,
            prediction_sets=tuple(one.coverage for one in gate.sets),
        )

    def changed(self, given: Mapping[str, Any]) -> GateOptions:
        """These with what is `given`; what was there goes where nothing takes it: a confidence, a way to merge, and the
        score that kept a bound on the error, where there is no such bound or the score was merged for the gate before."""
        options = dataclasses.replace(self, **given)
        gone = self.merges and self.select == self.score != options.score
        if "select" not in given and (gone or not options.bounds_error):
            options = dataclasses.replace(options, select=CONFIDENCE)
        if "confidence" not in given and not options.takes_confidence:
            options = dataclasses.replace(options, confidence=None)
        if "merge" not in given and not options.merges:
            options = dataclasses.replace(options, merge=None)
        return options

    @property
    def asked(self) -> dict[str, Any]:
        """What gate differs from the default one in, by the command's options."""
        default = GateOptions(DEFAULT, reading=self.reading, allow_leakage=self.allow_leakage)
        return {
            f"--{name.replace('_', '-')}": value
            for name, value in vars(self).items()
            if value != getattr(default, name)
        }

    @property
    def level(self) -> float:
        """The confidence of ``pac`` and of the bound on the error."""
        return _CONFIDENCE if self.confidence is None else self.confidence

    @property
    def merging(self) -> MergeMethod:
        """How p-values are merged."""
        return self.merge or _MERGE

    @property
    def pac(self) -> float | None:
        """The confidence of a PAC threshold; None for the marginal guarantee."""
        return self.level if self.guarantee == "pac" else None

    @property
    def takes_confidence(self) -> bool:
        return self.guarantee == "pac" or self.bounds_error

    @property
    def bounds_error(self) -> bool:
        return self.max_error != NONE

    @property
    def promises_labels(self) -> bool:
        """Whether the calibration images have to be labelled."""
        return self.bounds_error or bool(self.prediction_sets)

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

    def for_task(self, task: Task) -> GateOptions:
        """These, with the default score of a model's task: `energy`, of several labels `joint_energy`, and without classes
        `nan`, or what is best of what is fitted.

        Raises:
            ExportError: options of classes, for a model without.
        """
        if task == "unlabelled":
            wanted = {
                "--class-conditional": self.class_conditional,
                "--max-error": self.bounds_error,
                "--prediction-sets": bool(self.prediction_sets),
                "--temperature": self.temperature is not None,
            }
            if given := [option for option, value in wanted.items() if value]:
                raise ExportError(
                    f"{given[0]} is for models with classes; this one is unlabelled, a gate and nothing else"
                )
        if self.score != DEFAULT:
            return self
        defaults = {"multiclass": "energy", "multilabel": "joint_energy", "unlabelled": AUTO if self.fit else "nan"}
        return dataclasses.replace(self, score=defaults[task])

    def check(self, scores: Sequence[str], task: Task = "multiclass") -> None:
        """
        Raises:
            ExportError: options that don't go with each other or with the `scores` that a model of a task has.
            CalibrationError: alpha is no share.
        """
        conformal.check_share("alpha", self.alpha)
        for option, value, known in (
            ("--guarantee", self.guarantee, get_args(Guarantee)),
            ("--merge", self.merging, get_args(MergeMethod)),
        ):
            if value not in known:
                raise ExportError(f"{option} must be one of {', '.join(known)}, found {value}")
        for part in self.parts:
            if part not in (*scores, DEFAULT) and not self.chooses_score:
                raise ExportError(f"unknown score {part!r}; there are {', '.join(scores)}, and {AUTO}")
        if len(set(self.parts)) != len(self.parts):
            raise ExportError(f"--score {self.score}: merges a score with itself; name each once")
        if self.chooses_temperature and "energy" not in scores and task != "unlabelled":
            raise ExportError("a temperature is chosen for the energy score, which this graph does not have")
        if self.fit and self.score not in (AUTO, DEFAULT):
            raise ExportError(f"--fit goes with --score {AUTO}; python -m export.fit adds detectors of your choice")
        if self.aux and not self.chooses:
            raise ExportError(f"--aux goes with --score {AUTO} or --temperature {AUTO}: there is nothing to choose")
        if self.select != CONFIDENCE and not self.bounds_error:
            raise ExportError("--select goes with --max-error: there is nothing to select for")
        if self.select not in (*scores, CONFIDENCE, *(["+".join(self.parts)] if self.merges else [])):
            raise ExportError(f"--select {self.select}: unknown score; there are {', '.join(scores)}, and {CONFIDENCE}")
        if not 0 < self.level < 1:
            raise ExportError(f"--confidence must be between 0 and 1, found {self.level:g}")
        if self.confidence is not None and not self.takes_confidence:
            raise ExportError("--confidence goes with --guarantee pac or --max-error: a marginal guarantee has none")
        if self.merge is not None and not self.merges:
            raise ExportError(
                "--merge goes with --score A+B: a single score has nothing to merge, and auto tries every way"
            )
