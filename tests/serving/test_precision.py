"""The service on an int8 bundle decides as the gate does in process, and as the fp32 bundle that it was made of."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.convert.__main__ import main as convert
from runtime import Gate
from runtime.bundle import Bundle
from tests.export.conftest import call
from tests.export.convert.graphs import write_bundle
from tests.serving.decisions import assert_same
from tests.serving.inside import application
from tests.small import calibration_images, encode

IMAGES = calibration_images(200, seed=21)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """In fp32 and in int8, each with the threshold of its own scores."""
    folder, images = tmp_path_factory.mktemp("bundles"), calibration_images(400, seed=7)
    np.savez(folder / "calibration.npz", images=images, labels=np.full(len(images), "cat"))
    fp32, int8 = write_bundle(folder / "fp32", images), folder / "int8"
    options = ("--precision", "int8", "--int8-method", "minmax", "--calibration", folder / "calibration.npz")
    call(convert, fp32, *options, "--out", int8)
    return {"fp32": Bundle.load(fp32), "int8": Bundle.load(int8)}


async def answers(bundle: Bundle) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The service's decision on each of the images, and what it says of its model."""
    found = []
    async with application(bundle, engine="onnxruntime-cpu") as (client, _):
        for part in np.array_split(IMAGES, 10):
            found += await asyncio.gather(*(client.post("/classify", content=encode(image)) for image in part))
        return [answer.json() for answer in found], (await client.get("/model")).json()


def test_decides_as_the_gate_does(bundles: dict[str, Bundle]) -> None:
    for bundle in bundles.values():
        found, _ = asyncio.run(answers(bundle))
        expected = Gate.load(bundle.path, engine="onnxruntime-cpu", threads=1).decide(IMAGES)
        for answer, decision in zip(found, expected, strict=True):
            assert_same(answer, decision.to_dict())


def test_int8_decides_as_fp32_but_next_to_the_threshold(bundles: dict[str, Bundle]) -> None:
    fp32, int8 = (asyncio.run(answers(bundles[precision]))[0] for precision in ("fp32", "int8"))
    scores, thresholds = (np.array([answer["score"][key] for answer in fp32]) for key in ("value", "threshold"))
    apart = abs(int8[0]["score"]["threshold"] - thresholds[0])  # each was calibrated on images of its own
    near = np.abs(scores - thresholds) <= apart + 0.05 * scores.std()
    assert near.mean() < 0.1
    accepted = [np.array([answer["decision"] == "accept" for answer in found]) for found in (fp32, int8)]
    assert 0.8 < accepted[0].mean() < 1
    np.testing.assert_array_equal(accepted[0][~near], accepted[1][~near])


def test_the_model_names_engine_precision_and_artifact(bundles: dict[str, Bundle]) -> None:
    for precision, bundle in bundles.items():
        _, model = asyncio.run(answers(bundle))
        assert model["engine"] == "onnxruntime-cpu"
        assert model["model"]["precision"] == precision
        assert model["sha256"] == hashlib.sha256(Path(bundle.path, "model.onnx").read_bytes()).hexdigest()
