"""How many images are in hand, and whether there is room for more."""

from __future__ import annotations

import math
from collections import Counter

from serving.exceptions import OVERLOADED


class Room:
    """Images of requests that wait for their answers; what the engine works on counts too, as the next waits for it as well.

    Args:
        single: how many of requests of one image may be in hand.
        bulk: how many of requests of several.
    """

    def __init__(self, single: int, bulk: int) -> None:
        self._most = {False: single, True: bulk}
        self._taken = {False: 0, True: 0}
        self._of_client: Counter[str] = Counter()  # of both kinds

    def is_full(self, bulk: bool, crowd: bool = False, client: str | None = None) -> bool:
        """Whether a request, of several images or of one, would be refused now; earlier while there is a crowd.

        A client that is known to have nothing in hand finds twice the room, so that no other can shut it out alone.
        """
        most = math.ceil(self._most[bulk] / 2) if crowd else self._most[bulk]
        return self._taken[bulk] >= (most if client is None or self._of_client[client] else 2 * most)

    def check(self, bulk: bool, client: str) -> None:
        """
        Raises:
            RequestError: 503, there is none.
        """
        if self.is_full(bulk, client=client):
            raise OVERLOADED.with_traceback(None)  # or it would grow with every request, and hold its images

    def take(self, bulk: bool, client: str, images: int) -> None:
        """So many images more are in hand, or if negative so many less."""
        self._taken[bulk] += images
        self._of_client[client] += images
        if self._of_client[client] == 0:
            del self._of_client[client]
