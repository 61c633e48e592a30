"""Whose turn it is: a queue that clients take turns in, one request each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue of requests of one or more items. A client's requests keep their order, and clients take turns.

    So who has many requests waiting does not keep one who has few from an answer. A request's items come one after
    another: were they mixed with others', all would be late together.
    """

    def __init__(self) -> None:
        self._current: deque[T] = deque()
        self._waiting: dict[str, deque[deque[T]]] = {}  # by client, the next one first

    def __bool__(self) -> bool:
        return bool(self._current or self._waiting)

    def append(self, client: str, items: Iterable[T]) -> None:
        """Queue one request."""
        if request := deque(items):
            self._waiting.setdefault(client, deque()).append(request)

    def popleft(self) -> T:
        """The next item.

        Raises:
            IndexError: there is none.
        """
        if not self._current and self._waiting:
            client = next(iter(self._waiting))
            requests = self._waiting.pop(client)
            self._current = requests.popleft()
            if requests:
                self._waiting[client] = requests  # behind all others
        return self._current.popleft()
