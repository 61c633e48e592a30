"""What follows from a measurement: a pure function of given figures."""

from __future__ import annotations

import dataclasses

import pytest

from serving.deciding.sizing import (
    Measurement,
    Timing,
    applied,
    candidates,
    full_batch,
    quickest,
    worthwhile_wait,
)
from serving.settings import Settings

SMALL = Timing(
    1, 1, 0.0035, 1 / 196
)  # a small network on two cores: a second thread costs the decoding more than it brings
SMALL_LANES = Timing(1, 2, 0.0034, 1 / 200)
SMALL_THREADS = Timing(2, 1, 0.0025, 1 / 130)
LARGE = Timing(1, 1, 0.075, 1 / 14)  # a large one, which decodes in no time
LARGE_LANES = Timing(1, 2, 0.075, 1 / 27)
LARGE_THREADS = Timing(2, 1, 0.041, 1 / 26)
FOUR_THREADS = Timing(4, 1, 0.024, 1 / 26)


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ([SMALL, SMALL_LANES, SMALL_THREADS], SMALL),
        ([LARGE_LANES, LARGE_THREADS], LARGE_LANES),  # 41 ms alone are not half of 75
        ([LARGE_LANES, FOUR_THREADS], FOUR_THREADS),
        ([LARGE_LANES, dataclasses.replace(LARGE_THREADS, alone=0.024, crowd=1 / 23)], LARGE_LANES),
        ([LARGE, LARGE_LANES], LARGE_LANES),
        ([SMALL, dataclasses.replace(SMALL_LANES, crowd=1 / 230)], dataclasses.replace(SMALL_LANES, crowd=1 / 230)),
        ([SMALL, dataclasses.replace(SMALL_THREADS, crowd=1 / 210)], SMALL),  # 3.5 ms are soon enough
    ],
)
def test_the_soonest_of_those_that_carry_a_crowd(timings: list[Timing], expected: Timing) -> None:
    assert quickest(timings) == expected


@pytest.mark.parametrize(
    ("seconds", "images"),
    [
        ({1: 0.0020, 2: 0.0037, 4: 0.0073, 8: 0.0147, 16: 0.0295}, 16),  # 1.84 ms an image
        (
            {1: 0.0020, 2: 0.0037, 4: 0.0073, 8: 0.0147, 16: 0.0330},
            8,
        ),  # 16 cost 2.06 ms each: they fall out of the cache
        ({1: 0.070, 2: 0.138, 4: 0.275}, 1),  # no call is short, so nobody waits for others
        ({1: 0.070, 2: 0.100, 4: 0.190}, 4),  # but 4 cost 47 ms each, and 2 already 50
        ({1: 0.0008, 8: 0.0014, 64: 0.0057}, 64),
        ({1: 0.01}, 1),
    ],
)
def test_as_many_images_as_cost_little_each(seconds: dict[int, float], images: int) -> None:
    assert full_batch(seconds) == images


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        ({1: 0.0020, 16: 0.0295}, 0),  # each takes 1.83 ms and a call 0.17: there is nothing to save
        ({1: 0.0030, 65: 0.0094}, 2),  # 0.1 ms each and 2.9 for the call
        ({1: 0.0500, 65: 0.0564}, 5),
        ({1: 0.0040}, 0),
    ],
)
def test_waiting_for_company_as_long_as_a_call_costs(seconds: dict[int, float], milliseconds: int) -> None:
    assert worthwhile_wait(seconds) == milliseconds


@pytest.mark.parametrize(
    ("cores", "given", "expected"),
    [
        (1, {}, [(1, 1)]),
        (2, {}, [(1, 2), (2, 1)]),
        (3, {}, [(1, 3), (2, 1)]),
        (4, {}, [(1, 4), (2, 2), (4, 1)]),
        (4, {"engine_threads": 0}, [(0, 4), (0, 2), (0, 1)]),
        (4, {"engine_calls": 3}, [(1, 3), (2, 3), (4, 3)]),
        (4, {"engine_calls": 3, "engine_threads": 2}, [(2, 3)]),
    ],
)
def test_what_is_tried(cores: int, given: dict[str, int], expected: list[tuple[int, int]]) -> None:
    settings = Settings(**given, given=frozenset(given))
    assert candidates(cores, settings) == expected


MEASURED = Measurement("onnxruntime-cpu", (LARGE, FOUR_THREADS), {"1": 0.03, "2": 0.04, "8": 0.16})


def test_what_is_set_stands() -> None:
    names = ("engine_threads", "engine_calls", "max_batch", "batch_wait_ms")
    free = applied(Settings(), MEASURED)
    assert [getattr(free, name) for name in names] == [4, 1, 2, 0]
    variables = {"OODGATE_ENGINE_CALLS": "7", "OODGATE_MAX_BATCH": "3"}
    held = applied(Settings.from_environment(variables), MEASURED)
    assert [getattr(held, name) for name in names] == [4, 7, 3, 0]
