"""Images whose class is the innermost folder they lie in."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from train.data.files import File, is_image, no_images
from train.data.index import Index
from train.data.labels import one_class


def index(path: Path, files: dict[str, File]) -> Index:
    """All images of a directory or tar, by class and name; images outside any folder have `path`'s name as class.

    Raises:
        DataError: no images.
    """
    labelled = sorted((PurePosixPath(name).parent.name or path.stem, name) for name in files if is_image(name))
    if not labelled:
        raise no_images(path, list(files))
    classes = tuple(sorted({label for label, _ in labelled}))
    names = [name for _, name in labelled]
    return Index(names, [files[name] for name in names], one_class([label for label, _ in labelled], classes), classes)
