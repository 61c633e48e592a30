from __future__ import annotations

import numpy as np
import pytest

from serving.drift.window import Blocks, WindowSize, slide, total_counts, young_blocks

SIZE = WindowSize(images=640, seconds=64.0)


def filled(times: list[float], images: int, size: WindowSize = SIZE) -> Blocks:
    """Blocks of images in bin 0, a tenth of them rejected."""
    blocks: Blocks = ()
    for now in times:
        blocks = slide(blocks, size, now, np.array([images, 0]), images // 10)
    return blocks


@pytest.mark.parametrize("images", [1, 3, 10, 37, 640, 2000])
def test_the_latest_images_are_kept_give_or_take_a_block(images: int) -> None:
    blocks = filled([0.001 * i for i in range(1300 // images + 3)], images)
    total = int(total_counts(blocks, 2).sum())
    assert 640 <= total < 640 + max(images, 10)


def test_old_images_are_dropped() -> None:
    blocks = filled([float(i) for i in range(200)], 2)
    assert 64 <= total_counts(blocks, 2)[0] / 2 <= 66
    assert total_counts(young_blocks(blocks, SIZE, 199 + 32), 2)[0] / 2 == pytest.approx(33, abs=2)
    assert young_blocks(blocks, SIZE, 400) == ()


def test_the_state_stays_small() -> None:
    assert len(filled([0.01 * i for i in range(20_000)], 1)) <= 66
    assert len(filled([0.5 * i for i in range(2000)], 1)) <= 66


def test_bins_and_rejections_add_up() -> None:
    blocks: Blocks = ()
    for now in range(5):
        blocks = slide(blocks, WindowSize(), float(now), np.array([3, now]), now)
    assert total_counts(blocks, 2).tolist() == [15, 10]
    assert sum(block.rejected for block in blocks) == 10


def test_nothing_new_only_drops() -> None:
    blocks = filled([0.0, 30.0], 10)
    assert slide(blocks, SIZE, 31.0, np.array([0, 0]), 0) == blocks
    assert len(slide(blocks, SIZE, 70.0, np.array([0, 0]), 0)) == 1
    assert slide((), SIZE, 0.0, np.array([0, 0]), 0) == ()


def test_a_clock_that_was_set_back_loses_nothing() -> None:
    blocks = filled([100.0, 40.0, 41.0], 10)
    assert total_counts(blocks, 2).tolist() == [30, 0]


@pytest.mark.parametrize(("images", "seconds"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_no_window(images: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="a window has at least one image and some time"):
        WindowSize(images, seconds)
