"""Where the labels of the files of a folder or an archive come from."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from train.data.index import Index
from train.data.labels import by_folder, labels_csv, sidecars
from train.data.labels.rows import has_own_header, of_rows
from train.data.listing import Listing, no_images
from train.data.options import Reading
from train.exceptions import DataError


def label(path: Path, listing: Listing, reading: Reading, *, archive: bool = False, depth: int = 0) -> Index:
    """The images, labelled in the way that the files call for: by what stands beside them, by a labels.csv, by folder.

    Args:
        path: what is read.
        listing: its files.
        reading: the columns of a labels.csv that is no list of ours.
        archive: whether labels may stand beside images, as in WebDataset's tars.
        depth: of folders that are names of shards.

    Raises:
        DataError: no images, or labels that can't be understood.
    """
    if archive and sidecars.has_labels(listing):
        return sidecars.index(path, listing)
    if not listing.images:
        raise no_images(path, listing.files)
    if labels_csv.NAME in listing.files:
        data = listing.files[labels_csv.NAME].read()
        title = f"{path}: {labels_csv.NAME}"
        if has_own_header(title, data):
            return of_rows(title, data, lambda name: listing.files.get(listing.named(name)), reading, listing)
        return labels_csv.index(path, listing)
    if astray := [name for name in listing.files if PurePosixPath(name).name == labels_csv.NAME]:
        raise DataError(f"{path}: {astray[0]} must lie at the root, and name the images from there")
    return by_folder.index(listing, path.stem or path.absolute().name, depth=depth)
