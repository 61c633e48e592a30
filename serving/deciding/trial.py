"""Whether an engine takes a batch, asked of one that fails or hangs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from runtime import Gate


def tried(gate: Gate) -> asyncio.Future[bool]:
    """Whether a batch comes back well, on the running event loop; from a thread that nobody waits for at the end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def run() -> None:
        works = True
        try:
            gate.warm_up()
        except Exception:  # for which batches have been logged
            works = False
        with suppress(RuntimeError):  # the service has ended meanwhile
            loop.call_soon_threadsafe(answer.set_result, works)

    threading.Thread(target=run, name="oodgate-trial", daemon=True).start()
    return answer
