"""Whole augmentations: by their names, random by the seed alone, pixels in and pixels out, and what they draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from train import augment
from train.augment import Crops, operations, pixmix, trivial
from train.augment.colours import uniform_of
from train.augment.photographs import resized_crops
from train.exceptions import TrainingError

NAMES = (
    *("crop-flip", "photographs", "none", "cutout", "trivial", "pixmix"),
    *("photographs+cutout", "photographs+trivial", "photographs+pixmix"),
)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 16, 12, 3), dtype=np.uint8))


def applied(name: str, seed: int) -> Tensor:
    crops = Crops.draw(len(IMAGES), 2, torch.Generator().manual_seed(seed))
    return augment.parse(name).apply(IMAGES, crops, seed)


@pytest.mark.parametrize("name", NAMES)
def test_by_the_seed_alone(name: str) -> None:
    first = applied(name, 1)
    torch.manual_seed(5)
    assert torch.equal(first, applied(name, 1))
    assert torch.equal(first, applied(name, 2)) == (name == "none")


@pytest.mark.parametrize("name", NAMES)
def test_pixels(name: str) -> None:
    found = applied(name, 3).float()
    assert found.shape == IMAGES.shape
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.isfinite(found).all()


def test_none_changes_nothing() -> None:
    assert torch.equal(applied("none", 1), IMAGES)


def test_geometry_comes_first() -> None:
    assert augment.parse("trivial") == augment.parse("crop-flip+trivial")
    assert augment.parse("trivial").crops
    assert not augment.parse("photographs+trivial").crops


@pytest.mark.parametrize(
    "name", ["", "augmix", "trivial+photographs", "trivial+pixmix", "photographs+", "crop-flip+none"]
)
def test_unknown(name: str) -> None:
    with pytest.raises(
        TrainingError, match=r"--augment .*: expected crop-flip, photographs, none, cutout, trivial, pixmix, or two"
    ):
        augment.parse(name)


def test_resized_crops_are_boxes_of_the_area() -> None:
    """Of an image whose value is its column, and one whose value is its row, a crop is a straight line again."""
    side, count = 64, 200
    line = torch.arange(float(side)).expand(side, side)
    x = torch.stack([line, line.T, line])[None].expand(count, -1, -1, -1)
    crops = resized_crops(x, uniform_of(torch.Generator().manual_seed(0), count, torch.device("cpu")), (0.25, 1.0))
    inner = crops[:, :, 8:-8, 8:-8]  # without what reflects at the border
    width, height = inner[:, 0].diff(dim=2), inner[:, 1].diff(dim=1)
    assert width.std(dim=(1, 2)).max() < 1e-3
    assert height.std(dim=(1, 2)).max() < 1e-3
    across, down = width.mean((1, 2)), height.mean((1, 2))
    assert 0.3 < (across < 0).float().mean() < 0.7  # mirrored
    assert (down > 0).all()
    area = across.abs() * down
    assert 0.2 < area.min() < 0.35
    assert 0.9 < area.max() <= 1.0001
    assert ((across.abs() <= 1.0001) & (down <= 1.0001)).all()
    middle = (inner[:, 0].mean((1, 2)), inner[:, 1].mean((1, 2)))
    assert all(value.min() > 8 and value.max() < 56 for value in middle)


def test_trivial_takes_every_operation_and_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(operations, "apply", lambda _, x, chosen, by: drawn.append((chosen, by)) or x)
    trivial.trivial_augment(torch.zeros(14_000, 3, 1, 1), torch.Generator().manual_seed(0))
    ((chosen, by),) = drawn
    counts = torch.bincount(chosen, minlength=14)
    assert counts.shape == (14,)
    assert counts.min() > 850
    turned = by[chosen == 5]
    assert sorted(set(turned.abs().mul(30 / 135).round().int().tolist())) == list(range(31))
    assert turned.max() == -turned.min() == 135
    assert by[chosen == 10].min() == 0  # posterize has no sign


def test_the_widest_posterize_keeps_two_bits() -> None:
    operation = trivial._WIDE[10][0]
    found = operation(torch.full((2, 3, 1, 1), 255.0), torch.tensor([0.0, 1.0]))
    assert found[:, 0, 0, 0].tolist() == [255.0, 192.0]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 33)])
def test_cutout_hides_a_square_somewhere_within(height: int, width: int) -> None:
    """Of 12 pixels' side, in the mean colour of the batch, as often in each place."""
    count = 6000
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(1)) * 255
    x = colours.expand(count, 3, height, width)
    found = augment.MIXING["cutout"](x, torch.Generator().manual_seed(0))
    hidden = (found != x).any(dim=1)
    rows, columns = hidden.any(2), hidden.any(1)
    assert (rows.sum(1) == 12).all()
    assert (columns.sum(1) == 12).all()
    assert (hidden.sum((1, 2)) == 144).all()  # so all of the rows' columns
    mean = colours.mean(dim=(0, 2, 3))
    torch.testing.assert_close(found.permute(0, 2, 3, 1)[hidden], mean.expand(144 * count, 3))
    for covered, places in ((rows, height - 11), (columns, width - 11)):
        firsts = torch.bincount(covered.int().argmax(1), minlength=places)
        assert len(firsts) == places
        assert firsts.min() > 0.7 * count / places
        assert firsts.max() < 1.3 * count / places


def test_pixmix_sums_and_products() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3, 3, 4, 4))
    a, b = 0.7, 0.4
    x, y = (torch.from_numpy(value) for value in (first, second))
    weights = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    np.testing.assert_allclose(pixmix.added(x, y, *weights), (a * (first * 2 - 1) + b * (second * 2 - 1) + 1) / 2)
    np.testing.assert_allclose(pixmix.multiplied(x, y, *weights), (first * 2) ** a * (second * 2) ** b / 2, rtol=1e-6)


def test_pixmix_weights() -> None:
    """Half of the pairs are Beta(3, 1) and Beta(1, 3), of means 3/4 and 1/4, half 1 + and - Beta(1, 3)."""
    a, b = pixmix._weights(40_000, torch.Generator().manual_seed(0))
    inside = b > 0
    assert inside.float().mean() == pytest.approx(0.5, abs=0.02)
    means = (a[inside].mean(), b[inside].mean(), a[~inside].mean(), b[~inside].mean())
    assert [float(mean) for mean in means] == pytest.approx([0.75, 0.25, 1.25, -0.25], abs=0.01)


def test_pixmix_pictures_have_structure_of_every_size() -> None:
    """Stretched from 0 to 1, and of an amplitude that falls with the frequency."""
    drawn = pixmix.pictures(torch.zeros(6, 3, 64, 64), torch.Generator().manual_seed(0))
    assert torch.equal(drawn.amin((2, 3)), torch.zeros(6, 3))
    torch.testing.assert_close(drawn.amax((2, 3)), torch.ones(6, 3))
    spectrum = torch.fft.rfft2(drawn).abs().mean((0, 1))[0, 1:]
    slope = np.polyfit(np.log(np.arange(1, 33)), np.log(spectrum.numpy()), 1)[0]
    assert -2.2 < slope < -0.8
