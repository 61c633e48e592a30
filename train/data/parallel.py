"""Work on many images by a few threads; Pillow lets go of the interpreter while it decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from runtime.exceptions import ImageError

Item = TypeVar("Item")

_RUN = 16  # images a task: for 32 x 32 pixels a task of one would cost a tenth of the decoding


@dataclass(frozen=True)
class Failure:
    """An image, by its position, that could not be worked on."""

    position: int
    error: ImageError | OSError


def each(work: Callable[[int], None], count: int, title: str = "") -> list[Failure]:
    """Call ``work(0)`` to ``work(count - 1)``, with a progress bar on a terminal if there is a title.

    Returns:
        the positions at which `work` raised an ImageError or OSError, ascending.
    """

    def run(start: int) -> list[Failure]:
        failures = []
        for position in range(start, min(start + _RUN, count)):
            try:
                work(position)
            except (ImageError, OSError) as error:
                failures.append(Failure(position, error))
        return failures

    bar = tqdm(total=count, desc=title, unit="image", disable=None if title else True, leave=False)
    failures: list[Failure] = []
    with bar, ThreadPoolExecutor() as pool:
        for found in pool.map(run, range(0, count, _RUN)):
            failures += found
            bar.update(min(_RUN, count - bar.n))
    return failures


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """The same items in the same order, one of them ahead; an error of `items` comes where its item would."""
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, iterator, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, iterator, end)
            yield item  # type: ignore[misc]
