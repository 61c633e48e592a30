"""How long until `bentoml serve` is ready, and how much memory does it take?

    python -m benchmarks.service_start

Starts the service on the shipped bundle several times, polls /readyz and sums the resident memory of all its
processes, once when ready and once after some requests.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "serving" / "page" / "samples" / "ship.png"


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes of a process and its children."""
    parent = psutil.Process(process.pid)
    return sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)]) / 1e6


def answers(client: httpx.Client) -> bool:
    """Whether the service is ready."""
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def measure(requests: int) -> tuple[float, float, float]:
    """Seconds until ready, megabytes when ready, megabytes after the requests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("bentoml"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True"}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while not answers(client):
                if process.poll() is not None or time.perf_counter() - start > 60:
                    raise SystemExit("error: the service did not become ready; run `bentoml serve` to see why")
                time.sleep(0.02)
            ready, memory = time.perf_counter() - start, resident(process)
            for _ in range(requests):
                client.post("/classify", content=SAMPLE.read_bytes()).raise_for_status()
            return ready, memory, resident(process)
    finally:
        process.terminate()
        process.wait(timeout=30)


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
