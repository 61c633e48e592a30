"""Rejects as a tar with one folder a class, the data source that training and calibration read."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

from runtime import atomic
from serving.exceptions import RejectNotFound, StoreUnusable
from serving.rejects.store import RejectStore

UNLABELLED = "unlabelled"


def export(store: RejectStore, out: Path, *, by_prediction: bool = False) -> int:
    """Write all images of a store into an uncompressed tar, to a temporary sibling that is renamed into place.

    Args:
        store: read, not changed.
        out: the tar; replaced if it is there.
        by_prediction: folders are the most probable classes; otherwise there is one, ``unlabelled``.

    Returns:
        how many images.

    Raises:
        StoreUnusable: it holds no rejects, or `out` can't be written.
    """
    count = 0
    try:
        with atomic.writing(out) as temporary, tarfile.open(temporary, "w") as tar:
            for reject in store:
                try:
                    image = store.image(reject)
                except RejectNotFound:  # deleted since it was listed
                    continue
                folder = _folder_name(reject.predicted) if by_prediction else UNLABELLED
                member = tarfile.TarInfo(f"{folder}/{reject.image}")
                member.size, member.mtime = len(image), int(reject.time)
                tar.addfile(member, io.BytesIO(image))
                count += 1
            if not count:
                raise StoreUnusable("the store holds no rejected images; is it the right one?")
    except OSError as error:
        raise StoreUnusable(f"the rejects can't be exported to {out}: {error}") from error
    return count


def _folder_name(label: str) -> str:
    """A class name as the name of a folder, by which it is known again: only what no folder can be called is replaced."""
    return re.sub(r"[/\\\0]", "_", label).strip().lstrip(".") or UNLABELLED
