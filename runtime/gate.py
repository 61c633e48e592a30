"""The gate: images in, decisions out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime import conformal
from runtime.bundle import MANIFEST, MODEL, Bundle
from runtime.decision import Decision, GateScore, ModelRef
from runtime.engines.interface import Engine, Outputs
from runtime.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError, GraphMismatch, ImageError, NotCalibrated
from runtime.manifest import Manifest
from runtime.preprocess import Limits, preprocess

MAX_BATCH = 64


class Gate:
    """A verified, calibrated bundle on an engine, deciding accept or reject.

    It fails closed: without a threshold it can't be made, a score that is not finite rejects, and a batch that
    fails raises.

    Args:
        bundle: a calibrated bundle.
        engine: its graph, loaded.
        limits: bounds on one image file.

    Raises:
        GraphMismatch: the engine's graph is not the one that the manifest describes.
        NotCalibrated: the bundle has no threshold.
    """

    def __init__(self, bundle: Bundle, engine: Engine, limits: Limits | None = None) -> None:
        bundle.check_graph(engine.signature)
        gate, calibration = bundle.manifest.gate, bundle.manifest.calibration
        if gate is None or calibration is None:
            raise NotCalibrated(
                bundle.path / MANIFEST, "no threshold yet: run python -m export.calibrate BUNDLE DIR|TAR"
            )
        self.bundle = bundle
        self.engine = engine
        self.limits = limits or Limits()
        self._gate = gate
        self._column = self.manifest.scores.index(gate.score)
        self._ranks = np.array(calibration.ranks)
        self._quantiles = np.array(calibration.quantiles[gate.score], dtype=np.float32)
        self._model = ModelRef(self.manifest.model.name, self.manifest.files[MODEL].sha256)

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 0, limits: Limits | None = None) -> Gate:
        """Load and verify the bundle at `path`, on ONNX Runtime's CPU engine.

        Args:
            path: the directory of a bundle.
            threads: threads of the engine; 0 takes one for each physical core.
            limits: bounds on one image file.

        Raises:
            BundleError: one of its subclasses, naming the file at fault.
        """
        bundle = Bundle.load(path)
        return cls(bundle, load_engine(bundle, threads=threads), limits)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    def decide(self, images: npt.NDArray[np.uint8] | Iterable[bytes | str | Path]) -> list[Decision]:
        """Decide on any number of images, in batches of at most 64.

        Args:
            images: uint8 [N, H, W, 3], RGB, at the model's size; or image files, as bytes or as paths.

        Returns:
            one decision an image, in order.

        Raises:
            ImageError: a file that is no usable image.
            EngineError: a batch failed.
            OSError: a path that can't be read.
            ValueError: an array of another shape or type.
        """
        spec = self.manifest.input
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
            decision for batch in batches for decision in self._decide(self.engine.run(batch, self._gate.threshold))
        ]

    def decide_each(self, images: Sequence[bytes]) -> list[Decision | ImageError]:
        """Decide on image files; one that is no usable image gets its error and spoils no other.

        Raises:
            EngineError: a batch failed.
        """
        return self.decide_usable([self.try_preprocess(data) for data in images])

    def decide_usable(self, images: Sequence[npt.NDArray[np.uint8] | ImageError]) -> list[Decision | ImageError]:
        """Decide on the arrays of :meth:`try_preprocess` in one go, and hand its errors through."""
        usable = [image for image in images if not isinstance(image, ImageError)]
        decisions = iter(self.decide(np.stack(usable)) if usable else [])
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

    def _decide(self, outputs: Outputs) -> list[Decision]:
        scores = outputs.scores
        probabilities = _probabilities(outputs.logits, self.manifest.task == "multilabel")
        accept = outputs.accept & (scores[:, self._column] >= np.float32(self._gate.threshold))
        accept &= np.isfinite(scores).all(axis=1) & np.isfinite(probabilities).all(axis=1)
        p_values = conformal.p_values(scores[:, self._column], self._ranks, self._quantiles)
        classes = outputs.logits.argmax(axis=1)
        return [
            self._decision(bool(accept[i]), int(classes[i]), probabilities[i], scores[i].tolist(), float(p_values[i]))
            for i in range(len(scores))
        ]

    def _decision(
        self, accept: bool, top: int, probabilities: npt.NDArray[np.float64], scores: list[float], p_value: float
    ) -> Decision:
        names = self.manifest.labels
        labels = None
        if self.manifest.task == "multilabel":
            labels = tuple(names[k] for k in np.flatnonzero(probabilities >= 0.5)) if accept else ()
        return Decision(
            decision="accept" if accept else "reject",
            label=names[top] if accept else None,
            class_index=top,
            confidence=float(probabilities[top]),
            score=GateScore(self._gate.score, scores[self._column], self._gate.threshold, p_value),
            scores=dict(zip(self.manifest.scores, scores, strict=True)),
            model=self._model,
            labels=labels,
        )


def load_engine(bundle: Bundle, *, threads: int = 0) -> Engine:
    """The engine for a bundle's graph.

    Raises:
        GraphMismatch: model.onnx does not load.
    """
    try:
        return OnnxRuntimeCpu(bundle.model, threads)
    except EngineError as error:
        raise GraphMismatch(bundle.path / MODEL, str(error)) from error


def _probabilities(logits: npt.NDArray[np.float32], multilabel: bool) -> npt.NDArray[np.float64]:
    """Softmax, or a sigmoid a label, of (N, K)."""
    f = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite logits become NaN here, and their image is rejected
        if multilabel:
            return np.asarray(np.exp(-np.logaddexp(0, -f)))
        exponentials = np.exp(f - f.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
