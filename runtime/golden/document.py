"""``golden/golden.json``: the bundle's golden images, and what is right for each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runtime import schema
from runtime.bundle import MODEL, Bundle
from runtime.exceptions import BundleError
from runtime.manifest import Calibrator, Precision

FOLDER = "golden"
GOLDEN = f"{FOLDER}/golden.json"
FORMAT = 1


@dataclass(frozen=True)
class GoldenImage:
    """One image, and what each stage makes of it. Hashes are SHA-256, in hexadecimal, of uint8 RGB, row by row.

    Attributes:
        file: its name in ``golden/``.
        width, height: of the decoded image, upright, in pixels.
        decoded: hash of its pixels, opaque and before it is resized.
        pixels: hash at the model's size.
        mean: grey levels of R, G and B at the model's size, to say how far other pixels are off.
        logits: (K,); None for a model without. A number that is not finite is None.
        scores: by name, as the manifest orders them; likewise.
        decision: at the operating point of the document.
        class_index: the most probable class; None for a model without logits.
        label: its name where the image is accepted.
    """

    file: str
    width: int
    height: int
    decoded: str
    pixels: str
    mean: tuple[float, float, float]
    logits: tuple[float | None, ...] | None
    scores: dict[str, float | None]
    decision: Literal["accept", "reject"]
    class_index: int | None
    label: str | None


@dataclass(frozen=True)
class Golden:
    """All golden images of a bundle.

    Attributes:
        model: SHA-256 of the model.onnx that computed the outputs.
        engine, precision, machine_flags: what it ran on, as in the manifest's `numerics`.
        alpha: the operating point of the decisions, the bundle's default.
        images: in the order of the work: first the one that needs no resize.
        format: of this document.
    """

    model: str
    engine: Calibrator
    precision: Precision
    machine_flags: tuple[str, ...]
    alpha: float
    images: tuple[GoldenImage, ...]
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format: expected {FORMAT}, found {self.format}")
        if not self.images:
            raise ValueError("images: expected at least one")

    def to_json(self) -> str:
        """The document."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Golden:
        """Read and validate.

        Raises:
            ValueError: naming the field, what was expected and what was found.
        """
        document: Any = json.loads(text)
        return schema.build(cls, document)


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of uint8 [H, W, 3], row by row."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def read(bundle: Bundle) -> Golden | None:
    """A bundle's golden images; None for one that has none, as earlier versions wrote it or one without a threshold.

    Raises:
        BundleError: the document is damaged, or of another model.onnx or operating point than the bundle's.
    """
    if GOLDEN not in bundle.manifest.files:
        return None
    file = bundle.path / GOLDEN
    try:
        golden = Golden.from_json(bundle.read(GOLDEN))
    except ValueError as error:
        raise BundleError(file, f"{error}; write the golden images again: oodgate pipeline BUNDLE") from error
    gate = bundle.manifest.gate
    own = (bundle.manifest.files[MODEL].sha256, gate.alpha if gate else None)
    if (golden.model, golden.alpha) != own:
        found = f"of {MODEL} {golden.model[:16]}.. at alpha {golden.alpha:g}"
        raise BundleError(file, f"{found}, and the bundle has {own[0][:16]}.. at {own[1]}; run oodgate pipeline BUNDLE")
    if missing := [image.file for image in golden.images if f"{FOLDER}/{image.file}" not in bundle.manifest.files]:
        raise BundleError(file, f"{missing[0]} is not one of the bundle's files")
    return golden
