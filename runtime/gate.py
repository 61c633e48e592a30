"""The gate: images in, decisions out."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.bundle import MANIFEST, MODEL, Bundle
from runtime.decision import Decision, GateScore, ModelRef
from runtime.engines import selection
from runtime.engines.interface import Engine, Outputs
from runtime.engines.options import EngineName, EngineOptions
from runtime.exceptions import ImageError, NotCalibrated
from runtime.manifest import Manifest
from runtime.preprocess import Limits, preprocess
from runtime.rule import Rule

MAX_BATCH = 64


class Gate:
    """A verified, calibrated bundle on an engine, deciding accept or reject.

    It fails closed: without a threshold it can't be made, a score that is not finite rejects, and a batch that
    fails raises.

    Args:
        bundle: a calibrated bundle.
        engine: its graph, loaded.
        limits: bounds on one image file.
        alpha: one of the bundle's operating points; its default one otherwise.

    Raises:
        GraphMismatch: the engine's graph is not the one that the manifest describes.
        NotCalibrated: the bundle has no threshold.
        UnknownOperatingPoint: none is stored for `alpha`.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, limits: Limits | None = None, *, alpha: float | None = None
    ) -> None:
        bundle.check_graph(engine.signature)
        gate, calibration = bundle.manifest.gate, bundle.manifest.calibration
        if gate is None or calibration is None:
            raise NotCalibrated(
                bundle.path / MANIFEST, "no threshold yet: run python -m export.calibrate BUNDLE DIR|TAR"
            )
        self.bundle = bundle
        self.engine = engine
        self.limits = limits or Limits()
        self._gate = gate if alpha is None else gate.at(alpha)
        self._rules = {point: Rule(bundle.manifest.labels, gate.at(point), calibration) for point in gate.alphas}
        self._column = bundle.manifest.scores.index(gate.score)
        self._temperature = bundle.manifest.confidence.temperature if bundle.manifest.confidence else 1.0
        self._manifest = dataclasses.replace(bundle.manifest, gate=self._gate)
        self._model = ModelRef(self.manifest.model.name, self.manifest.files[MODEL].sha256)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        engine: EngineName = "auto",
        threads: int = 0,
        cache: Path | None = None,
        limits: Limits | None = None,
        alpha: float | None = None,
    ) -> Gate:
        """Load and verify the bundle at `path`, ready to decide: whatever an engine has to build is built here.

        Args:
            path: the directory of a bundle.
            engine: what runs its graph; ``auto`` takes the best that works here, and logs which and why. One that is
                named runs, or is an error.
            threads: threads of the engine on the CPU; 0 takes one for each physical core.
            cache: folder for what an engine builds at start-up; ``~/.cache/oodgate`` otherwise.
            limits: bounds on one image file.
            alpha: one of the bundle's operating points; its default one otherwise.

        Raises:
            BundleError: one of its subclasses, naming the file at fault.
            EngineError: the engine that is named can't run here.
            UnknownOperatingPoint: none is stored for `alpha`.
        """
        bundle = Bundle.load(path)
        options = EngineOptions(engine, threads) if cache is None else EngineOptions(engine, threads, cache)
        return cls(bundle, selection.load(bundle, options), limits, alpha=alpha)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself, with the gate at the operating point in use."""
        return self._manifest

    def at(self, alpha: float) -> Gate:
        """The same gate with another of its operating points as the default, on the same engine.

        Raises:
            UnknownOperatingPoint: none is stored for `alpha`.
        """
        other = copy.copy(self)
        other._gate = self._gate.at(alpha)
        other._manifest = dataclasses.replace(self._manifest, gate=other._gate)
        return other

    def verdict(self, decision: Decision) -> tuple[bool, float]:
        """What this gate says of an image that it decided on at another operating point: without the engine.

        Returns:
            whether the image is rejected, and its p-value.
        """
        rule = self._rules[self._gate.alpha]
        value, classes = np.array([decision.score.value], np.float32), np.array([decision.class_index])
        numbers = (decision.confidence, *decision.scores.values())
        accept = bool(value[0] >= rule.thresholds(classes)[0]) and all(map(math.isfinite, numbers))
        return not accept, rule.p_value(decision.score.value, decision.class_index)

    def decide(
        self, images: npt.NDArray[np.uint8] | Iterable[bytes | str | Path], *, alpha: float | None = None
    ) -> list[Decision]:
        """Decide on any number of images, in batches of at most 64.

        Args:
            images: uint8 [N, H, W, 3], RGB, at the model's size; or image files, as bytes or as paths.
            alpha: the operating point of this call, one of the bundle's.

        Returns:
            one decision an image, in order.

        Raises:
            ImageError: a file that is no usable image.
            EngineError: a batch failed.
            OSError: a path that can't be read.
            UnknownOperatingPoint: none is stored for `alpha`.
            ValueError: an array of another shape or type.
        """
        rule = self._rules[(self._gate if alpha is None else self._gate.at(alpha)).alpha]
        spec = self._manifest.input
        shape = (spec.height, spec.width, 3)
        if isinstance(images, (bytes, str, Path)):
            raise TypeError("decide takes a sequence of images: put the one image into a list")
        if not isinstance(images, np.ndarray):
            files = [item if isinstance(item, bytes) else Path(item).read_bytes() for item in images]
            images = np.stack([self.preprocess(data) for data in files]) if files else np.empty((0, *shape), np.uint8)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(
                f"expected images uint8 [N, {', '.join(map(str, shape))}], found {images.dtype} {list(images.shape)}"
            )
        batches = (images[start : start + MAX_BATCH] for start in range(0, len(images), MAX_BATCH))
        return [
            decision for batch in batches for decision in self._decide(self.engine.run(batch, rule.threshold), rule)
        ]

    def decide_each(self, images: Sequence[bytes], *, alpha: float | None = None) -> list[Decision | ImageError]:
        """Decide on image files; one that is no usable image gets its error and spoils no other.

        Raises:
            EngineError: a batch failed.
            UnknownOperatingPoint: none is stored for `alpha`.
        """
        return self.decide_usable([self.try_preprocess(data) for data in images], alpha=alpha)

    def decide_usable(
        self, images: Sequence[npt.NDArray[np.uint8] | ImageError], *, alpha: float | None = None
    ) -> list[Decision | ImageError]:
        """Decide on the arrays of :meth:`try_preprocess` in one go, and hand its errors through."""
        usable = [image for image in images if not isinstance(image, ImageError)]
        decisions = iter(self.decide(np.stack(usable), alpha=alpha) if usable else [])
        return [image if isinstance(image, ImageError) else next(decisions) for image in images]

    def try_preprocess(self, data: bytes) -> npt.NDArray[np.uint8] | ImageError:
        """:meth:`preprocess`, with the error of an unusable image returned."""
        try:
            return self.preprocess(data)
        except ImageError as error:
            return error

    def preprocess(self, data: bytes) -> npt.NDArray[np.uint8]:
        """An image file's bytes as uint8 [H, W, 3] at the model's size (:func:`runtime.preprocess.preprocess`)."""
        return preprocess(data, self.manifest.input, self.limits)

    def warm_up(self) -> None:
        """Run one batch, so that the first request does not pay for lazy initialisation.

        Raises:
            EngineError: the engine does not answer.
        """
        spec = self.manifest.input
        self.decide(np.zeros((1, spec.height, spec.width, 3), dtype=np.uint8))

    def _decide(self, outputs: Outputs, rule: Rule) -> list[Decision]:
        probabilities = _probabilities(outputs.logits, self._temperature, self._manifest.task == "multilabel")
        classes = outputs.logits.argmax(axis=1)
        numbers = (outputs.accept, classes, outputs.scores, rule.thresholds(classes))
        decisions = []
        for row, *image in zip(probabilities, *(array.tolist() for array in numbers), strict=True):
            accept, top, scores, threshold = image
            value = scores[self._column]
            score = GateScore(self._gate.score, value, threshold, rule.p_value(value, top))
            # The probability of the top class is NaN where any logit is NaN or the largest is infinite.
            finite = math.isfinite(row[top]) and all(map(math.isfinite, scores))
            accept = accept and value >= threshold and finite
            decisions.append(self._decision(accept, top, row, scores, score))
        return decisions

    def _decision(
        self, accept: bool, top: int, probabilities: npt.NDArray[np.float64], scores: list[float], score: GateScore
    ) -> Decision:
        names = self._manifest.labels
        labels = None
        if self._manifest.task == "multilabel":
            labels = tuple(names[k] for k in np.flatnonzero(probabilities >= 0.5)) if accept else ()
        return Decision(
            decision="accept" if accept else "reject",
            label=names[top] if accept else None,
            class_index=top,
            confidence=float(probabilities[top]),
            score=score,
            scores=dict(zip(self._manifest.scores, scores, strict=True)),
            model=self._model,
            labels=labels,
            probabilities=probabilities,
        )


def load_engine(bundle: Bundle, *, threads: int = 0) -> Engine:
    """The engine for a bundle's graph on the CPU.

    Raises:
        GraphMismatch: model.onnx does not load.
    """
    return selection.load(bundle, EngineOptions("onnxruntime-cpu", threads))


def _probabilities(logits: npt.NDArray[np.float32], temperature: float, multilabel: bool) -> npt.NDArray[np.float64]:
    """Softmax, or a sigmoid a label, of f / T (N, K)."""
    f = np.divide(logits, temperature, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinite logits become NaN here, and their image is rejected
        if multilabel:
            return np.asarray(np.exp(-np.logaddexp(0, -f)))
        exponentials = np.exp(f - f.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
