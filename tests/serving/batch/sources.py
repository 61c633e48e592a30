"""Sources of small images, and what is read of outputs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle
from serving.batch.job import Options
from tests.small import calibration_images, encode

DAMAGED = {7: b"", 70: b"no image", 129: encode(calibration_images(1)[0])[:60]}
"""Bytes that are no usable image, by their place among images."""


def photos(count: int, damaged: dict[int, bytes] | None = None, seed: int = 5) -> list[bytes]:
    """PNG files of smooth random images, with some of them damaged."""
    files = [encode(image) for image in calibration_images(count, seed)]
    for i, data in (damaged or {}).items():
        files[i] = data
    return files


def write_folder(path: Path, files: list[bytes]) -> Path:
    """Images in two folders of a folder, in order."""
    for i, data in enumerate(files):
        file = path / ("a" if i < len(files) // 2 else "b") / f"{i:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: Any = "w") -> Path:
    """A tar of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_shards(path: Path, files: list[bytes], size: int) -> Path:
    """WebDataset's shards of so many images."""
    for number in range(-(-len(files) // size)):
        own = files[number * size : (number + 1) * size]
        members = {
            f"{number * size + i:04}.{kind}": data if kind == "png" else b"1"
            for i, data in enumerate(own)
            for kind in ("png", "cls")
        }
        write_tar(path / f"{number:03}.tar", members)
    return path


def options(bundle: Bundle, out: Path | str, *sources: Path | str, **others: Any) -> Options:
    """A job on the CPU."""
    said = {"backend": "onnxruntime-cpu", "workers": 2, **others}
    return Options(tuple(map(str, sources)), bundle.path, str(out), **said)


def rows(out: Path | str) -> list[dict[str, Any]]:
    """All rows of an output, in the order of its files."""
    import pyarrow.parquet as pq

    return [row for file in sorted(Path(out).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
