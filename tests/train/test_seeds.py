"""Seeds: every number counts, also for torch's generator, which looks at 32 bits."""

from __future__ import annotations

import itertools

import torch

from train.feed import seed_of


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
