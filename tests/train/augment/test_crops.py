"""Crops and flips, against all that are possible."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from train.augment import Crops, views

Image = npt.NDArray[np.uint8]
Choice = tuple[int, int, bool]


def possible(image: Image, padding: int) -> dict[Choice, Image]:
    """Every crop of the padded image, plain and mirrored."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    crops = {
        (top, left): padded[top : top + height, left : left + width]
        for top, left in itertools.product(range(2 * padding + 1), repeat=2)
    }
    return {(*at, flip): crop[:, ::-1] if flip else crop for at, crop in crops.items() for flip in (False, True)}


def crop_flip(images: torch.Tensor, padding: int, seed: int = 0) -> torch.Tensor:
    """Cropped and flipped as the seed decides."""
    return Crops.draw(len(images), padding, torch.Generator().manual_seed(seed)).apply(images)


def choices(images: Image, padding: int, seed: int = 0) -> list[Choice]:
    """Which shift and flip each image got; fails where it is none of the possible ones."""
    results = crop_flip(torch.from_numpy(images), padding, seed).numpy()
    found = []
    for image, result in zip(images, results, strict=True):
        matches = [choice for choice, crop in possible(image, padding).items() if np.array_equal(crop, result)]
        assert len(matches) == 1
        found += matches
    return found


def test_every_image_is_one_of_its_own_crops(rng: np.random.Generator) -> None:
    choices(rng.integers(1, 256, (32, 6, 9, 3), dtype=np.uint8), padding=2)


def test_every_crop_and_flip_occurs(rng: np.random.Generator) -> None:
    images = rng.integers(1, 256, (400, 5, 5, 3), dtype=np.uint8)
    assert set(choices(images, padding=1)) == set(possible(images[0], padding=1))


def test_half_are_flipped(rng: np.random.Generator) -> None:
    images = rng.integers(1, 256, (400, 4, 4, 3), dtype=np.uint8)
    assert sum(flip for _, _, flip in choices(images, padding=0)) == pytest.approx(200, abs=40)


def test_the_seed_decides(rng: np.random.Generator) -> None:
    images = rng.integers(1, 256, (16, 6, 6, 3), dtype=np.uint8)
    assert choices(images, 2, seed=3) == choices(images, 2, seed=3)
    assert choices(images, 2, seed=3) != choices(images, 2, seed=4)


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (5, 4, 12, 3)])
def test_shape_and_dtype_stay(shape: tuple[int, ...]) -> None:
    images = torch.zeros(shape, dtype=torch.uint8)
    result = crop_flip(images, 4)
    assert result.shape == shape
    assert result.dtype == torch.uint8


def test_the_input_is_left_alone(rng: np.random.Generator) -> None:
    images = torch.from_numpy(rng.integers(0, 256, (8, 6, 6, 3), dtype=np.uint8))
    before = images.clone()
    crop_flip(images, 2)
    assert torch.equal(images, before)


def test_a_part_of_the_crops_does_what_the_whole_does_to_these_images(rng: np.random.Generator) -> None:
    images = torch.from_numpy(rng.integers(0, 256, (8, 6, 6, 3), dtype=np.uint8))
    crops = Crops.draw(8, 2, torch.Generator().manual_seed(0))
    assert torch.equal(crops.part(slice(3, 6)).apply(images[3:6]), crops.apply(images)[3:6])


def test_two_views_differ_and_stay_pixels() -> None:
    images = torch.randint(0, 256, (16, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = views(images, torch.Generator().manual_seed(1))
    for view in (first, second):
        assert view.shape == images.shape
        assert view.min() >= 0
        assert view.max() <= 255
    assert (first - second).abs().amax(dim=(1, 2, 3)).min() > 1
    again = views(images, torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.stack([first, second]), torch.stack(again))


def test_a_view_of_one_colour_is_one_colour() -> None:
    """Crops and turns leave it, and only the colour may change; about a fifth of the views is grey."""
    images = torch.tensor([200, 60, 20], dtype=torch.uint8).expand(400, 8, 8, 3)
    first, _ = views(images, torch.Generator().manual_seed(0), rotations=True)
    assert first.std(dim=(1, 2)).max() < 1e-2
    colours = first.mean(dim=(1, 2))
    grey = (colours.max(dim=1).values - colours.min(dim=1).values) < 0.5
    assert 0.12 < grey.float().mean() < 0.3
    kept = (colours - torch.tensor([200.0, 60, 20])).abs().amax(dim=1) < 0.5
    assert 0.1 < kept.float().mean() < 0.25  # a fifth is not jittered, of which four fifths are not grey


def test_rotations_turn_both_views_alike() -> None:
    """The brighter half says which way is up; a crop keeps it, and a mirror too."""
    images = torch.zeros(64, 16, 16, 3, dtype=torch.uint8)
    images[:, :8] = 240
    pairs = views(images, torch.Generator().manual_seed(0), rotations=True)
    ups = [_brighter(view) for view in pairs]
    clear = (ups[0] != -1) & (ups[1] != -1)
    assert clear.sum() > 20
    assert (ups[0] == ups[1])[clear].all()
    assert len(set(ups[0][clear].tolist())) == 3  # up, down, and sideways, which a mirror makes one
    assert set(_brighter(views(images, torch.Generator().manual_seed(0))[0]).tolist()) <= {-1, 0}


def _brighter(images: Tensor) -> Tensor:
    """0 where the upper half is brighter, 1 the lower, 2 one of the sides; -1 where none is by a lot."""
    grey = images.mean(dim=3)
    vertical = grey[:, :8].mean(dim=(1, 2)) - grey[:, 8:].mean(dim=(1, 2))
    sideways = (grey[:, :, :8].mean(dim=(1, 2)) - grey[:, :, 8:].mean(dim=(1, 2))).abs()
    found = torch.full((len(images),), -1)
    found[vertical > 20], found[vertical < -20], found[sideways > 20] = 0, 1, 2
    return found
