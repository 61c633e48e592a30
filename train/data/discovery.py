"""Which kind of set lies at a path."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from train.data import class_folders, labels_csv, webdataset
from train.data.files import File, in_folder, in_tar, is_image
from train.data.index import Index
from train.exceptions import DataError


def discover(path: Path, memory: int) -> Index:
    """List the images at a path and label them in the way that its files call for.

    Args:
        path: a directory, a tar, or a pattern of shards.
        memory: how many bytes of a compressed tar may be held.

    Raises:
        DataError: nothing there, no images, or labels that can't be understood.
    """
    shards = webdataset.shards(path)
    if path.is_dir():
        files = in_folder(path)
        shards = [] if any(map(is_image, files)) else shards
    elif path.is_file():
        files = in_tar(path, memory)
        if webdataset.has_labels(files):
            return webdataset.index(path, files)
    elif not shards:
        raise DataError(f"{path}: no such directory, tar or .npz file")
    if shards:
        return webdataset.index(path, _in_shards(shards, memory))
    if labels_csv.NAME in files:
        return labels_csv.index(path, files)
    if astray := [name for name in files if PurePosixPath(name).name == labels_csv.NAME]:
        raise DataError(f"{path}: {astray[0]} must lie at the root, and name the images from there")
    return class_folders.index(path, files)


def _in_shards(shards: list[Path], memory: int) -> dict[str, File]:
    return {f"{shard.name}/{name}": file for shard in shards for name, file in in_tar(shard, memory).items()}
