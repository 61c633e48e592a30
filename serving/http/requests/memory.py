"""The bytes of request bodies that a worker has in hand: one bound for all of them, and a share for each client.

A body is held from its first byte to its answer. What a client announces is checked against what is free before a byte
is read, and counted only as it arrives: a client that announces much and sends little holds little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serving.exceptions import RequestError


class Budget:
    """Counts the bytes in hand, on the event loop.

    Args:
        limit: of them all. A client may hold half of it, so that none shuts out all others; bodies of several images may
            hold three quarters, so that they never shut out single ones.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = limit // 2
        self._bulk = limit * 3 // 4
        self._by_client: Counter[str] = Counter()
        self.in_hand = 0

    @contextmanager
    def holding(self, client: str, bulk: bool) -> Iterator[Hold]:
        """For one request, from before its body is read until it has its answer.

        Args:
            client: who sends it.
            bulk: whether it may have several images.
        """
        hold = Hold(self, client, bulk)
        try:
            yield hold
        finally:
            self.count(client, -hold.size)

    def is_room(self, client: str, size: int, bulk: bool) -> bool:
        """Whether a client may add `size` bytes."""
        room = (self._bulk if bulk else self._limit) - self.in_hand
        return size <= min(room, self._share - self._by_client[client])

    def count(self, client: str, size: int) -> None:
        """Enter bytes that have come, or with a minus gone."""
        self.in_hand += size
        self._by_client[client] += size
        if self._by_client[client] == 0:
            del self._by_client[client]


class Hold:
    """What one request holds."""

    def __init__(self, budget: Budget, client: str, bulk: bool) -> None:
        self._budget = budget
        self._client = client
        self._is_bulk = bulk
        self.size = 0

    def expect(self, size: int) -> None:
        """Check that so many bytes would fit now, and count none.

        Raises:
            RequestError: 503, they would not.
        """
        if not self._budget.is_room(self._client, size, self._is_bulk):
            raise RequestError(
                503,
                "memory_full",
                "too many bytes of other requests are in hand; try again in a moment",
                retry_after="1",
            )

    def take(self, size: int) -> None:
        """Count bytes that have come.

        Raises:
            RequestError: 503, there is no room for them.
        """
        self.expect(size)
        self._budget.count(self._client, size)
        self.size += size
