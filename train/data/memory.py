"""Images that a program holds already: paths, arrays, PIL images, a Dataset or a DataLoader, known by what they can do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.exceptions import ImageError
from runtime.manifest import InputSpec
from runtime.preprocess import fit, preprocess_image
from train.data import loading
from train.data.arrays import check_images
from train.data.files import Contents, Extent, File, Pixels
from train.data.image_set import ImageSet
from train.data.index import Index, labelled, unlabelled
from train.data.options import Reading
from train.data.report import Report, some
from train.exceptions import DataError

TITLE = "images in memory"

_IMAGES = ("image", "img", "images", "pixel_values", "picture", "x", "input", "inputs", "path", "file")
_LABELS = ("label", "labels", "target", "targets", "y", "class", "fine_label", "label_ids")
_SLACK = 1e-6  # that rounding adds to values in [0, 1]


class _Item(NamedTuple):
    """An image, its label if it has one, what it is called, and width and height where it is PIL's."""

    file: File
    label: object
    name: str
    size: tuple[int, int] | None


def as_source(images: Any, spec: InputSpec, *, reading: Reading | None = None) -> str | ImageSet:
    """A source's name as it is, to be read later and reported; anything else by :func:`in_memory`."""
    return images if isinstance(images, str) else in_memory(images, spec, reading=reading)


def in_memory(images: Any, spec: InputSpec, *, reading: Reading | None = None) -> ImageSet:
    """What a program holds, as a set of images.

    An image may be a path, the bytes of a file, a PIL image, or an array or tensor: uint8, or floats in [0, 1], with the
    channels last or first. Paths, bytes and PIL images are brought to the model's size as in service; so is an array of
    another size, and one of the model's size is taken as it is. With labels, an item is (image, label), or a mapping with
    both; labels are numbers, named by ``classes`` or ``features`` where the collection has them, or names.

    Args:
        images: a source's name, an array [N, H, W, 3], alone or with labels [N] as (images, labels), or any iterable of items
            or of batches of them: a list, a Dataset, a DataLoader. A set that was made before is returned as it is.
        spec: the size wanted and how to get there.
        reading: whether one image that can't be read is an error.

    Raises:
        DataError: what is no image, tensors that are normalised, or more arrays than memory is meant to hold.
    """
    reading = reading or Reading()
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, str | Path):
        return loading.load(str(images), spec, reading=reading)
    if isinstance(images, np.ndarray) and images.dtype == np.uint8:
        check_images(TITLE, images)
    items, held = [], 0
    for item in _items(images, spec):
        items.append(item)
        held += item.file.array.nbytes if isinstance(item.file, Pixels) and item.file.array.base is None else 0
        if held > loading.MEMORY:
            raise DataError(
                f"{TITLE}: more than {loading.MEMORY / 1e9:.3g} GB of pixels; give paths, which are read as they are used"
            )
    if not items:
        raise DataError(f"{TITLE}: expected one image or more, found none")
    index = _index(items, _class_names(images), tuple(_resized_twice(items, spec)))
    return loading.decoded(TITLE, index, spec, strict=reading.strict)


def _index(items: Sequence[_Item], classes: Sequence[str] | None, remarks: tuple[str, ...]) -> Index:
    names, files = [item.name for item in items], [item.file for item in items]
    texts = [_text(item.label, classes) for item in items]
    kept = [text for text in texts if text is not None]
    if len(kept) == len(texts):
        return labelled(names, files, kept, Report("labels = what comes with each image", remarks=remarks))
    if any(item.label is not None for item in items):
        bare = [name for name, text in zip(names, texts, strict=True) if text is None]
        remark = f"taken as unlabelled, as {len(bare):,} images have no label that is one number or name: {some(bare)}"
        remarks = (*remarks, remark)
    return unlabelled(names, files, Report(remarks=remarks))


def _resized_twice(items: Sequence[_Item], spec: InputSpec) -> Iterator[str]:
    """That PIL images were brought to the model's size already, if they were, and are resized once more as files are."""
    size = (spec.width, spec.height)
    probe = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    if {item.size for item in items} == {size} and not np.array_equal(fit(Image.fromarray(probe), spec), probe):
        yield (
            f"all images are {size[0]}x{size[1]}, the model's size, and are resized and cut once more as files are; if that "
            "was done already, give arrays, which are taken as they are"
        )


def _text(label: object, classes: Sequence[str] | None) -> str | None:
    """A label as the name of a class; None for what is none."""
    label = _plain(label)
    if isinstance(label, np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, str):
        return label
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer) or label < 0:
        return None
    if classes is None:
        return str(int(label))
    return classes[int(label)] if label < len(classes) else None


def _class_names(images: Any) -> Sequence[str] | None:
    """The names of numbered classes, of a torchvision Dataset, of one of datasets, or of what holds either."""
    for _ in range(8):
        classes = getattr(images, "classes", None)
        if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
            return classes
        features = getattr(images, "features", None)
        if isinstance(features, Mapping):
            key = next((key for key in _LABELS if key in features), None)  # as an item's label is found
            return getattr(features[key], "names", None) if key else None
        if (images := getattr(images, "dataset", None)) is None:
            return None
    return None


def _items(images: Any, spec: InputSpec) -> Iterator[_Item]:
    """Each image of a collection, numbered."""
    count = 0
    pair = _pair(images)
    for given in [pair] if pair else _each(images):
        image, label = _parted(given)
        batch = _batch(image)
        labels = [label] if batch is None else _several(label, len(batch))
        for one, own in zip([image] if batch is None else batch, labels, strict=True):
            name = os.fspath(one) if isinstance(one, str | Path) else str(count)
            size = one.size if isinstance(one, Image.Image) else None
            yield _Item(_file(f"image {name}", one, spec), own, str(name), size)
            count += 1


