"""What happens to the service under far more load than it can carry?

    python -m benchmarks.overload

wrk holds a number of connections that the service can carry, then 64 times as many for a minute, then as few as before.
Beside it, some clients of our own ask one image at a time and time the answers they are given. What must hold: only
200, 429 and 503; the 99th percentile of accepted requests within five times that of a service at its ease; memory
flat over 100,000 requests, from a tenth of the overload on, when every connection has its buffers; afterwards all as
before. Takes two minutes, ends with a verdict on each, and fails if one doesn't hold.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.paths import BUNDLE, IMAGE
from benchmarks.servers import product, wrk

CLIENTS = {"overload": 32}  # most of them are refused, and wait for that; 4 otherwise


@dataclass
class Seen:
    """What our own clients saw: how many answers of each status, and the seconds of those that were decisions.

    And beside it: the service's memory, once a second, and how many requests wrk had answered.
    """

    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    requests: int = 0

    @property
    def growth(self) -> float:
        """The memory at the end over that after a tenth of the time."""
        return self.megabytes[-1] / self.megabytes[len(self.megabytes) // 10]

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return 1e3 * statistics.quantiles(self.seconds, n=100)[98] if len(self.seconds) > 1 else float("nan")

    @property
    def median(self) -> float:
        """Milliseconds."""
        return 1e3 * statistics.median(self.seconds) if self.seconds else float("nan")


def ask(url: str, data: bytes, seen: Seen, stop: threading.Event, delay: float) -> None:
    """Ask until told to stop, a while apart; from `delay` seconds on, so that not all clients see the same moments."""
    stop.wait(delay)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    while not stop.wait(0.01):
        start = time.perf_counter()
        try:
            connection.request("POST", address.path, data)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            seen.statuses[0] += 1
            connection.close()
            continue
        seen.statuses[response.status] += 1
        if response.status == 200:
            seen.seconds.append(time.perf_counter() - start)


def weigh(process: psutil.Process, seen: Seen, stop: threading.Event) -> None:
    """Note the memory of a process and its children once a second until told to stop."""
    while not stop.wait(1):
        family = [process, *process.children(recursive=True)]
        seen.megabytes.append(sum(member.memory_info().rss for member in family) / 1e6)


def phase(name: str, url: str, image: Path, connections: int, seconds: int, process: psutil.Process) -> Seen:
    """Load the service for some seconds, and print what happened."""
    seen, stop, data = Seen(), threading.Event(), image.read_bytes()
    clients = CLIENTS.get(name, 4)
    delays = [seconds / 10 * i / clients for i in range(clients)]
    beside = [threading.Thread(target=ask, args=(url, data, seen, stop, delay)) for delay in delays]
    beside.append(threading.Thread(target=weigh, args=(process, seen, stop)))
    for thread in beside:
        thread.start()
    load = wrk(url, image, connections, seconds)
    stop.set()
    for thread in beside:
        thread.join()
    seen.requests = round(load.rate * seconds) + load.refused
    print(
        f"{name:>9}: {connections:5} connections, {load.rate:6.0f} decisions/s, {load.refused / seconds:7.0f} refused/s, "
        f"{load.failed} failed; accepted p50 {seen.median:6.1f} ms, p99 {seen.p99:6.1f} ms; statuses "
        f"{dict(sorted(seen.statuses.items()))}; {seen.megabytes[-1]:.0f} MB",
        flush=True,
    )
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--connections", type=int, default=16, help="what the service can carry")
    parser.add_argument("--times", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    with product(args.bundle.resolve(), max_connections=2 * args.connections * args.times) as (base, server):
        url, process = f"{base}/classify", psutil.Process(server.pid)
        easy = max(2, args.seconds // 4)
        phase("warm-up", url, args.image, args.connections, 2, process)
        before = phase("before", url, args.image, args.connections, easy, process)
        during = phase("overload", url, args.image, args.connections * args.times, args.seconds, process)
        after = phase("after", url, args.image, args.connections, easy, process)
    unexpected = sorted(set(during.statuses) - {200, 429, 503})
    slower, later, growth = during.p99 / before.p99, after.median / before.median, during.growth
    accepted = len(during.seconds)
    verdicts = {
        f"statuses other than 200, 429, 503: {unexpected or 'none'}": not unexpected,
        f"p99 of {accepted} accepted under overload: {slower:.1f} times that before (at most 5)": slower <= 5,
        f"memory over {during.requests:,} requests: {growth:.3f} times (below 1.05)": growth < 1.05,
        f"median afterwards: {later:.2f} times that before (at most 1.2)": later <= 1.2,
    }
    for text, holds in verdicts.items():
        print(f"{'PASS' if holds else 'FAIL'}: {text}")
    raise SystemExit(not all(verdicts.values()))


if __name__ == "__main__":
    main()
