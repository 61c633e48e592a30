"""Labelled images from a class-folder directory, a class-folder tar or an .npz file.

A source is a path, optionally followed by ``@i/n``: the i-th of n equal random parts of every class. The parts are
disjoint and always the same, because the order is that of the SHA-256 of the images' names: ``val.tar@1/2`` and
``val.tar@2/2`` are two halves of a set, exchangeable, as split conformal prediction asks.

    DIR/cat/1.png  DIR/dog/2.jpg       a directory with one folder a class
    set.tar                            the same, as an uncompressed or compressed tar
    set.npz                            images uint8 [N, H, W, 3], labels [N] (names or integers)
"""

from __future__ import annotations

import hashlib
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from runtime.exceptions import ImageError
from runtime.manifest import InputSpec
from runtime.preprocess import SUFFIXES, fit, preprocess
from train.exceptions import DataError

_CHUNK = 1024
_TAR_BLOCK = 512
_PART = re.compile(r"^(?P<path>.+)@(?P<index>\d+)/(?P<count>\d+)$")


@dataclass(frozen=True)
class ImageSet:
    """Decoded images in memory.

    Attributes:
        images: uint8 [N, H, W, 3], RGB.
        labels: int64 [N], indices into `classes`.
        classes: class names, sorted.
        names: N names, for messages about one image.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def with_classes(self, classes: Sequence[str], source: str) -> ImageSet:
        """The same images, labelled by the indices of `classes`.

        Raises:
            DataError: when the set has a class that is not in `classes`.
        """
        if unknown := sorted(set(self.classes) - set(classes)):
            raise DataError(f"{source}: class {unknown[0]!r} is not one of the model's {list(classes)}")
        order = np.array([list(classes).index(name) for name in self.classes], dtype=np.int64)
        return replace(self, labels=order[self.labels], classes=tuple(classes))


def load(source: str, spec: InputSpec) -> ImageSet:
    """Read and decode all images of a source at the size of `spec`, with a progress bar on a terminal.

    Raises:
        DataError: no such source, no images in it, or an image that does not decode (named).
    """
    path, index, count = _split(source)
    if path.suffix == ".npz":
        whole = _load_npz(path, spec)
    elif path.is_dir():
        whole = _load_folder(path, spec)
    elif path.is_file():
        whole = _load_tar(path, spec)
    else:
        raise DataError(f"{path}: no such directory, tar or .npz file")
    part = _part(whole, index, count)
    if not len(part):
        raise DataError(f"{source}: no images in this part; {len(whole)} are too few for {count} parts of every class")
    return part


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets as one, for auxiliary outliers; their classes are dropped, all labels are 0."""
    images = np.concatenate([part.images for part in sets])
    names = tuple(name for part in sets for name in part.names)
    return ImageSet(images, np.zeros(len(images), dtype=np.int64), ("outlier",), names)


def short_name(source: str) -> str:
    """A source without its directories, for reports: ``/data/val.tar@1/2`` -> ``val.tar@1/2``."""
    path, index, count = _split(source)
    return path.name if count == 1 else f"{path.name}@{index}/{count}"


def _split(source: str) -> tuple[Path, int, int]:
    match = _PART.match(source)
    if not match:
        return Path(source), 1, 1
    index, count = int(match["index"]), int(match["count"])
    if not 1 <= index <= count:
        raise DataError(f"{source}: '@{index}/{count}' must be one of @1/{count} to @{count}/{count}")
    return Path(match["path"]), index, count


def _part(whole: ImageSet, index: int, count: int) -> ImageSet:
    if count == 1:
        return whole
    keep = np.zeros(len(whole), dtype=bool)
    shuffled = np.array(sorted(range(len(whole)), key=lambda i: _lot(whole.names[i])))
    for label in range(len(whole.classes)):
        keep[shuffled[whole.labels[shuffled] == label][index - 1 :: count]] = True
    names = tuple(name for name, kept in zip(whole.names, keep, strict=True) if kept)
    return replace(whole, images=whole.images[keep], labels=whole.labels[keep], names=names)


def _lot(name: str) -> bytes:
    """What an image's place in the shuffled order comes from: its folder's and its own name, wherever the set lies."""
    return hashlib.sha256("/".join(PurePosixPath(name).parts[-2:]).encode()).digest()


def _load_folder(path: Path, spec: InputSpec) -> ImageSet:
    names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    return _decode(path, names, lambda name: (path / name).read_bytes(), spec)


def _load_tar(path: Path, spec: InputSpec) -> ImageSet:
    try:
        with tarfile.open(path) as tar:
            members = {str(PurePosixPath(member.name)): member for member in tar if member.isfile()}

            def read(name: str) -> bytes:
                file = tar.extractfile(members[name])
                assert file is not None  # only regular files are listed
                return file.read()

            if tar.fileobj is not None:  # a tar ends with a block of zeros; tarfile itself does not miss it
                tar.fileobj.seek(tar.offset)
                if not tar.fileobj.read(_TAR_BLOCK) == bytes(_TAR_BLOCK):
                    raise DataError(f"{path}: not a readable tar (truncated after {len(members)} files)")
            return _decode(path, list(members), read, spec)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a readable tar ({error})") from error


def _load_npz(path: Path, spec: InputSpec) -> ImageSet:
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = (_read_npy(archive, name) for name in ("images", "labels"))
    except Exception as error:  # zipfile and numpy raise many kinds of errors on damaged bytes
        raise DataError(f"{path}: expected an .npz with arrays 'images' and 'labels' ({error})") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise DataError(f"{path}: images must be uint8 [N, H, W, 3], found {images.dtype} {list(images.shape)}")
    if labels.shape != images.shape[:1] or not len(labels):
        raise DataError(f"{path}: expected one label an image, found {list(labels.shape)} for {len(images)} images")
    if images.shape[1:3] != (spec.height, spec.width):
        images = np.stack([fit(Image.fromarray(image), spec) for image in images])
    distinct, indices = np.unique(labels, return_inverse=True)
    names = tuple(map(str, range(len(images))))
    return ImageSet(images, indices.astype(np.int64), tuple(map(str, distinct)), names)


def _read_npy(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _decode(path: Path, names: Iterable[str], read: Callable[[str], bytes], spec: InputSpec) -> ImageSet:
    """Decode every file with an image's ending; its class is the folder it lies in."""
    paths = (PurePosixPath(name) for name in names)
    labelled = sorted((p.parent.name or path.stem, str(p)) for p in paths if p.suffix.lower() in SUFFIXES)
    if not labelled:
        raise DataError(f"{path}: no images; expected one folder a class with {', '.join(sorted(SUFFIXES))}")
    classes = sorted({label for label, _ in labelled})
    index = {label: i for i, label in enumerate(classes)}
    images = np.empty((len(labelled), spec.height, spec.width, 3), dtype=np.uint8)

    def decode(name: str, data: bytes) -> npt.NDArray[np.uint8]:
        try:
            return preprocess(data, spec)
        except ImageError as error:
            raise DataError(f"{path}: {name}: {error}") from error

    bar = tqdm(total=len(labelled), desc=path.name, unit="image", disable=None, leave=False)
    with bar, ThreadPoolExecutor() as pool:
        for start in range(0, len(labelled), _CHUNK):
            chunk = [name for _, name in labelled[start : start + _CHUNK]]
            images[start : start + len(chunk)] = list(pool.map(decode, chunk, map(read, chunk)))
            bar.update(len(chunk))
    labels = np.array([index[label] for label, _ in labelled], dtype=np.int64)
    return ImageSet(images, labels, tuple(classes), tuple(name for _, name in labelled))
