"""Labelled sets small enough to train on in a second, and the files that hold them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.manifest import InputSpec
from tests.small import encode
from train.data import ImageSet

CLASSES = ("blue", "green", "red")
SIDE = 8
SPEC = InputSpec(SIDE, SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def colours(count: int = 48, seed: int = 0) -> ImageSet:
    """Noise in which one channel is bright; the class says which. Class by class, as a folder is read."""
    rng = np.random.default_rng(seed)
    labels = np.sort(np.arange(count) % len(CLASSES))
    images = rng.integers(0, 128, (count, SIDE, SIDE, 3), dtype=np.uint8)
    images[np.arange(count), :, :, 2 - labels] += 128
    names = tuple(f"{CLASSES[label]}/{i:04}.png" for i, label in enumerate(labels))
    return ImageSet(images, labels, CLASSES, names)


def coloured(count: int = 48, seed: int = 0) -> ImageSet:
    """Noise in which any number of channels are bright, none included; the labels say which."""
    rng = np.random.default_rng(seed)
    labels = rng.random((count, len(CLASSES))) < 0.5
    images = rng.integers(0, 128, (count, SIDE, SIDE, 3), dtype=np.uint8)
    images += 128 * labels[:, None, None, ::-1].astype(np.uint8)
    return ImageSet(images, labels, CLASSES, tuple(f"{i:04}.png" for i in range(count)))


def noise(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Images that no colour dominates."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def write_folder(path: Path, data: ImageSet) -> Path:
    """With a labels.csv where images have several labels."""
    for image, name in zip(data.images, data.names, strict=True):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(image))
    if data.task == "multilabel":
        names = [";".join(np.array(data.classes)[hot]) for hot in data.labels]
        lines = [f"{name},{labels}" for name, labels in zip(data.names, names, strict=True)]
        (path / "labels.csv").write_text("\n".join(lines))
    return path


def write_tar(path: Path, data: ImageSet, mode: Any = "w", prefix: str = "") -> Path:
    with tarfile.open(path, mode) as tar:
        for image, name in zip(data.images, data.names, strict=True):
            add_member(tar, prefix + name, encode(image))
    return path


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def check_equal(found: ImageSet, expected: ImageSet) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int64
    assert found.classes == expected.classes
    assert len(found) == len(expected)
