"""What each step is fed: every image in its turn, whoever asks and however they are kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.sets import SPEC, colours, write_folder
from train import methods
from train.config import Config
from train.data import ImageSet, load
from train.exceptions import TrainingError
from train.loop.feed import Fed, Feed, seed_of

CONFIG = Config(method="energy", arch="resnet20", epochs=3, batch_size=4, padding=2, seed=5)


def numbered(count: int) -> ImageSet:
    """Every pixel of image i is i, and so is its label."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 8, 8, 3)).copy()
    return ImageSet(images, np.arange(count), tuple(map(str, range(count))), tuple(map(str, range(count))))


def feed(
    known: int, outliers: int, method: str = "energy", config: Config = CONFIG, rank: int = 0, size: int = 1
) -> Feed:
    return Feed(config, methods.make(method, {}), numbered(known), numbered(outliers), rank, size)


def epoch(source: Feed, number: int) -> list[Fed]:
    return list(source.steps(number * source.steps_per_epoch, (number + 1) * source.steps_per_epoch))


def known(steps: Iterable[Fed]) -> list[int]:
    return [label for fed in steps for label in fed.known.labels.tolist()]


def outliers(steps: Iterable[Fed]) -> list[int]:
    return [label for fed in steps if fed.outliers for label in fed.outliers.labels.tolist()]


def test_images_labels_and_crops_belong_together() -> None:
    for fed in epoch(feed(15, 9), 0):
        assert fed.outliers is not None
        for part in (fed.known, fed.outliers):
            assert part.images.shape == (4, 8, 8, 3)
            assert part.images[:, 0, 0, 0].tolist() == part.labels.tolist()
            assert part.crops.shifts.shape == (2, 4)


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    source = feed(16, 16)
    epochs = [known(epoch(source, number)) for number in range(3)]
    assert all(sorted(seen) == list(range(16)) for seen in epochs)
    assert len({tuple(seen) for seen in (*epochs, range(16))}) == 4


def test_images_beyond_whole_batches_wait_for_another_epoch() -> None:
    source = feed(15, 15)
    assert source.steps_per_epoch == 3
    left = [set(range(15)) - set(known(epoch(source, number))) for number in range(3)]
    assert [len(images) for images in left] == [3, 3, 3]
    assert len(set(map(frozenset, left))) > 1


def test_seed_and_step_decide_alone() -> None:
    expected = list(feed(16, 10).steps(0, 12))
    late = feed(16, 10).steps(7, 12)
    for mine, reference in zip(late, expected[7:], strict=True):
        assert mine.outliers is not None
        assert reference.outliers is not None
        for part, other in ((mine.known, reference.known), (mine.outliers, reference.outliers)):
            assert torch.equal(part.images, other.images)
            assert torch.equal(part.crops.shifts, other.crops.shifts)
            assert torch.equal(part.crops.mirrored, other.crops.mirrored)
    other_seed = list(feed(16, 10, config=replace(CONFIG, seed=6)).steps(0, 12))
    assert known(other_seed) != known(expected)
    assert outliers(other_seed) != outliers(expected)
    assert not torch.equal(other_seed[0].known.crops.shifts, expected[0].known.crops.shifts)


@pytest.mark.parametrize("count", [8, 15, 16, 40])
@pytest.mark.parametrize(("method", "pool"), [("energy", 1), ("greg+", 4)])
def test_several_processes_take_together_what_one_takes(count: int, method: str, pool: int) -> None:
    """Of 8 to 40 outliers, so that some epochs show them all, several times over, and some do not."""
    alone = list(feed(26, count, method, replace(CONFIG, batch_size=8)).steps(0, 7))
    together = [list(feed(26, count, method, replace(CONFIG, batch_size=4), rank, 2).steps(0, 7)) for rank in range(2)]
    for whole, *parts in zip(alone, *together, strict=True):
        for name, size in (("known", 8), ("outliers", 8 * pool)):
            expected, found = getattr(whole, name), [getattr(part, name) for part in parts]
            assert torch.equal(torch.cat([part.images for part in found]), expected.images)
            assert torch.equal(torch.cat([part.labels for part in found]), expected.labels)
            assert torch.equal(torch.cat([part.crops.shifts for part in found], dim=1), expected.crops.shifts)
            assert torch.equal(torch.cat([part.crops.mirrored for part in found]), expected.crops.mirrored)
            assert len(expected.labels) == size


@pytest.mark.parametrize("count", [5, 15, 16, 17, 48, 49, 100, 250])
@pytest.mark.parametrize("size", [1, 2])
def test_a_pool_shows_every_outlier_in_every_epoch(count: int, size: int) -> None:
    """Three steps an epoch of 16 candidates, or more where an epoch would not show them all."""
    config = replace(CONFIG, batch_size=4 // size)
    sources = [feed(12, count, "greg+", config, rank, size) for rank in range(size)]
    for number in range(3):
        seen = [image for source in sources for image in outliers(epoch(source, number))]
        times = np.bincount(seen, minlength=count)
        assert times.min() >= 1
        assert times.max() - times.min() <= 1
        assert len(seen) >= 48


def test_outliers_beyond_an_epoch_go_on_in_the_next() -> None:
    """An epoch of 4 steps takes 16 of 40: two and a half epochs are one pass."""
    source = feed(16, 40)
    seen = outliers(source.steps(0, 20))
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))
    assert seen[:40] != seen[40:]


