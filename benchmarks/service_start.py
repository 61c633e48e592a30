"""How long until `bentoml serve` is ready, and how much memory does it take?

    python -m benchmarks.service_start

Starts the service on the shipped bundle several times, polls /readyz and sums the resident memory of all its
processes, once when ready and once after some requests.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time

import httpx
import psutil

from benchmarks.paths import BUNDLE, IMAGE
from benchmarks.servers import product


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes of a process and its children."""
    parent = psutil.Process(process.pid)
    return sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)]) / 1e6


def measure(requests: int) -> tuple[float, float, float]:
    """Seconds until ready, megabytes when ready, megabytes after the requests."""
    start = time.perf_counter()
    with product(BUNDLE) as (url, process), httpx.Client(base_url=url) as client:
        ready, memory = time.perf_counter() - start, resident(process)
        for _ in range(requests):
            client.post("/classify", content=IMAGE.read_bytes()).raise_for_status()
        return ready, memory, resident(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=500)
    args = parser.parse_args()
    runs = [measure(args.requests) for _ in range(args.runs)]
    ready, memory, after = (statistics.median(values) for values in zip(*runs, strict=True))
    print(
        f"median of {args.runs}: ready after {ready:.2f} s, {memory:.0f} MB, {after:.0f} MB after {args.requests} requests"
    )


if __name__ == "__main__":
    main()
