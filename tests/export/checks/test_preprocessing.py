"""Which other preprocessing would be right much more often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from export.checks.preprocessing import alternatives, preprocessing_remarks
from export.checks.sample import Sample, sample
from export.classifier import Answers
from runtime.manifest import InputSpec
from tests.small import encode
from train.data import Reading

IMAGENET = InputSpec(8, 8, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize="squash")
LABELS = np.arange(120) % 3


def pictures(count: int = 120, side: int = 8) -> npt.NDArray[np.uint8]:
    """The class is the brightest channel."""
    images = np.random.default_rng(0).integers(0, 150, (count, side, side, 3), dtype=np.uint8)
    images[np.arange(count), :, :, LABELS[:count]] += 100
    return images


def trained_with(truth: InputSpec) -> Callable[[InputSpec], Answers]:
    """A network that is right behind `truth` alone: its answer is the brightest channel, read off its normalised mean."""

    def behind(spec: InputSpec) -> Answers:
        def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            x = (images / 255 - np.array(spec.mean)) / np.array(spec.std)
            x = x[..., ::-1] if spec.channels != truth.channels else x
            means = x.mean(axis=(1, 2))
            pixels = means * np.array(truth.std) + np.array(
                truth.mean
            )  # as they were, if it is normalised as in training
            sane = (pixels.min(axis=1) >= 0) & (pixels.max(axis=1) <= 1) & (np.abs(pixels.mean(axis=1) - 0.42) < 0.05)
            logits = np.where(sane[:, None], pixels, [[1.0, 0.0, 0.0]])
            return logits.astype(np.float32)

        return run

    return behind


def said(behind: Callable[[InputSpec], Answers], spec: InputSpec) -> list[str]:
    images = pictures()
    return list(preprocessing_remarks(behind, spec, Sample("set", Reading(), np.arange(120), images, LABELS)))


class Held(Sample):
    """Arrays, which no rule of resizing changes."""

    def at(self, _: InputSpec) -> npt.NDArray[np.uint8]:
        return self.images


@pytest.fixture(autouse=True)
def _arrays(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "files" not in request.fixturenames:
        monkeypatch.setattr(Sample, "at", Held.at)


def test_what_is_right_is_left_alone() -> None:
    assert said(trained_with(IMAGENET), IMAGENET) == []


@pytest.mark.parametrize(
    ("truth", "how"),
    [
        (IMAGENET, "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 would"),
        (replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3), "--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 would"),
        (replace(IMAGENET, mean=(0.0,) * 3, std=(1.0,) * 3), "--mean 0 0 0 --std 1 1 1 would"),
        (replace(IMAGENET, mean=(0.0,) * 3, std=(1 / 255,) * 3), "--mean 0 0 0 --std 0.00392157 0.00392157"),
    ],
)
def test_another_normalisation_is_recognised(truth: InputSpec, how: str) -> None:
    wrong = replace(IMAGENET, mean=(0.9, 0.1, 0.9), std=(0.1, 0.1, 0.3))
    (message,) = said(trained_with(truth), wrong)
    assert message.startswith(how)
    assert "on 100.0 % of 120 labelled images, instead of " in message


def test_blue_first_is_recognised() -> None:
    grey = replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3)
    (message,) = said(trained_with(replace(grey, channels="bgr")), grey)
    assert message.startswith("--channels bgr would be right on 100.0 %")


def test_both_at_once_are_recognised() -> None:
    grey = replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3)
    (message,) = said(trained_with(replace(grey, channels="bgr")), replace(IMAGENET, mean=(0.9,) * 3, std=(0.1,) * 3))
    assert message.startswith("--channels bgr --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 would be")


def test_a_model_that_knows_nothing_is_helped_by_nothing() -> None:
    def random(_: InputSpec) -> Answers:
        return lambda images: np.random.default_rng(int(images.sum())).normal(0, 1, (len(images), 3)).astype(np.float32)

    assert said(random, IMAGENET) == []


def test_nothing_is_said_without_labels() -> None:
    unlabelled = Sample("set", Reading(), np.arange(120), pictures(), None)
    assert list(preprocessing_remarks(trained_with(IMAGENET), IMAGENET, unlabelled)) == []


def test_the_rule_of_resizing_is_recognised(files: Path) -> None:
    """The class is written in the middle of the images; squashed, there is more beside it than the model reads."""
    given = replace(IMAGENET, resize="squash", resize_to=None)
    images = sample(str(files), given, ("0", "1", "2"))

    def behind(_: InputSpec) -> Answers:
        def run(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            corner = pixels[:, :, 0].astype(np.float32).mean(axis=1)
            return np.where(corner.max(axis=1, keepdims=True) > 200, corner, [[0, 1, 0]]).astype(np.float32)

        return run

    (message,) = list(preprocessing_remarks(behind, given, images))
    assert message.startswith("--resize-to 8 would be right on 100.0 % of 60 labelled images, instead of 33.3 %")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Wide images, grey at both ends."""
    for i in range(60):
        image = np.full((16, 48, 3), 128, np.uint8)
        image[:, 14:34] = 0
        image[:, 14:34, i % 3] = 255
        (tmp_path / str(i % 3)).mkdir(exist_ok=True)
        (tmp_path / str(i % 3) / f"{i}.png").write_bytes(encode(image))
    return tmp_path


def test_alternatives_are_others() -> None:
    for how, other in alternatives(IMAGENET):
        assert other != IMAGENET, how
    assert not any("--channels" in how for how, _ in alternatives(replace(IMAGENET, channels="grey")))
