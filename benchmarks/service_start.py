"""How long until the service is ready, and how much memory does it take?

    python -m benchmarks.service_start --engine onnxruntime-cpu openvino

Starts `oodgate serve` and `bentoml serve` on the shipped bundle several times, engines in turns, polls /readyz and sums over
all its processes: the processor's seconds until it is ready, which other processes hardly change, and resident memory, once
when ready and once after some requests. The first start of each engine, which compiles and measures, is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from pathlib import Path

import httpx

from benchmarks.paths import BUNDLE, IMAGE
from benchmarks.servers import SERVERS, processor_seconds, product, resident


def measure(bundle: Path, server: str, engine: str, requests: int) -> tuple[float, float, float, float]:
    """Seconds until ready, the processor's, megabytes when ready, megabytes after the requests."""
    start = time.perf_counter()
    with (
        product(bundle, server=server, engine=engine, workers=1) as (url, process),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        ready, used, memory = time.perf_counter() - start, processor_seconds(process.pid), resident(process.pid)
        for _ in range(requests):
            client.post("/classify", content=IMAGE.read_bytes()).raise_for_status()
        return ready, used, memory, resident(process.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--engine", nargs="+", default=["auto"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=500)
    args = parser.parse_args()
    runs: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {
        pair: [] for pair in itertools.product(SERVERS, args.engine)
    }
    for number in range(args.runs + 1):
        for (server, engine), found in runs.items():
            measured = measure(args.bundle.resolve(), server, engine, args.requests)
            if number:
                found.append(measured)
    print(f"load average {os.getloadavg()[0]:.1f}")
    for (server, engine), found in runs.items():
        ready, used, memory, after = (statistics.median(values) for values in zip(*found, strict=True))
        print(
            f"{server} serve, {engine}: median of {args.runs}: ready after {ready:.2f} s, the processor "
            f"{used:.2f} s, {memory:.0f} MB, {after:.0f} MB after {args.requests} requests"
        )


if __name__ == "__main__":
    main()
