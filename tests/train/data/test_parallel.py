"""One item ahead, in order, errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from train.data import prefetch


def test_the_same_items() -> None:
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch([None, None])) == [None, None]
    assert list(prefetch([])) == []


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            made[i].set()
            yield i

    for i in prefetch(items()):
        assert i == 2 or made[i + 1].wait(timeout=5)


def test_never_more_than_one_ahead() -> None:
    made = []
    iterator = prefetch(made.append(i) or i for i in range(10))
    next(iterator)
    iterator.close()
    assert made in ([0], [0, 1])


def test_an_error_comes_in_its_place() -> None:
    items = prefetch(1 // (2 - i) for i in range(4))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)
