"""Images that a program holds: whatever form they have, the pixels are those that their files would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageCms
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from runtime.manifest import InputSpec
from runtime.preprocess import preprocess
from tests.small import encode
from tests.train.sets import SIDE, SPEC, noise
from train.data import ImageSet, LazyImages, Reading, in_memory, load, memory, read, short_name
from train.data.source import check
from train.exceptions import DataError

IMAGES = noise(6)
NUMBERS = [2, 0, 1, 1, 0, 2]
NAMES = ["zebra", "ant", "bee"]
TENSOR = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


class Listed(Dataset[Any]):
    """A Dataset with a length, whose end is no IndexError."""

    def __init__(self, make: Callable[[int], Any], **attributes: Any) -> None:
        self._make = make
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        return self._make(i % 6)


def pil(i: int) -> Image.Image:
    return Image.fromarray(IMAGES[i])


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for file, image in zip(files, IMAGES, strict=True):
        file.write_bytes(encode(image))
    return files


def check_images(found: ImageSet) -> None:
    np.testing.assert_array_equal(found.images[:], IMAGES)
    assert len(found.names) == 6


UNLABELLED: dict[str, Callable[[], Any]] = {
    "array": lambda: IMAGES,
    "array in [0, 1]": lambda: (IMAGES / 255).astype(np.float32),
    "arrays": lambda: list(IMAGES),
    "two batches": lambda: (IMAGES[:4], IMAGES[4:]),
    "arrays, channels first": lambda: [image.transpose(2, 0, 1) for image in IMAGES],
    "PIL": lambda: [pil(i) for i in range(6)],
    "bytes": lambda: [encode(image) for image in IMAGES],
    "a generator": lambda: (pil(i) for i in range(6)),
    "a tensor": lambda: TENSOR,
    "a tensor, channels last": lambda: torch.from_numpy(IMAGES),
    "float tensors": lambda: [image / 255 for image in TENSOR],
    "half tensors": lambda: [(image / 255).half() for image in TENSOR],
    "a dataset": lambda: Listed(pil),
    "a TensorDataset": lambda: TensorDataset(TENSOR),
    "a DataLoader": lambda: DataLoader(TensorDataset(TENSOR), batch_size=4),
    "mappings": lambda: [{"pixel_values": image} for image in TENSOR],
    "records": lambda: [{"bytes": encode(image), "path": None} for image in IMAGES],
}


@pytest.mark.parametrize("form", UNLABELLED)
def test_forms_without_labels(form: str) -> None:
    found = in_memory(UNLABELLED[form](), SPEC)
    check_images(found)
    assert not found.labelled


def test_paths_are_read_as_they_are_used(paths: list[Path]) -> None:
    for given in (paths, [str(path) for path in paths]):
        check_images(in_memory(given, SPEC))
    assert in_memory(paths, SPEC).names == tuple(map(str, paths))


def test_a_source_by_its_name(paths: list[Path]) -> None:
    check_images(in_memory(paths[0].parent, SPEC))


def collate(items: list[Any]) -> dict[str, Any]:
    return {
        "pixel_values": torch.stack([image for image, _ in items]),
        "labels": torch.tensor([own for _, own in items]),
    }


LABELLED: dict[str, Callable[[], Any]] = {
    "pairs": lambda: [(pil(i), NUMBERS[i]) for i in range(6)],
    "arrays": lambda: (IMAGES, np.array(NUMBERS)),
    "a tensor and a list": lambda: (TENSOR, NUMBERS),
    "arrays of Keras": lambda: (IMAGES, np.array(NUMBERS, np.uint8)[:, None]),
    "a dataset": lambda: Listed(lambda i: (pil(i), NUMBERS[i])),
    "a dataset of mappings": lambda: Listed(lambda i: {"image": pil(i), "label": np.int64(NUMBERS[i])}),
    "a dataset of three": lambda: Listed(lambda i: (pil(i), torch.tensor(NUMBERS[i]), i)),
    "a TensorDataset": lambda: TensorDataset(TENSOR, torch.tensor(NUMBERS)),
    "a DataLoader": lambda: DataLoader(TensorDataset(TENSOR, torch.tensor(NUMBERS)), batch_size=4),
    "a DataLoader of mappings": lambda: DataLoader(
        TensorDataset(TENSOR, torch.tensor(NUMBERS)), batch_size=4, collate_fn=collate
    ),
    "a DataLoader of lists": lambda: DataLoader(
        Listed(lambda i: (pil(i), NUMBERS[i])), batch_size=4, collate_fn=lambda items: tuple(zip(*items, strict=True))
    ),
}


@pytest.mark.parametrize("form", LABELLED)
def test_forms_with_labels(form: str) -> None:
    found = in_memory(LABELLED[form](), SPEC)
    check_images(found)
    assert [int(found.classes[i]) for i in found.labels] == NUMBERS


@pytest.mark.parametrize(
    "images",
    [
        Listed(lambda i: (pil(i), NUMBERS[i]), classes=NAMES),
        Subset(Listed(lambda i: (pil(i), NUMBERS[i]), classes=NAMES), range(6)),
        DataLoader(Listed(lambda i: (TENSOR[i], NUMBERS[i]), classes=NAMES)),
        Listed(lambda i: {"image": pil(i), "label": NUMBERS[i]}, features={"label": SimpleNamespace(names=NAMES)}),
        [(pil(i), NAMES[NUMBERS[i]]) for i in range(6)],
    ],
    ids=["classes", "a subset", "a DataLoader", "features", "texts"],
)
def test_names_of_classes(images: Any) -> None:
    found = in_memory(images, SPEC).matched(("bee", "cow", "ZEBRA", "ant"))
    assert found.labels.tolist() == [0, 2, 3, 3, 2, 0]


def test_a_file_and_its_pil_image_are_the_same_pixels(tmp_path: Path) -> None:
    """Orientation, transparency, palettes, grey, 16 bits, inks and profiles: as in service."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    saved = {
        "1.png": (rgba, {}),
        "2.jpg": (rgba.convert("RGB"), {"exif": turned, "quality": 95}),
        "3.png": (rgba.convert("RGB").quantize(), {"transparency": 3}),
        "4.png": (rgba.convert("LA"), {}),
        "5.png": (Image.fromarray(rng.integers(0, 2**16, (20, 30), dtype=np.uint16)), {}),
        "6.jpg": (rgba.convert("CMYK"), {"quality": 95}),
        "7.png": (rgba.convert("1"), {}),
        "8.png": (rgba.convert("RGB"), {"icc_profile": profile}),
        "9.tif": (rgba.convert("RGB"), {"tiffinfo": {700: b'tiff:Orientation="6"'}}),
    }
    spec = InputSpec(12, 10, mean=(0.0,) * 3, std=(1.0,) * 3, colour="srgb")
    files = []
    for name, (image, options) in saved.items():
        image.save(tmp_path / name, **options)
        files.append(tmp_path / name)
    found = in_memory([Image.open(file) for file in files], spec)
    for file, pixels in zip(files, found.images[:], strict=True):
        np.testing.assert_array_equal(pixels, preprocess(file.read_bytes(), spec), err_msg=file.name)


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa"])
def test_what_is_seen_through_is_over_white_in_every_mode(mode: str) -> None:
    """(255 - alpha) of white and alpha of the colour."""
    colour = Image.new("RGBA", (SIDE, SIDE), (40, 40, 40, 51))
    image = colour.convert({"La": "LA"}.get(mode, "RGBA")).convert(mode)
    if mode == "PA":
        image.putalpha(51)
    np.testing.assert_allclose(in_memory([image], SPEC).images[:].astype(float), 255 * 0.8 + 40 * 0.2, atol=1)


