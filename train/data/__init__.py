"""Images, and their labels if they have any, from wherever they lie.

A source is a path, optionally followed by ``@i/n``: the i-th of n equal random parts, of every class where an image has
one class. The parts are disjoint and always the same, because the order is that of the SHA-256 of the images' names:
``val.tar@1/2`` and ``val.tar@2/2`` are two halves of a set, exchangeable, as split conformal prediction asks.

    DIR/cat/1.png  DIR/dog/2.jpg       a directory with one folder a class; the innermost folder counts
    DIR/labels.csv DIR/any/1.png       several labels an image, or none: the lines are ``any/1.png,cat;dog``
    DIR/1.png DIR/2.png                images without labels
    set.tar set.zip                    any of them as a tar or zip, compressed or not
    train-{000..009}.tar               WebDataset shards: key.jpg beside key.cls, or beside key.json with "label"
    DIR/000.tar DIR/001.tar            the same
    'DIR/*.jpg'                        what a pattern finds: images, folders, tars or Parquet files
    set.csv                            a table of paths from its folder, and labels (.tsv and .txt too)
    set.parquet                        images as bytes or paths, and labels, as datasets writes them
    set.npz                            images uint8 [N, H, W, 3] and labels [N] (names or integers), or
                                       labels [N, K] of zeros and ones and classes [K], or none
    set.npy                            images uint8 [N, H, W, 3]

:mod:`train.data.kinds` has a file for each kind, and :func:`in_memory` takes what a program holds already.

A set whose decoded images fit into memory is decoded at once, a larger one image by image as it is used.
"""

from __future__ import annotations

from train.data.image_set import ImageSet, concatenate
from train.data.images import Images, LazyImages, SelectedImages, batches
from train.data.index import Labels
from train.data.loading import load, read
from train.data.memory import as_source, in_memory
from train.data.options import Reading, add_reading_options
from train.data.parallel import prefetch
from train.data.source import check, short_name

__all__ = [
    "ImageSet",
    "Images",
    "Labels",
    "LazyImages",
    "Reading",
    "SelectedImages",
    "add_reading_options",
    "as_source",
    "batches",
    "check",
    "concatenate",
    "in_memory",
    "load",
    "prefetch",
    "read",
    "short_name",
]
