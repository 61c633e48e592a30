"""``oodgate.Client`` on a service of a 224-pixel model: whatever an image is, the answer is that of the gate for its file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import oodgate
from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions
from export.classifier import assemble
from export.graph.head import seal
from export.report.card import documents
from runtime import bundle
from runtime.exceptions import UnsupportedImage
from runtime.manifest import InputSpec
from tests.serving.conftest import serve
from tests.small import LABELS, calibration_images, classifier, encode

with warnings.catch_warnings():  # of what BentoML imports
    warnings.simplefilter("ignore")
    from bentoml import SyncHTTPClient

    from serving.client import Client

SPEC = InputSpec(224, 224, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), resize="shortest", resize_to=256)
PHOTO = calibration_images(1, seed=4)[0].repeat(60, axis=0).repeat(80, axis=1)[:900, :1200]  # [900, 1200, 3]
SQUARE = calibration_images(1, seed=7)[0].repeat(14, axis=0).repeat(14, axis=1)  # [224, 224, 3]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for 224 x 224 pixels, with label sets."""
    folder = tmp_path_factory.mktemp("client")
    model, manifest = assemble(classifier(LABELS, SPEC), "large", {"energy": {"temperature": 1.0}})
    images = calibration_images(240).repeat(14, axis=1).repeat(14, axis=2)
    np.savez(folder / "known.npz", images=images, labels=np.array(LABELS)[np.arange(240) % 3])
    options = GateOptions("energy", 0.1, prediction_sets=(0.8,))
    manifest = fit_gate(model, manifest, str(folder / "known.npz"), options, threads=1).manifest
    return bundle.write(folder / "large", manifest, {bundle.MODEL: seal(model, manifest)}, documents(manifest)).path


@pytest.fixture(scope="module")
def files(path: Path) -> Path:
    """A folder with a photograph in several files, one turned by its EXIF, and one by its XMP, which does not count."""
    image, exif = Image.fromarray(PHOTO), Image.Exif()
    exif[0x0112] = 6
    image.save(path.parent / "photo.jpg", quality=90)
    image.save(path.parent / "photo.png")
    image.save(path.parent / "turned.jpg", quality=90, exif=exif)
    image.save(path.parent / "edited.jpg", quality=90, xmp=b'tiff:Orientation="6"')
    image.convert("CMYK").save(path.parent / "cmyk.tif")
    return path.parent


