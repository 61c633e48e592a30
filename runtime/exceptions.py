"""The errors a user of the runtime can meet.

OodgateError                    every error that is the user's to mend; its text says what to do
├── ImageError                  the bytes of one image; `code` is the HTTP error code
│   ├── EmptyImage              no bytes at all
│   ├── NotAnImage              no accepted image format recognised
│   ├── UnsupportedImage        an image whose pixels have no RGB meaning
│   ├── UndecodableImage        truncated or damaged
│   └── ImageTooLarge           over the limit on bytes or on pixels
├── BundleError                 a file of a bundle; `path` names it
│   ├── BundleNotFound
│   ├── ManifestInvalid         not JSON, unknown schema version, wrong field
│   ├── FileDamaged             size or hash is not the manifest's
│   ├── GraphMismatch           inputs, outputs or embedded manifest are not the manifest's
│   └── NotCalibrated           no threshold yet
├── CalibrationError            calibration scores from which no threshold follows
├── UnknownOperatingPoint       an alpha, or a coverage of label sets, for which no threshold is stored
└── EngineError                 the engine could not be made, or a batch failed in it
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class OodgateError(Exception):
    """Base of all errors that a user can cause and mend."""


class ImageError(OodgateError):
    """One image's bytes can't be classified."""

    code: ClassVar[str] = "image_error"


class EmptyImage(ImageError):
    """No bytes."""

    code = "empty_image"


class NotAnImage(ImageError):
    """Not one of the accepted formats, whatever the name or content type says."""

    code = "not_an_image"


class UnsupportedImage(ImageError):
    """An accepted container with pixels that have no RGB meaning (32-bit float TIFF)."""

    code = "unsupported_image"


class UndecodableImage(ImageError):
    """The right format, but truncated or damaged."""

    code = "undecodable_image"


class ImageTooLarge(ImageError):
    """More bytes or pixels than the limit; found before any pixel is decoded."""

    code = "image_too_large"


class BundleError(OodgateError):
    """A bundle that must not be served. `path` is the file at fault."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class BundleNotFound(BundleError):
    """A file that a bundle needs is not there."""


class ManifestInvalid(BundleError):
    """manifest.json is not a manifest of this schema version."""


class FileDamaged(BundleError):
    """A file's size or SHA-256 is not what the manifest says."""


class GraphMismatch(BundleError):
    """model.onnx does not load, or is not the graph that the manifest describes."""


class NotCalibrated(BundleError):
    """The bundle has no threshold, so it can decide nothing."""


class CalibrationError(OodgateError):
    """Too few, or unusable, calibration scores."""


class UnknownOperatingPoint(OodgateError):
    """The bundle has no threshold for this alpha, or this coverage of label sets; the text lists those that it has."""


class EngineError(OodgateError):
    """The inference engine could not be created, or a batch failed."""