def test_methods_without_outliers_get_none() -> None:
    source = Feed(CONFIG, methods.make("cross-entropy", {}), numbered(8), None)
    assert [fed.outliers for fed in epoch(source, 0)] == [None, None]


def test_images_decoded_as_they_are_used_give_the_same_batches(tmp_path: Path) -> None:
    folder = str(write_folder(tmp_path / "set", colours(20)))
    decoded, lazy = (load(folder, SPEC, in_memory=in_memory) for in_memory in (True, False))
    method = methods.make("energy", {})
    pairs = zip(*(Feed(CONFIG, method, data, data).steps(3, 9) for data in (decoded, lazy)), strict=True)
    for mine, reference in pairs:
        assert mine.outliers is not None
        assert reference.outliers is not None
        assert torch.equal(mine.known.images, reference.known.images)
        assert torch.equal(mine.known.labels, reference.known.labels)
        assert torch.equal(mine.outliers.images, reference.outliers.images)


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ((3, 9), 1, "3 images are fewer than a batch of 4; lower --batch-size"),
        ((9, 3), 1, "3 auxiliary images are fewer than the 4 of a step; give more by --aux, or lower --batch-size"),
        ((7, 9), 2, "7 images are fewer than a batch of 8; lower --batch-size"),
        ((9, 7), 2, "7 auxiliary images are fewer than the 8 of a step"),
    ],
)
def test_fewer_images_than_a_step_takes(counts: tuple[int, int], size: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        feed(*counts, size=size)


def test_a_step_that_draws_fewer_outliers_needs_no_more() -> None:
    source = Feed(CONFIG, methods.make("energy", {"outliers_per_image": 0.5}), numbered(8), numbered(2))
    assert [sorted(outliers([fed])) for fed in source.steps(0, 3)] == [[0, 1]] * 3


def test_every_number_counts() -> None:
    several = list(itertools.product((0, 1, 2, 2**31 - 1), (0, 1, 2, 10**6), (0, 1)))
    seeds = [seed_of(*numbers) for numbers in several]
    assert len(set(seeds)) == len(several)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_draws_of_torch_depend_on_every_number() -> None:
    draws = {
        tuple(torch.rand(4, generator=torch.Generator().manual_seed(seed_of(a, b))).tolist())
        for a in (0, 1)
        for b in (0, 1)
    }
    assert len(draws) == 4


def test_the_same_numbers_give_the_same_seed() -> None:
    assert seed_of(3, 4) == seed_of(3, 4) != seed_of(4, 3)


def mirrored(steps: Iterable[Fed]) -> dict[int, bool]:
    """By image, whether it was mirrored."""
    return {
        label: side
        for fed in steps
        for label, side in zip(fed.known.labels.tolist(), fed.known.crops.mirrored.tolist(), strict=True)
    }


def test_alternating_flips_mirror_each_image_every_other_epoch() -> None:
    source = feed(64, 64, config=replace(CONFIG, flip="alternating"))
    first, second, third = (mirrored(epoch(source, number)) for number in range(3))
    assert 16 < sum(first.values()) < 48
    assert second == {image: not side for image, side in first.items()}
    assert third == first
    other = feed(64, 64, config=replace(CONFIG, flip="alternating", seed=6))
    assert mirrored(epoch(other, 0)) != first


def test_alternating_flips_change_nothing_else_and_are_those_of_a_run_gone_on_with() -> None:
    plain, source = feed(64, 64), feed(64, 64, config=replace(CONFIG, flip="alternating"))
    for random, fed in zip(epoch(plain, 1), epoch(source, 1), strict=True):
        assert random.known.labels.tolist() == fed.known.labels.tolist()
        assert torch.equal(random.known.crops.shifts, fed.known.crops.shifts)
        assert random.outliers is not None
        assert fed.outliers is not None
        assert torch.equal(random.outliers.crops.mirrored, fed.outliers.crops.mirrored)
    whole = mirrored(epoch(source, 1))
    middle = source.steps_per_epoch + 5
    (resumed,) = source.steps(middle, middle + 1)
    assert mirrored([resumed]).items() <= whole.items()


@pytest.mark.parametrize(("ratio", "count"), [(2.0, 8), (0.5, 2), (0.01, 1), (1.0, 4)])
def test_outliers_per_image(ratio: float, count: int) -> None:
    method = methods.make("energy", {"outliers_per_image": ratio})
    (fed,) = Feed(CONFIG, method, numbered(16), numbered(16)).steps(0, 1)
    assert fed.outliers is not None
    assert (len(fed.known.images), len(fed.outliers.images)) == (4, count)


def test_with_twice_as_many_outliers_a_step_an_epoch_shows_each_twice() -> None:
    source = Feed(CONFIG, methods.make("energy", {"outliers_per_image": 2}), numbered(16), numbered(16))
    assert sorted(outliers(epoch(source, 0))) == sorted([*range(16), *range(16)])