@pytest.fixture(scope="module")
def url(path: Path) -> Iterator[str]:
    with serve(OODGATE_BUNDLE=str(path)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with Client(url) as client:
        yield client


@pytest.fixture(scope="module")
def gate(path: Path) -> oodgate.Gate:
    return oodgate.Gate.load(path, engine="onnxruntime-cpu", threads=1)


def assert_decides(found: dict[str, Any], decision: oodgate.Decision) -> None:
    expected = decision.to_dict()
    assert (found["decision"], found["class_index"]) == (expected["decision"], expected["class_index"])
    assert found["scores"] == pytest.approx(expected["scores"], rel=1e-5)


def loaded(file: Path) -> Image.Image:
    """An image that has left its file."""
    with Image.open(file) as image:
        return image.copy()


def asked(file: Path) -> Image.Image:
    """An image whose EXIF data were asked for, which Pillow keeps."""
    image = Image.open(file)
    assert image.getexif()[0x0112] == 6
    return image


def turned_by_hand(file: Path) -> Image.Image:
    """An upright image that still has the EXIF data of its file, but for the orientation."""
    with Image.open(file) as opened:
        image = opened.transpose(Image.Transpose.ROTATE_270)
    del image.getexif()[0x0112]
    return image


@pytest.mark.parametrize(
    ("name", "given"),
    [
        pytest.param("photo.jpg", lambda file: file, id="path"),
        pytest.param("photo.jpg", str, id="name"),
        pytest.param("photo.jpg", Path.read_bytes, id="bytes"),
        pytest.param("photo.jpg", lambda file: bytearray(file.read_bytes()), id="bytearray"),
        pytest.param("photo.jpg", lambda file: io.BytesIO(file.read_bytes()), id="BytesIO"),
        pytest.param("photo.jpg", lambda file: file.open("rb"), id="open file"),
        pytest.param("photo.jpg", Image.open, id="PIL"),
        pytest.param("turned.jpg", Image.open, id="PIL, turned"),
        pytest.param("edited.jpg", Image.open, id="PIL, turned by XMP"),
        pytest.param("edited.jpg", asked, id="PIL, turned by XMP, asked before"),
        pytest.param("photo.png", loaded, id="PIL without a file"),
        pytest.param("photo.png", lambda file: np.asarray(loaded(file)), id="array"),
        pytest.param("cmyk.tif", Image.open, id="PIL, CMYK"),
    ],
)
def test_every_kind_of_image(name: str, given: Any, client: Any, gate: oodgate.Gate, files: Path) -> None:
    image = given(files / name)
    assert_decides(client.classify(image=image), gate.decide([files / name])[0])
    if hasattr(image, "close"):
        image.close()


def test_an_image_that_was_turned_by_hand_is_not_turned_again(client: Any, files: Path) -> None:
    expected = client.classify(image=files / "turned.jpg")
    assert client.classify(image=turned_by_hand(files / "turned.jpg"))["scores"] == pytest.approx(expected["scores"])


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "RGBX", "RGBa", "PA", "La"])
def test_images_in_modes_that_no_png_has(mode: str, client: Any, gate: oodgate.Gate) -> None:
    image = Image.fromarray(SQUARE)
    image = image.convert({"La": "LA", "PA": "P", "RGBa": "RGBA"}.get(mode, "RGB")).convert(mode)
    seen = image.convert({"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, "RGB")).convert("RGB")
    assert_decides(client.classify(image), gate.decide([encode(np.asarray(seen))])[0])


def test_arrays_of_the_models_size(client: Any, gate: oodgate.Gate) -> None:
    for pixels in (SQUARE, SQUARE[..., 0]):
        assert_decides(client.classify(pixels), gate.decide([encode(pixels)])[0])


def test_options(client: Any, files: Path) -> None:
    photo = files / "photo.jpg"
    strict, plain = client.classify(image=photo, alpha=0.01, top=2, set=0.8), client.classify(image=photo)
    assert len(strict["top"]) == 2
    assert "set" in strict
    assert strict["score"]["threshold"] < plain["score"]["threshold"]
    with pytest.raises(Exception, match="unknown_alpha"):
        client.classify(image=photo, alpha=0.3)


def test_batches(client: Any, gate: oodgate.Gate, files: Path) -> None:
    images = [files / "photo.jpg", PHOTO, b"no image", (files / "turned.jpg").read_bytes()]
    results = client.classify_batch(images=images, top=1)["results"]
    for index, file in ((0, "photo.jpg"), (1, "photo.png"), (3, "turned.jpg")):
        assert_decides(results[index], gate.decide([files / file])[0])
        assert len(results[index]["top"]) == 1
    assert results[2]["error"]["code"] == "not_an_image"


def test_bentoml_s_own_client_sends_files_in_batches(url: str, files: Path, gate: oodgate.Gate) -> None:
    with SyncHTTPClient(url) as client:
        (result,) = client.classify_batch(images=[files / "photo.jpg"])["results"]
    client._temp_dir.cleanup()  # which it leaves to the garbage collector
    assert_decides(result, gate.decide([files / "photo.jpg"])[0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PHOTO / 255, r"expected an array uint8 \[H, W\]"),
        (PHOTO[None], "several images go to classify_batch"),
        (io.StringIO("text"), "opened as text"),
        ([[1, 2], [3, 4]], r"or an array uint8 \[H, W, 3\], found list"),
    ],
)
def test_what_is_no_image_is_not_sent(image: Any, message: str, client: Any) -> None:
    with pytest.raises(TypeError, match=message):
        client.classify(image=image)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_range_are_not_sent(mode: str, client: Any) -> None:
    with pytest.raises(UnsupportedImage, match=f"found PIL's mode {mode}, which has no white"):
        client.classify(image=Image.new(mode, (8, 8)))
