"""The gate: images in, decisions out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.bundle import MODEL, Bundle, read_manifest
from runtime.decision import Decision, GateScore, ModelRef, SelectionScore
from runtime.engines import selection
from runtime.engines.interface import Engine, EngineName, EngineOptions, Outputs
from runtime.exceptions import ImageError
from runtime.manifest import GateSpec, Manifest
from runtime.preprocess import Limits, preprocess, preprocess_image
from runtime.rule import Rule, predicted, probabilities

MAX_BATCH = 64

# An operating point, or one for each image; None for the one in use.
Alphas = float | Sequence[float | None] | None
# A file's bytes or path, or what PIL made of it.
Photograph = bytes | str | os.PathLike[str] | Image.Image


class Gate:
    """A verified, calibrated bundle on an engine, deciding accept or reject.

    It fails closed: without a threshold it can't be made, a score that is not finite rejects, and a batch that
    fails raises.

    Args:
        bundle: a calibrated bundle.
        engine: its graph, loaded.
        limits: bounds on one image file.
        alpha: one of the bundle's operating points; its default one otherwise.

    Attributes:
        spec: the gate at the operating point in use.

    Raises:
        GraphMismatch: the engine's graph is not the one that the manifest describes.
        NotCalibrated: the bundle has no threshold.
        UnknownOperatingPoint: none is stored for `alpha`.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, limits: Limits | None = None, *, alpha: float | None = None
    ) -> None:
        bundle.check_graph(engine.signature)
        manifest, default = bundle.manifest, bundle.gate()
        self.spec: GateSpec = bundle.gate(alpha)
        self.bundle = bundle
        self.engine = engine
        self.limits = limits or Limits()
        points = {point: default.at(point) for point in default.alphas}
        self._rules = {point: Rule(manifest.labels, manifest.scores, gate) for point, gate in points.items()}
        self._sets = {
            self._rules[point]: {one.coverage: one.threshold for one in gate.sets} for point, gate in points.items()
        }
        self._sealed = self._rules[default.alpha]
        self._temperature = manifest.confidence.temperature if manifest.confidence else 1.0
        self._manifest = dataclasses.replace(manifest, gate=self.spec)
        self._model = ModelRef(manifest.model.name, manifest.files[MODEL].sha256)

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

    @property
    def rule(self) -> Rule:
        """The decision at the operating point in use."""
        return self._rules[self.spec.alpha]

    @property
    def alphas(self) -> tuple[float, ...]:
        """The bundle's operating points, ascending."""
        return self.spec.alphas

    def decide(self, images: npt.NDArray[np.uint8] | Iterable[Photograph], *, alpha: Alphas = None) -> list[Decision]:
        """Decide on any number of images, in batches of at most 64.

        Args:
            images: uint8 [N, H, W, 3], RGB, at the model's size; or image files, as bytes or as paths, and PIL images, whose
                pixels are brought to the model's size as a file's are.
            alpha: one of the bundle's operating points, or one for each image; None for the one in use.

        Returns:
            one decision an image, in order.

        Raises:
            ImageError: a file that is no usable image.
            EngineError: a batch failed.
            OSError: a path that can't be read.
            UnknownOperatingPoint: none is stored for `alpha`.
            ValueError: an array of another shape or type, or not one alpha an image.
        """
        pixels = self._pixels(images)
        rules = self._asked(alpha, len(pixels))
        decisions: list[Decision] = []
        for start in range(0, len(pixels), MAX_BATCH):
            batch = slice(start, start + MAX_BATCH)
            decisions += self._decide(self.run(pixels[batch]), rules[batch])
        return decisions

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """Run one batch, and check that the graph decides as the bundle's rule does.

        Args:
            images: uint8 [N, H, W, 3], RGB, at the model's size.

        Returns:
            the engine's outputs, `accept` being what the rule says at the bundle's default operating point.

        Raises:
            EngineError: the batch failed, or the graph's ``accept`` is not what follows from its scores.
        """
        outputs = self.engine.run(images)
        return dataclasses.replace(outputs, accept=self._sealed.verified(outputs))

    def decisions(self, outputs: Outputs, *, alpha: Alphas = None) -> list[Decision]:
        """The decisions that follow from the outputs of :meth:`run`; `alpha` and errors as of :meth:`decide`."""
        return self._decide(outputs, self._asked(alpha, len(outputs.scores)))

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

    def _pixels(self, images: npt.NDArray[np.uint8] | Iterable[Photograph]) -> npt.NDArray[np.uint8]:
        """Images as an array at the model's size."""
        spec = self._manifest.input
        shape = (spec.height, spec.width, 3)
        if isinstance(images, (bytes, str, os.PathLike, Image.Image)):
            raise TypeError("decide takes a sequence of images: put the one image into a list")
        if not isinstance(images, np.ndarray):
            each = [self._fitted(item) for item in images]
            images = np.stack(each) if each else np.empty((0, *shape), np.uint8)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(
                f"expected images uint8 [N, {', '.join(map(str, shape))}], found {images.dtype} {list(images.shape)}"
            )
        return images

    def _fitted(self, image: Photograph) -> npt.NDArray[np.uint8]:
        """One image at the model's size."""
        if isinstance(image, Image.Image):
            return preprocess_image(image, self._manifest.input, self.limits)
        if isinstance(image, bytes):
            return self.preprocess(image)
        if isinstance(image, (str, os.PathLike)):
            return self.preprocess(Path(image).read_bytes())
        found = type(image).__name__
        raise TypeError(f"expected files as bytes or paths, PIL images, or one array of all; found a list of {found}")

    def _asked(self, alpha: Alphas, n: int) -> list[Rule]:
        """The rule of each of n images."""
        if alpha is None or isinstance(alpha, (int, float)):
            return [self._rule(alpha)] * n
        if len(alpha) != n:
            raise ValueError(f"expected one alpha for each of {n} images, found {len(alpha)}")
        return [self._rule(each) for each in alpha]

    def _rule(self, alpha: float | None) -> Rule:
        return self.rule if alpha is None else self._rules[self.spec.at(alpha).alpha]

    def _decide(self, outputs: Outputs, rules: Sequence[Rule]) -> list[Decision]:
        reported = probabilities(outputs.logits, self._temperature, self._manifest.task == "multilabel")
        classes = predicted(outputs.logits)
        accepts = {rule: self._accepts(rule, outputs).tolist() for rule in set(rules)}
        known = {rule: self._known(rule, outputs, accepted) for rule, accepted in accepts.items()}
        limits = {rule: rule.thresholds(classes).tolist() for rule in accepts}
        decisions = []
        for i, (rule, top, scores) in enumerate(zip(rules, classes.tolist(), outputs.scores.tolist(), strict=True)):
            value = scores[rule.column]
            score = GateScore(self.spec.score, value, limits[rule][i], rule.p_value(value, top))
            verdict = accepts[rule][i], known[rule][i]
            decisions.append(self._decision(rule, verdict, top, reported[i], scores, score))
        return decisions

    def _accepts(self, rule: Rule, outputs: Outputs) -> npt.NDArray[np.bool_]:
        if rule is self._sealed and outputs.accept is not None:
            return outputs.accept
        return rule.accepts(outputs.logits, outputs.scores)

    @staticmethod
    def _known(rule: Rule, outputs: Outputs, accepts: list[bool]) -> list[bool]:
        """Whether the gate lets each image pass; where nothing else can refuse it, that is whether it is accepted."""
        if rule.selects is None:
            return accepts
        known: list[bool] = rule.known(outputs.logits, outputs.scores).tolist()
        return known

    def _decision(
        self,
        rule: Rule,
        verdict: tuple[bool, bool],
        top: int,
        probabilities: npt.NDArray[np.float64],
        scores: list[float],
        score: GateScore,
    ) -> Decision:
        names = self._manifest.labels
        (accept, known), labels, selection = verdict, None, None
        if self._manifest.task == "multilabel":
            labels = tuple(names[k] for k in np.flatnonzero(probabilities >= 0.5)) if accept else ()
        if rule.selects is not None:
            selection = SelectionScore(self._manifest.scores[rule.selects], scores[rule.selects], float(rule.least))
        return Decision(
            decision="accept" if accept else "reject",
            label=names[top] if accept and names else None,
            class_index=top if names else None,
            confidence=float(probabilities[top]) if names else None,
            score=score,
            scores=dict(zip(self._manifest.scores, scores, strict=True)),
            model=self._model,
            labels=labels,
            selection=selection,
            uncertain=known and not accept,
            probabilities=probabilities,
            set_thresholds=self._sets[rule],
        )


def load_calibrated(path: str | Path, *, threads: int = 0) -> Gate:
    """The bundle at `path` on the engine that its gate was calibrated on, which figures are to be of.

    Raises:
        as :meth:`Gate.load`.
    """
    numerics = read_manifest(Path(path)).model.numerics
    return Gate.load(path, engine=numerics.engine if numerics else "onnxruntime-cpu", threads=threads)


def load_engine(bundle: Bundle, *, threads: int = 0) -> Engine:
    """ONNX Runtime on the CPU for a bundle's graph.

    Raises:
        GraphMismatch: model.onnx does not load.
    """
    return selection.load(bundle, EngineOptions("onnxruntime-cpu", threads))
