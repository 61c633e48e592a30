"""A foreign ONNX file over HTTP: the service decides on PNG files as a computation by hand of the file's own answers."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np

from export.__main__ import main
from runtime.bundle import Bundle
from tests.export.conftest import call
from tests.export.from_onnx.graphs import torch_like
from tests.export.from_onnx.test_main import LABELS, normalised, options, probabilities
from tests.serving.inside import application
from tests.small import calibration_images, encode


async def answers(bundle: Bundle, images: Any) -> list[dict[str, Any]]:
    async with application(bundle, engine="onnxruntime-cpu") as (client, _):
        return [(await client.post("/classify", content=encode(image))).json() for image in images]


def test_decides_as_a_computation_by_hand(tmp_path: Path) -> None:
    """Maximum softmax probability, which the file ends in, against the floor(0.1 (n + 1))-th smallest."""
    model = torch_like()
    call(main, *options(tmp_path, model, score="msp"))
    calibrated, images = calibration_images(99), calibration_images(20, seed=9)
    known, found = (probabilities(model, normalised(x).transpose(0, 3, 1, 2)) for x in (calibrated, images))
    threshold = np.sort(known.max(axis=1))[math.floor(0.1 * 100) - 1]
    bundle = Bundle.load(tmp_path / "bundle")
    decided = asyncio.run(answers(bundle, images))
    assert len({answer["decision"] for answer in decided}) == 2
    for answer, row in zip(decided, found, strict=True):
        assert abs(answer["score"]["value"] - row.max()) < 1e-5
        assert answer["decision"] == ("accept" if row.max() >= threshold else "reject")
        if answer["decision"] == "accept":
            assert answer["label"] == LABELS[row.argmax()]
