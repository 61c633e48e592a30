"""Golden images against a running service: what it answers to files and to pixels tells its stages apart.

Pixels sent as they should be leave network, scores and rule; the file has decode and resize before them; and the decoded
image sent as a plain PNG the resize alone. All three go to the one engine, so that their differences are no rounding.
"""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, get_args
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.bundle import MODEL, Bundle
from runtime.engines.interface import EngineName
from runtime.engines.selection import GPU_ENGINES
from runtime.engines.tolerance import REPEATED, difference, tolerance
from runtime.exceptions import OodgateError
from runtime.golden.document import FOLDER, Golden, GoldenImage
from runtime.golden.replay import Expected, Fault, Report, Stage, brought
from runtime.manifest import Precision
from runtime.preprocess import decoded
from runtime.rule import probabilities

_LENGTH = "Inference-Header-Content-Length"
_SECONDS = 60.0
_SHOWN = 200  # characters of an answer


@dataclass(frozen=True)
class Answer:
    """What a service says of one image.

    Attributes:
        scores: float32 (S,), NaN where one is null.
        confidence: of the most probable class; NaN where there is none.
        accepted, label: the decision.
    """

    scores: npt.NDArray[np.float32]
    confidence: float
    accepted: bool
    label: str | None


@dataclass(frozen=True)
class Service:
    """A running service.

    Args:
        url: its address, such as ``http://localhost:3000``.
        key: an API key; None where it asks for none.
        alpha: the operating point to ask for.
    """

    url: str
    key: str | None
    alpha: float

    def model(self) -> dict[str, Any]:
        """What it says of its model."""
        return self._ask("/model")

    def classify(self, file: bytes) -> Answer:
        """An image file's decision."""
        found = self._ask(f"/classify?alpha={self.alpha!r}", file, {"Content-Type": "application/octet-stream"})
        scores = np.array(list(found["scores"].values()), dtype=np.float32)  # null becomes NaN
        return Answer(scores, _number(found.get("confidence")), found["decision"] == "accept", found.get("label"))

    def infer(self, name: str, pixels: npt.NDArray[np.uint8]) -> Answer:
        """The decision on uint8 [H, W, 3] at the model's size, by the Open Inference Protocol."""
        parameters = {"binary_data_size": pixels.size}
        tensor = {"name": "images", "datatype": "UINT8", "shape": [1, *pixels.shape], "parameters": parameters}
        header = json.dumps({"inputs": [tensor]}).encode()
        path = f"/v2/models/{quote(name, safe='')}/infer?alpha={self.alpha!r}"
        found = self._ask(path, header + pixels.tobytes(), {_LENGTH: str(len(header))})
        outputs = {output["name"]: output["data"] for output in found["outputs"]}
        scores = np.array(outputs["scores"], dtype=np.float32)
        label, confidence = (outputs.get(name, [None])[0] for name in ("label", "confidence"))
        return Answer(scores, _number(confidence), bool(outputs["accept"][0]), label or None)

    def _ask(self, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        keyed = {"X-API-Key": self.key} if self.key else {}
        request = urllib.request.Request(self.url.rstrip("/") + path, data, {**(headers or {}), **keyed})
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:_SHOWN]
            raise OodgateError(f"{self.url}{path.partition('?')[0]} answers {error.code}: {text}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise OodgateError(f"{self.url} can't be asked: {reason}; is it an oodgate service?") from error
        if not isinstance(found, dict):
            raise OodgateError(f"{self.url}{path.partition('?')[0]} answers no object; is it an oodgate service?")
        return found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def replay(bundle: Bundle, golden: Golden, url: str, key: str | None = None) -> Report:
    """Replay a bundle's golden images against a service that serves it.

    Args:
        bundle: what it should serve.
        golden: the bundle's golden images.
        url: of the service.
        key: an API key.

    Raises:
        OodgateError: it does not answer, or serves another model.onnx; or decode or resize are wrong on this machine,
            which then can't tell of another.
    """
    start = perf_counter()
    service = Service(url, key, golden.alpha)
    precision, engine = _served(service.model(), bundle, url)
    expected = Expected.of(golden, bundle.manifest, tolerance(precision, gpu=engine in GPU_ENGINES))
    faults, scores = [], dict.fromkeys(bundle.manifest.scores, 0.0)
    for row, image in enumerate(golden.images):
        pixels = brought(bundle, image)
        if isinstance(pixels, Fault):
            raise OodgateError(f"this machine can't tell: {pixels}")
        direct = service.infer(bundle.manifest.model.name, pixels)
        found = expected.score_differences(direct.scores, row)
        scores = {name: max(scores[name], found[name]) for name in scores}
        fault = _pixels_fault(expected, direct, row) or _file_fault(service, bundle, expected, image, direct)
        if fault:
            faults.append(Fault(image.file, *fault))
    taken = (perf_counter() - start) * 1000
    on = f"{url} on {engine}"
    return Report(on, len(golden.images), expected.allowed, None, scores, tuple(faults), taken)


def _served(model: Mapping[str, Any], bundle: Bundle, url: str) -> tuple[Precision, str]:
    """In which precision it is served, and on which engine, where the service serves this bundle."""
    wanted, found = bundle.manifest.files[MODEL].sha256, model.get("sha256")
    if found != wanted:
        raise OodgateError(
            f"{url} serves another model.onnx: {str(found)[:16]}.., and {bundle.path} has {wanted[:16]}.."
        )
    told, engine = model.get("engine_precision"), model.get("engine")
    precision: Precision | None = next((known for known in get_args(Precision) if known == told), None)
    if precision is None or engine not in get_args(EngineName):
        raise OodgateError(f"{url} runs {engine!r} in {told!r}, which this version does not know")
    return precision, str(engine)


def _pixels_fault(expected: Expected, found: Answer, row: int) -> tuple[Stage, str] | None:
    """What is wrong with the answer to the right pixels: the confidence tells of the network, as logits would."""
    image = expected.images[row]
    if figures := expected.scores_fault(found.scores, row):
        return ("network" if _other_confidence(expected, found, row) else "scores"), figures
    if figures := expected.rule_fault(found.accepted, found.label, row):
        return "rule", f"{image.file} as pixels: {figures}"
    return None


def _other_confidence(expected: Expected, found: Answer, row: int) -> bool:
    """Whether the confidence is not that of the expected logits, by more than their tolerance explains."""
    manifest, confidence = expected.manifest, expected.manifest.confidence
    if expected.logits is None:
        return False
    logits = expected.logits[row : row + 1].astype(np.float32)
    reported = probabilities(logits, confidence.temperature if confidence else 1.0, manifest.task == "multilabel")
    return difference(np.array([found.confidence]), reported.max(axis=1), 1.0) > expected.allowed.logits * expected.unit


def _file_fault(
    service: Service, bundle: Bundle, expected: Expected, image: GoldenImage, direct: Answer
) -> tuple[Stage, str] | None:
    """What is wrong with the answer to the file, where the answer to its pixels is right."""
    data = bundle.read(f"{FOLDER}/{image.file}")
    found = service.classify(data)
    if figures := _apart(expected, found, direct):
        plain = service.classify(_plain(decoded(data, bundle.manifest.input)))
        return ("decode" if _apart(expected, plain, direct) is None else "resize"), figures
    if (found.accepted, found.label) != (direct.accepted, direct.label):
        row = expected.images.index(image)
        if figures := expected.rule_fault(found.accepted, found.label, row):
            return "rule", figures
    return None


def _apart(expected: Expected, found: Answer, direct: Answer) -> str | None:
    """How far the answers to a file and to its pixels are apart, in words; None where that is rounding."""
    gaps = {
        name: difference(found.scores[i : i + 1], direct.scores[i : i + 1], expected.units[i])
        for i, name in enumerate(expected.manifest.scores)
    }
    worst = max(gaps, key=lambda name: gaps[name])
    if gaps[worst] <= REPEATED.scores:
        return None
    column = expected.manifest.scores.index(worst)
    return (
        f"{worst} is {found.scores[column]:.6g} for the file, and {direct.scores[column]:.6g} for its pixels: "
        f"{gaps[worst]:.2%} of its largest value apart, {REPEATED.scores:.2%} is allowed"
    )


def _plain(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of nothing but RGB, which every decoder reads alike."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