def _pair(images: Any) -> tuple[Any, Any] | None:
    """An array of images and one of their labels, [N] or, as Keras has it, [N, 1]; None for anything else.

    Raises:
        DataError: labels of another shape.
    """
    if not isinstance(images, tuple) or len(images) != 2 or getattr(images[0], "ndim", 0) != 4:
        return None
    labels = _plain(images[1])
    if isinstance(labels, list):
        return images[0], labels
    shape: tuple[int, ...] = getattr(labels, "shape", ())
    if len(shape) not in (1, 2):
        return None
    if len(shape) == 2 and shape[1] != 1:
        raise DataError(
            f"{TITLE}: expected labels [N], found {list(shape)}; of one column a class, y.argmax(1) is that"
        )
    return images[0], labels.reshape(-1)


def _each(images: Any) -> Iterable[Any]:
    """The items of an iterable, or of a Dataset, which may be none but have a length."""
    if not hasattr(images, "__iter__") and hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return (images[i] for i in range(len(images)))
    if isinstance(images, Iterable) and not isinstance(images, bytes | Mapping | Image.Image):
        return images
    raise DataError(
        f"{TITLE}: expected paths, arrays, PIL images, a Dataset or a DataLoader, found "
        f"{type(images).__name__}; one image goes into a list"
    )


def _parted(item: Any) -> tuple[Any, object]:
    """The image and the label of an item."""
    if isinstance(item, Mapping) and not _is_record(item):
        images = [key for key in _IMAGES if key in item]
        if not images:
            raise DataError(
                f"{TITLE}: expected a mapping with 'image', and 'label' if there are any, found {some(list(item))}"
            )
        return item[images[0]], next((item[key] for key in _LABELS if key in item and key != images[0]), None)
    if not isinstance(item, list | tuple) or not item:
        return item, None
    image, label = item[0], item[1] if len(item) > 1 else None
    if isinstance(label, Image.Image | bytes | Path) or np.ndim(_plain(label)) > 2:
        raise DataError(
            f"{TITLE}: expected (image, label), found an image in the place of the label; give one image an item"
        )
    return image, label


def _is_record(item: Any) -> bool:
    """Whether it is an image that datasets has not decoded."""
    return isinstance(item, Mapping) and {"bytes", "path"} <= set(item)


def _batch(image: Any) -> Sequence[Any] | npt.NDArray[Any] | None:
    """The images of a batch; None for one image."""
    if isinstance(image, list | tuple):
        return image
    array = _plain(image)
    return array if isinstance(array, np.ndarray) and array.ndim == 4 else None


def _several(labels: Any, count: int) -> list[object]:
    """The labels of a batch."""
    labels = _plain(labels)
    if labels is None:
        return [None] * count
    if not isinstance(labels, list | tuple | np.ndarray) or len(labels) != count:
        raise DataError(f"{TITLE}: expected {count} labels with a batch of {count} images, found {labels!r:.60}")
    return list(labels)


def _plain(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() else value).numpy()  # numpy has no bfloat16


def _file(title: str, image: Any, spec: InputSpec) -> File:
    """One image, as a file or as pixels at the model's size."""
    if isinstance(image, str | Path):
        return Extent(os.fspath(image))
    if _is_record(image):
        return Contents(image["bytes"]) if image["bytes"] else Extent(str(image["path"]))
    if isinstance(image, bytes):
        return Contents(image)
    if isinstance(image, Image.Image):
        return Pixels(_of_pil(title, image, spec))
    array = _plain(image)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{title}: expected a path, an array, a tensor or a PIL image, found {type(image).__name__}")
    pixels = _bytes_of(title, _channels_last(title, array, first=array is not image))
    if pixels.shape[2] == 4:
        return Pixels(_of_pil(title, Image.fromarray(pixels), spec))
    return Pixels(Pixels(pixels).at(spec))


def _channels_last(title: str, array: npt.NDArray[Any], *, first: bool) -> npt.NDArray[Any]:
    """[H, W, 3 or 4], whatever the order of the axes; `first` is the guess where both may be."""
    if array.ndim == 2:
        array = array[..., None]
    is_last, is_first = (array.ndim == 3 and array.shape[axis] in (1, 3, 4) for axis in (2, 0))
    if not (is_last or is_first) or 0 in array.shape:
        raise DataError(f"{title}: expected [H, W, 3] or [3, H, W], found {list(array.shape)}")
    if is_first and (first or not is_last):
        array = array.transpose(1, 2, 0)
    return array.repeat(3, axis=2) if array.shape[2] == 1 else array


def _bytes_of(title: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Values as bytes: as they are, or from [0, 1].

    Raises:
        DataError: of another kind, or normalised.
    """
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = float(array.min()), float(array.max())
    found = f"{title}: expected uint8, or floats in [0, 1], found {array.dtype} from {low:.3g} to {high:.3g}"
    if array.dtype.kind != "f" or (low >= 0 and not high <= 1 + _SLACK):
        raise DataError(f"{found}; convert it to uint8 where it is in [0, 255]")
    if not low >= -_SLACK:
        raise DataError(
            f"{found}: it is normalised already, and the bundle normalises by itself; leave Normalize out of the "
            "transform, or give paths or PIL images"
        )
    return (255 * array.clip(0, 1)).round().astype(np.uint8)


def _of_pil(title: str, image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """A PIL image as its file would be, at the model's size."""
    try:
        return preprocess_image(image, spec)
    except (ImageError, OSError) as error:
        raise DataError(f"{title}: {error}") from error
