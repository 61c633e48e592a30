"""Whether a library's own transform makes of an image what the bundle does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.exceptions import ExportError
from runtime.manifest import InputSpec
from runtime.preprocess import fit

TOLERANCE = 2.0  # grey levels, of 255, by which two ways to round may differ
_TOLERANCE_OF_GREY = 3.0  # made before resizing, it is rounded once more than after it
_SIZES = ((320, 240), (240, 320), (500, 333), (97, 301), (256, 256))  # width and height


_IN_PYTHON = "describe the input by input=InputSpec(...)"


def check_agreement(
    run: Callable[[Image.Image], npt.NDArray[np.floating]], spec: InputSpec, what: str, advice: str = _IN_PYTHON
) -> float:
    """Run a transform on drawn images of several shapes, and compare what comes out with what the network will see.

    Args:
        run: an RGB image -> [C, H, W], normalised.
        spec: that was read off it.
        what: messages call it.
        advice: what to do where it differs.

    Returns:
        the largest difference, in grey levels of 0 to 255.

    Raises:
        ExportError: it fails, gives another shape, or differs by more than :data:`TOLERANCE`, or of grey by one
            level more.
    """
    differences = [_difference(run, spec, _drawn(size), what, advice) for size in _SIZES]
    worst = int(np.argmax(differences))
    if not differences[worst] <= (_TOLERANCE_OF_GREY if spec.channels == "grey" else TOLERANCE):
        raise ExportError(
            f"{what}: what it makes of an image of {'x'.join(map(str, _SIZES[worst]))} pixels differs from what was read "
            f"off it by up to {differences[worst]:.3g} of 255 grey levels; {advice}"
        )
    return differences[worst]


def normalised(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.float64]:
    """What the network of a bundle sees of an RGB image, [C, H, W]."""
    pixels = fit(image, spec)
    mean, std = np.array(spec.mean), np.array(spec.std)
    if spec.channels == "grey":
        pixels, mean, std = np.asarray(Image.fromarray(pixels).convert("L"))[..., None], mean[:1], std[:1]
    seen: npt.NDArray[np.float64] = ((pixels / 255 - mean) / std).transpose(2, 0, 1)
    if spec.channels == "rgba":
        return np.concatenate([seen, np.full((1, *seen.shape[1:]), spec.opaque)])
    return np.flip(seen, axis=0) if spec.channels == "bgr" else seen


def _difference(
    run: Callable[[Image.Image], npt.NDArray[np.floating]], spec: InputSpec, image: Image.Image, what: str, advice: str
) -> float:
    try:
        found = np.asarray(run(image), dtype=np.float64)
    except Exception as error:  # a foreign transform may raise anything
        raise ExportError(f"{what}: fails on an RGB image of PIL: {' '.join(str(error).split())[:300]}") from error
    expected = normalised(image, spec)
    if found.shape != expected.shape:
        raise ExportError(
            f"{what}: gives {list(found.shape)} of an image of {'x'.join(map(str, image.size))} pixels, expected "
            f"{list(expected.shape)}; {advice}"
        )
    std = np.array(spec.std[:1] * len(found) if len(found) not in (3, 4) else (*spec.std, 1.0)[: len(found)])
    std = std[::-1] if spec.channels == "bgr" else std
    return float(np.abs((found - expected) * std[:, None, None]).max() * 255)


def _drawn(size: tuple[int, int]) -> Image.Image:
    """Colours that change slowly, under edges and grain, as in a photograph."""
    width, height = size
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(rng.integers(30, 226, (7, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).astype(np.int16)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return Image.fromarray((pixels + rng.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8))
