"""Sketches: which images made a bundle, and whether they are in another set."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from export.images.leakage import Hashes, Overlap, hashes, leaks, members, overlap, record
from runtime.manifest import Manifest
from tests.export.figures import MANIFEST
from tests.train.sets import noise
from train.data.sketches import sketch


def drawn(count: int, seed: int = 0) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_hashes_are_of_the_pixels() -> None:
    images = noise(3)
    images[2] = images[0]
    first, second, third = hashes(images)
    assert first == third != second
    assert int(first) == int.from_bytes(hashlib.blake2b(images[0].tobytes()[:], digest_size=8).digest(), "little")
    assert hashes(images).dtype == np.uint64


def test_hashes_see_one_pixel() -> None:
    images = noise(1).repeat(2, axis=0)
    images[1, 7, 7, 2] ^= 1
    assert len(set(hashes(images))) == 2


def test_a_sketch_is_the_smallest_distinct_hashes_however_they_are_cut() -> None:
    found = np.concatenate([drawn(5000), drawn(5000)])
    expected = np.sort(drawn(5000))[:1024]
    for batch in (1, 7, 100, 10_000):
        parts = [found[start : start + batch] for start in range(0, len(found) if batch > 7 else 0, batch)]
        np.testing.assert_array_equal(sketch(parts or [found]), expected)


def test_overlap_of_small_sets_is_exact() -> None:
    first, second = drawn(1000), np.concatenate([drawn(1000)[:7], drawn(493, seed=1)])
    assert overlap(sketch([first]), second) == Overlap(images=500, checked=500, shared=7)


def test_overlap_of_large_sets_is_estimated() -> None:
    """Half of 10,000 images are shared; about 205 of them have hashes that the sketch of 50,000 reaches."""
    first = drawn(50_000)
    second = np.concatenate([first[:5000], drawn(5000, seed=1)])
    found = overlap(sketch([first]), second)
    expected = 10_000 * 1024 / 50_000
    assert found.checked == pytest.approx(expected, rel=0.3)
    assert found.estimate == pytest.approx(5000, rel=0.25)
    assert found.leaks


def test_nothing_checked_is_nothing_known() -> None:
    found = overlap(sketch([drawn(5000)]), np.array([2**64 - 1], dtype=np.uint64))
    assert found == Overlap(1, 0, 0)
    assert found.estimate == 0
    assert not found.leaks


@pytest.mark.parametrize(
    ("checked", "shared", "leaking"),
    [
        (2500, 0, False),
        (2500, 25, False),  # 1 %, which duplicates in public sets reach
        (2500, 50, True),
        (2500, 2500, True),
        (51, 1, False),  # 2 %, but one image of the few that the sketch tells of
        (51, 51, True),
        (1, 1, True),
    ],
)
def test_a_few_shared_images_are_tolerated(checked: int, shared: int, leaking: bool) -> None:
    assert Overlap(images=2500, checked=checked, shared=shared).leaks == leaking


def test_recorded_in_the_manifest() -> None:
    images = noise(200)
    manifest = record(MANIFEST, "calibration", "/data/val.tar@1/2", images)
    assert (manifest.data["calibration"].source, manifest.data["calibration"].images) == ("val.tar@1/2", 200)
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert leaks(again, hashes(images[:50])) == {"calibration": Overlap(50, 50, 50)}
    assert leaks(again, hashes(noise(50, seed=1))) == {}


def test_one_record_a_role() -> None:
    manifest = record(MANIFEST, "calibration", "first.tar", noise(20))
    manifest = record(manifest, "fit", "train.tar", noise(30, seed=1))
    manifest = record(manifest, "calibration", "second.tar", noise(40, seed=2))
    assert {role: spec.source for role, spec in manifest.data.items()} == {
        "calibration": "second.tar",
        "fit": "train.tar",
    }
    assert list(leaks(manifest, hashes(noise(20)))) == []
    assert list(leaks(manifest, hashes(noise(30, seed=1)))) == ["fit"]


def test_a_sketch_is_small() -> None:
    many = np.random.default_rng(0).integers(0, 256, (3000, 2, 2, 3), dtype=np.uint8)
    assert len(record(MANIFEST, "fit", "train.tar", many).data["fit"].sketch) < 11_000


class Slices:
    """Images that exist only while a slice of them is looked at."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.largest = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> npt.NDArray[np.uint8]:
        images = noise(len(range(*part.indices(self.count))), seed=part.start)
        self.largest = max(self.largest, len(images))
        return images


def test_images_are_read_a_batch_at_a_time() -> None:
    images = Slices(300)
    record(MANIFEST, "fit", "train.tar", images)
    assert images.largest <= 64


@pytest.mark.parametrize("damaged", ["", "AAAAAAAAAAA", "AAAA", "not base64!!", "é"])
def test_a_damaged_sketch_is_refused(damaged: str) -> None:
    manifest = record(MANIFEST, "fit", "train.tar", noise(3))
    text = manifest.to_json().replace(manifest.data["fit"].sketch, damaged)
    if damaged:
        with pytest.raises(ValueError, match=r"data\.fit: sketch must be base64"):
            Manifest.from_json(text)
    else:
        assert leaks(Manifest.from_json(text), hashes(noise(3))) == {}


def test_members_of_a_recorded_set() -> None:
    images = noise(30)
    manifest = record(MANIFEST, "quantisation", "some", images[5:12])
    found = members(manifest, "quantisation", images)
    assert np.flatnonzero(found).tolist() == list(range(5, 12))
    assert not members(manifest, "fit", images).any()
