"""Golden images: what is drawn, and that what is written of it is what the bundle's own graph says."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from export.golden.drawing import draw
from export.golden.expectations import golden
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.gate import Gate
from runtime.golden.document import GOLDEN, Golden
from runtime.preprocess.resize import ENDLESS, fit
from tests.small import SPEC


@pytest.fixture(scope="module")
def made(shared_bundle: Bundle) -> dict[str, bytes]:
    manifest = shared_bundle.manifest
    assert manifest.gate
    return golden(shared_bundle.model, manifest, manifest.gate, threads=1)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (48, 224), (224, 224)])
def test_they_are_a_dozen_small_files_of_every_kind_that_ports_get_wrong(height: int, width: int) -> None:
    files = draw(replace(SPEC, height=height, width=width))
    images = {name: Image.open(io.BytesIO(data)) for name, data in files.items()}
    assert len(files) == 12
    assert sum(map(len, files.values())) < 3 * max(height, width) ** 2 + 8000
    assert images["same.png"].size == (width, height)
    assert images["pixel.png"].size == (1, 1)
    line = images["line.png"].size
    assert max(line) > ENDLESS * min(line)
    assert {image.mode for image in images.values()} == {"RGB", "RGBA", "L", "P", "1"}
    assert images["rotated.jpg"].getexif()[0x0112] == 6
    for axis, side in enumerate((width, height)):
        sizes = {image.size[axis] for image in images.values()}
        assert min(sizes) < side < 2 * side < max(sizes)
    tall = images["tall.png"].size
    assert tall[1] - height > 2 * max(0, tall[0] - width)  # Pillow resamples its columns first


def test_they_are_drawn_alike_each_time() -> None:
    assert draw(SPEC) == draw(SPEC)


def test_no_jpeg_is_so_large_that_it_would_be_decoded_at_a_fraction(made: dict[str, bytes]) -> None:
    image = Image.open(io.BytesIO(made["golden/rotated.jpg"]))
    whole = image.size
    image.draft("RGB", (2 * SPEC.width, 2 * SPEC.height))
    assert image.size == whole


def test_a_jpeg_is_of_one_colour_a_block_so_that_every_decoder_agrees(made: dict[str, bytes]) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(made["golden/rotated.jpg"])))
    for y in range(0, pixels.shape[0], 8):
        for x in range(0, pixels.shape[1], 8):
            block = pixels[y : y + 8, x : x + 8]
            assert (block == block[0, 0]).all()


def test_what_is_written_is_what_pillow_and_the_graph_say(made: dict[str, bytes], shared_bundle: Bundle) -> None:
    """Decoded by Pillow here, run one by one, and decided by the gate."""
    document = json.loads(made[GOLDEN])
    assert document["model"] == hashlib.sha256(shared_bundle.model).hexdigest()
    assert document["alpha"] == 0.1
    assert [f"golden/{image['file']}" for image in document["images"]] == [name for name in made if name != GOLDEN]
    engine = OnnxRuntimeCpu(shared_bundle.model, threads=1)
    gate = Gate(shared_bundle, engine)
    for image in document["images"]:
        data = made[f"golden/{image['file']}"]
        whole = by_pillow(data)
        assert (image["width"], image["height"]) == whole.size
        assert image["decoded"] == hashlib.sha256(whole.tobytes()).hexdigest()
        pixels = fit(whole, shared_bundle.manifest.input)
        assert image["pixels"] == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert image["mean"] == pytest.approx(pixels.reshape(-1, 3).mean(axis=0), abs=1e-3)
        outputs = engine.run(pixels[np.newaxis])
        assert image["logits"] == pytest.approx(outputs.logits[0].tolist(), rel=1e-5, abs=1e-6)
        assert list(image["scores"]) == list(shared_bundle.manifest.scores)
        assert list(image["scores"].values()) == pytest.approx(outputs.scores[0].tolist(), rel=1e-5, abs=1e-6)
        (decision,) = gate.decide([data])
        assert (image["decision"], image["label"]) == (decision.decision, decision.label)
        assert image["class_index"] == decision.class_index


def by_pillow(data: bytes) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def test_the_document_survives_the_round_trip(made: dict[str, bytes]) -> None:
    document = Golden.from_json(made[GOLDEN])
    assert document.to_json().encode() == made[GOLDEN]


def test_scores_that_are_not_finite_are_null(shared_bundle: Bundle) -> None:
    document = Golden.from_json(
        golden(*_with_infinite_weights(shared_bundle), threads=1)[GOLDEN]  # type: ignore[arg-type]
    )
    assert {image.decision for image in document.images} == {"reject"}
    assert all(None in image.scores.values() for image in document.images)


def _with_infinite_weights(of: Bundle) -> tuple[object, ...]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(of.model)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [len(of.manifest.labels)])
    bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims[0], np.inf, np.float32), bias.name))
    return model.SerializeToString(), of.manifest, of.manifest.gate