def test_an_array_of_another_size_is_resized_as_an_image_is() -> None:
    large = np.random.default_rng(0).integers(0, 256, (2, 20, 33, 3), dtype=np.uint8)
    expected = np.stack([preprocess(encode(image), SPEC) for image in large])
    for given in (large, list(large), [torch.from_numpy(image).permute(2, 0, 1) for image in large]):
        np.testing.assert_array_equal(in_memory(given, SPEC).images[:], expected)


def test_pil_images_that_were_cut_already() -> None:
    """They are treated as files are, and this is said; arrays are taken as they are."""
    cut = InputSpec(SIDE, SIDE, mean=(0.0,) * 3, std=(1.0,) * 3, crop_fraction=0.5)
    found = in_memory([pil(i) for i in range(6)], cut)
    np.testing.assert_array_equal(found.images[:], [preprocess(encode(image), cut) for image in IMAGES])
    (remark,) = found.report.remarks
    assert remark.startswith("all images are 8x8, the model's size, and are resized and cut once more as files are")
    assert in_memory([pil(0)], SPEC).report.remarks == ()
    found = in_memory(list(IMAGES), cut)
    check_images(found)
    assert found.report.remarks == ()


def test_grey_and_transparent_arrays() -> None:
    grey = IMAGES[0, ..., 0]
    for given in (grey, grey[..., None], torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(in_memory([given], SPEC).images[0:1], grey[None, ..., None].repeat(3, axis=3))
    clear = np.concatenate([IMAGES[0], np.zeros((SIDE, SIDE, 1), np.uint8)], axis=2)
    assert (in_memory([clear], SPEC).images[:] == 255).all()


def normalised() -> torch.Tensor:
    return (TENSOR / 255 - 0.45) / 0.22


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (normalised(), "image 0: .* found float32 from -2.* normalised already.* leave Normalize out of the transform"),
        (DataLoader(TensorDataset(normalised())), "normalised already"),
        (TENSOR.float(), r"expected uint8, or floats in \[0, 1\], found float32 from .* convert it to uint8"),
        (TENSOR.long(), "found int64"),
        ([np.full((4, 4, 3), np.nan)], "found float64 from nan"),
        ([np.zeros((5, 6, 7), np.uint8)], r"expected \[H, W, 3\] or \[3, H, W\], found \[5, 6, 7\]"),
        ([np.zeros((4, 0, 3), np.uint8)], "found \\[4, 0, 3\\]"),
        (IMAGES[0], r"images must be uint8 \[N, H, W, 3\], found uint8 \[8, 8, 3\]; x\[None\]"),
        (IMAGES.transpose(0, 3, 1, 2), r"x\.transpose\(0, 2, 3, 1\) puts the channels last"),
        (pil(0), "found Image; one image goes into a list"),
        (3, "found int"),
        ([], "expected one image or more, found none"),
        ([None], "expected a path, an array, a tensor or a PIL image, found NoneType"),
        ([{"text": "x"}], "expected a mapping with 'image', and 'label' if there are any, found text"),
        ([(pil(0), pil(1))], "found an image in the place of the label"),
        ([(Path("a.png"), Path("b.png"))], "found an image in the place of the label"),
        ((IMAGES, np.eye(6)), r"expected labels \[N\], found \[6, 6\]; .* y\.argmax\(1\) is that"),
        ((IMAGES, [1, 2]), "expected 6 labels with a batch of 6 images"),
        ([(TENSOR, [1, 2])], "expected 6 labels with a batch of 6 images"),
        ([Image.fromarray(np.zeros((4, 4), np.float32))], "found PIL's mode F, which has no white"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        in_memory(images, SPEC)


@pytest.mark.parametrize("label", [np.array([0, 1]), 1.5, None, -1, [1]])
def test_labels_of_other_kinds_are_none_and_this_is_said(label: Any) -> None:
    found = in_memory([(pil(0), 1), (pil(1), label)], SPEC)
    assert not found.labelled
    assert found.report.remarks == ("taken as unlabelled, as 1 images have no label that is one number or name: 1",)


def test_damaged_files_are_left_out_as_those_of_a_source(paths: list[Path]) -> None:
    many = paths * 3
    paths[0].with_name("bad.png").write_bytes(b"x")
    found = in_memory([*many, paths[0].with_name("bad.png")], SPEC)
    assert (len(found), len(found.skipped)) == (18, 1)
    with pytest.raises(DataError, match=r"bad\.png"):
        in_memory([*many, paths[0].with_name("bad.png")], SPEC, reading=Reading(strict=True))


def test_more_than_memory_holds(monkeypatch: pytest.MonkeyPatch, paths: list[Path]) -> None:
    monkeypatch.setattr(memory.loading, "MEMORY", 3 * IMAGES[0].nbytes)
    with pytest.raises(DataError, match="give paths, which are read as they are used"):
        in_memory(Listed(pil), SPEC)
    found = in_memory(paths, SPEC)
    assert isinstance(found.images, LazyImages)
    check_images(found)


def test_a_set_is_a_source_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    given = in_memory(Listed(lambda i: (pil(i), NUMBERS[i]), classes=NAMES), SPEC)
    assert in_memory(given, SPEC) is given
    check(given)
    assert short_name(given) == "images in memory"
    found = read(given, SPEC, labels=("bee", "ant", "zebra"))
    assert found.labels.tolist() == [0, 2, 1, 1, 2, 0]
    assert "images in memory: 6 images in 3 classes, labels = what comes with each image\n" in capsys.readouterr().out
    with pytest.raises(DataError, match="read at 8x8 pixels, expected 4x4"):
        read(given, InputSpec(4, 4, mean=(0.0,) * 3, std=(1.0,) * 3))


def test_iteration_is_once() -> None:
    """A DataLoader that shuffles must not be asked twice."""
    asked = []

    def items() -> Iterator[tuple[Image.Image, int]]:
        for i in range(6):
            asked.append(i)
            yield pil(i), NUMBERS[i]

    in_memory(items(), SPEC)
    assert asked == list(range(6))


def test_an_unlabelled_npz_and_npy(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=large)
    np.save(tmp_path / "set.npy", large)
    expected: npt.NDArray[np.uint8] = in_memory(large, SPEC).images[:]
    for name in ("set.npz", "set.npy"):
        found = load(str(tmp_path / name), SPEC)
        np.testing.assert_array_equal(found.images[:], expected)
        assert not found.labelled


def test_names_are_those_of_the_labels_that_are_taken() -> None:
    """Not of another column."""
    features = {"label": SimpleNamespace(), "fine_label": SimpleNamespace(names=["poodle", "tabby"])}
    assert memory._class_names(SimpleNamespace(features=features)) is None
    features["label"] = SimpleNamespace(names=["dog", "cat"])
    assert memory._class_names(SimpleNamespace(features=features)) == ["dog", "cat"]
