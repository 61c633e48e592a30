"""Calibration images of which no threshold can be learned, or less than their number says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from export.checks.images import image_remarks, score_remarks
from export.checks.sample import Sample, noise, sample
from export.exceptions import ExportError
from runtime.manifest import GateSpec
from tests.small import SPEC, encode
from train.data import Reading
from train.exceptions import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)


def said(images: npt.NDArray[np.uint8], *sizes: tuple[int, int]) -> list[str]:
    return list(image_remarks(Sample("set", Reading(), np.arange(len(images)), images, None, sizes), SPEC))


def test_usual_images() -> None:
    assert said(IMAGES, *[(20, 30)] * 30) == []


def test_one_image_many_times_calibrates_nothing() -> None:
    with pytest.raises(ExportError, match="set: 30 images and all of them the same"):
        said(IMAGES[[0] * 30])


def test_copies_are_counted() -> None:
    (message,) = said(IMAGES[np.arange(30) % 15])
    assert message.startswith("only 15 of 30 calibration images looked at are different ones")


def test_grey_images_are_said() -> None:
    assert said(np.repeat(IMAGES[..., :1], 3, axis=3))[0].startswith("all 30 calibration images looked at are grey")


def test_grey_images_of_a_grey_network_are_not() -> None:
    grey = Sample("set", Reading(), np.arange(30), np.repeat(IMAGES[..., :1], 3, axis=3), None)
    assert list(image_remarks(grey, replace(SPEC, channels="grey"))) == []


def test_enlarged_images_are_said() -> None:
    assert said(IMAGES, *[(8, 6)] * 20, *[(40, 40)] * 10) == [
        "20 of 30 calibration images looked at are enlarged to 16 x 16, from 8 x 6 in the middle: the gate learns blurred "
        "images; calibrate on originals"
    ]
    assert said(IMAGES, *[(8, 6)] * 10, *[(40, 40)] * 20) == []
    assert said(IMAGES, *[(9, 9)] * 30) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.linspace(0, 1, 50), None),
        (np.full(50, 2.0), "energy is 2 for every calibration image"),
        (np.arange(50) // 20, "energy has only 3 values among the calibration images"),
    ],
)
def test_a_score_that_does_not_vary_is_said(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], message: str | None
) -> None:
    quantiles = {"msp": (0.0,) * 50, "energy": tuple(map(float, values))}
    gate = cast(GateSpec, SimpleNamespace(score="energy", calibration=SimpleNamespace(quantiles=quantiles)))
    assert [line[: len(message or "")] for line in score_remarks(gate)] == ([message] if message else [])


def folder(path: Path, broken: int = 0) -> Path:
    for i, image in enumerate(IMAGES):
        (path / ("cat", "dog")[i % 2]).mkdir(exist_ok=True, parents=True)
        content = encode(image[:8, :6]) if i >= broken else encode(image)[:-200]
        (path / ("cat", "dog")[i % 2] / f"{i:02}.png").write_bytes(content)
    return path


def test_a_sample_has_labels_and_sizes(tmp_path: Path) -> None:
    found = sample(str(folder(tmp_path)), SPEC, ("ship", "dog", "cat"))
    assert found.images.shape == (30, 16, 16, 3)
    assert found.sizes == ((6, 8),) * 30
    assert found.labels is not None
    assert found.labels.tolist() == [2] * 15 + [1] * 15
    np.testing.assert_array_equal(found.at(SPEC), found.images)
    assert found.at(replace(SPEC, height=5)).shape == (30, 5, 16, 3)
    assert sample(str(tmp_path), SPEC, ("cat", "ship")).labels is None


def test_a_sample_is_without_images_that_can_not_be_read(tmp_path: Path) -> None:
    assert len(sample(str(folder(tmp_path, broken=2)), SPEC, ("cat", "dog")).images) == 28


def test_a_sample_of_none(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        sample(str(folder(tmp_path, broken=30)), SPEC, ("cat", "dog"))


def test_a_sample_of_many_is_of_200(tmp_path: Path) -> None:
    many = np.random.default_rng(1).integers(0, 256, (500, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", images=many, labels=np.arange(500) % 3)
    found = sample(str(tmp_path / "many.npz"), SPEC, ("0", "1", "2"))
    assert len(found.images) == 200
    np.testing.assert_array_equal(found.images, many[found.positions])
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, found.positions % 3)
    assert found.sizes == ()


def test_noise_is_of_the_inputs_size() -> None:
    assert noise(replace(SPEC, height=5), 7).shape == (7, 5, 16, 3)
