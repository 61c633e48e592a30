"""Images that are decoded as they are used: the same as those in memory, whatever is asked for."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.small import encode
from tests.train.sets import SPEC, colours, noise, write_folder, write_tar
from train.data import ImageSet, LazyImages, batches, concatenate, load, loading
from train.exceptions import DataError
from train.normalize import channel_statistics

DATA = colours(40)
WRITERS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda path: write_folder(path / "set", DATA),
    "tar": lambda path: write_tar(path / "set.tar", DATA),
    "tar.gz": lambda path: write_tar(path / "set.tar.gz", DATA, "w:gz"),
}


@pytest.fixture(params=WRITERS)
def lazy(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSet:
    found = load(str(WRITERS[request.param](tmp_path)), SPEC, in_memory=False)
    assert isinstance(found.images, LazyImages)
    return found


def test_everything_but_the_images_is_known_at_once(lazy: ImageSet) -> None:
    assert lazy.images.shape == (40, 8, 8, 3)
    assert len(lazy) == len(lazy.images) == 40
    assert lazy.names == DATA.names
    assert lazy.classes == DATA.classes
    np.testing.assert_array_equal(lazy.labels, DATA.labels)


@pytest.mark.parametrize(
    "chosen",
    [
        slice(None),
        slice(3, 17),
        slice(30, 99),
        slice(None, None, -7),
        slice(5, 5),
        np.array([39, 0, 0, 17, -1]),
        np.array([], dtype=np.intp),
        np.random.default_rng(0).permutation(40),
    ],
    ids=["all", "some", "beyond the end", "backwards", "none", "repeated", "empty", "permutation"],
)
def test_reads_like_the_array(lazy: ImageSet, chosen: slice) -> None:
    found = lazy.images[chosen]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, DATA.images[chosen])


def test_an_index_out_of_range(lazy: ImageSet) -> None:
    with pytest.raises(IndexError):
        lazy.images[np.array([40])]


def test_a_part(tmp_path: Path) -> None:
    source = f"{write_tar(tmp_path / 'set.tar', DATA)}@2/3"
    memory, lazy = (load(source, SPEC, in_memory=held) for held in (True, False))
    np.testing.assert_array_equal(lazy.images[:], memory.images)
    np.testing.assert_array_equal(lazy.labels, memory.labels)
    assert lazy.names == memory.names


def test_the_size_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(write_tar(tmp_path / "set.tar", DATA))
    monkeypatch.setattr(loading, "MEMORY", DATA.images[:].nbytes)
    assert isinstance(load(source, SPEC).images, np.ndarray)
    monkeypatch.setattr(loading, "MEMORY", DATA.images[:].nbytes - 1)
    assert isinstance(load(source, SPEC).images, LazyImages)
    assert isinstance(load(f"{source}@1/2", SPEC).images, np.ndarray)
    assert isinstance(load(source, SPEC, in_memory=True).images, np.ndarray)


def test_a_compressed_tar_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tar(tmp_path / "set.tar.gz", DATA, "w:gz")
    monkeypatch.setattr(loading, "MEMORY", 1000)
    with pytest.raises(DataError, match=r"set\.tar\.gz: a compressed tar can't be read image by image.*decompress it"):
        load(str(source), SPEC)


def test_a_tar_written_sparse(tmp_path: Path) -> None:
    """GNU tar leaves zeros out of a member: its bytes don't lie in one stretch."""
    image = encode(np.zeros((8, 8, 3), np.uint8), "BMP")
    with tarfile.open(tmp_path / "set.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("cat/1.bmp")
        member.type, member.size = tarfile.GNUTYPE_SPARSE, len(image)
        header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
        for start, value in ((386, 0), (398, len(image)), (483, len(image))):  # one stretch: offset, length; real size
            header[start : start + 12] = f"{value:011o}\0".encode()
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        assert tar.fileobj is not None
        tar.fileobj.write(bytes(header) + image + bytes(-len(image) % 512))
        tar.offset = tar.fileobj.tell()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(load(str(tmp_path / "set.tar"), SPEC).images[:], np.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize("size", [1, 7, 40, 64])
def test_batches(lazy: ImageSet, size: int) -> None:
    found = list(lazy.batches(size))
    assert [len(images) for images, _ in found] == [min(size, 40 - start) for start in range(0, 40, size)]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in found]), DATA.images)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), DATA.labels)
    np.testing.assert_array_equal(np.concatenate(list(batches(DATA.images, size))), DATA.images)


def test_concatenate(lazy: ImageSet) -> None:
    joined = concatenate([lazy, colours(9, seed=4), lazy])
    expected = np.concatenate([DATA.images, colours(9, seed=4).images, DATA.images])
    assert joined.images.shape == expected.shape
    assert joined.labels.tolist() == [0] * 89
    np.testing.assert_array_equal(joined.images[:], expected)
    chosen = np.random.default_rng(0).integers(-89, 89, 50)
    np.testing.assert_array_equal(joined.images[chosen], expected[chosen])
    np.testing.assert_array_equal(np.concatenate([images for images, _ in joined.batches(16)]), expected)


def test_channel_statistics_are_those_of_the_array(lazy: ImageSet) -> None:
    assert channel_statistics(lazy.images) == channel_statistics(DATA.images)


def test_an_image_damaged_behind_its_head_is_named_when_it_is_used(tmp_path: Path) -> None:
    write_folder(tmp_path, DATA)
    (tmp_path / "green" / "broken.png").write_bytes(encode(noise(1)[0])[:100])
    found = load(str(tmp_path), SPEC, in_memory=False)
    at = found.names.index("green/broken.png")
    assert len(found.images[at - 3 : at]) == 3
    with pytest.raises(DataError, match=r"green/broken\.png: the PNG image is truncated or damaged"):
        found.images[at - 3 : at + 1]
    with pytest.raises(DataError, match=r"green/broken\.png"):
        list(found.batches(8))


def test_an_image_that_is_gone_when_it_is_used(tmp_path: Path) -> None:
    found = load(str(write_folder(tmp_path, DATA)), SPEC, in_memory=False)
    (tmp_path / DATA.names[5]).unlink()
    with pytest.raises(DataError, match=f"{DATA.names[5]}: .*No such file"):
        found.images[:8]
