"""How fast is the service, beside the same work done by bare Starlette, by plain BentoML and in process?

    python -m benchmarks.serving --write

All servers run at once on this machine with the same bundle and the same image; short rounds of wrk go from one to the
next in turns, so that whatever else the machine does meets all of them. What is printed are medians of the rounds, and
medians of the rounds' ratios. `--write` puts them into docs/measured/serving_performance.md and .json.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from benchmarks.paths import BUNDLE, IMAGE, MEASURED, ROOT
from benchmarks.servers import Load, product, running, wrk
from runtime import Gate

REPORT = MEASURED / "serving_performance.md"
CONNECTIONS = (1, 16, 64)
BATCH = 64

Rounds = dict[tuple[str, int], list[Load]]


def over_http(servers: dict[str, str], image: Path, rounds: int, seconds: int) -> Rounds:
    """Every server at every number of connections, `rounds` times, in turns."""
    results: Rounds = {(name, count): [] for name in servers for count in CONNECTIONS}
    for url in servers.values():
        wrk(url, image, 4, 1)
    for index in tqdm(range(rounds), desc="wrk", disable=None):
        names = list(servers)
        for count in CONNECTIONS:
            for name in names[index % len(names) :] + names[: index % len(names)]:
                results[name, count].append(wrk(servers[name], image, count, seconds))
    return results


def batches(url: str, bundle: Path, image: Path, rounds: int) -> dict[str, float]:
    """Seconds for 64 images as files and as an array, over HTTP and in process, and the rounds' ratios."""
    gate = Gate.load(bundle, threads=1)
    data = image.read_bytes()
    files = [data] * BATCH
    array = np.stack([gate.preprocess(data)] * BATCH)
    buffer = io.BytesIO()
    np.save(buffer, array)
    part = b'--b\r\ncontent-disposition: form-data; name="images"; filename="x"\r\n\r\n%s\r\n'
    form = b"".join(part % file for file in files) + b"--b--\r\n"
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)

    def post(body: bytes, kind: str) -> None:
        connection.request("POST", "/classify_batch", body, {"content-type": kind})
        answer = connection.getresponse()
        assert len(json.loads(answer.read())["results"]) == BATCH

    contestants: dict[str, Callable[[], object]] = {
        "files over HTTP": lambda: post(form, "multipart/form-data; boundary=b"),
        "files in process": lambda: gate.decide_each(files),
        "array over HTTP": lambda: post(buffer.getvalue(), "application/x-npy"),
        "array in process": lambda: gate.decide(array),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for index in range(rounds + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            for _ in range(5):
                work()
            if index:  # the first round warms up
                times[name].append((time.perf_counter() - start) / 5)
    result = {name: statistics.median(values) for name, values in times.items()}
    for kind in ("files", "array"):
        pairs = zip(times[f"{kind} in process"], times[f"{kind} over HTTP"], strict=True)
        result[f"{kind} ratio"] = statistics.median(inside / outside for inside, outside in pairs)
    return result


def summary(results: Rounds) -> list[dict[str, Any]]:
    """Medians of the rounds, and of their ratios to the product's."""
    rows = []
    for (name, count), loads in results.items():
        ours = results["oodgate", count]
        row = {
            "server": name,
            "connections": count,
            "requests/s": statistics.median(load.rate for load in loads),
            "p50 ms": statistics.median(load.p50 for load in loads),
            "p99 ms": statistics.median(load.p99 for load in loads),
            "refused": sum(load.refused + load.failed for load in loads),
            "oodgate is": statistics.median(o.rate / load.rate for o, load in zip(ours, loads, strict=True)),
            "p99 is": statistics.median(o.p99 / load.p99 for o, load in zip(ours, loads, strict=True)),
        }
        rows.append(row)
    return sorted(rows, key=lambda row: (row["connections"], row["server"]))


def markdown(rows: list[dict[str, Any]], batch: dict[str, float], rounds: int, seconds: int) -> str:
    """The report."""
    cores = len(os.sched_getaffinity(0))
    lines = [
        "# How fast the service is",
        "",
        f"Measured by `python -m benchmarks.serving --write`: medians of {rounds} rounds of {seconds} s, taken in turns on "
        f"one machine ({cores} cores, {platform.machine()}, Python {platform.python_version()}), wrk on the same cores.",
        "The same image and the same graph everywhere. `bare` is Starlette, uvicorn and ONNX Runtime on the event loop,",
        "`bare, threads` the same in Starlette's thread pool, `BentoML` a plain endpoint with an image argument.",
        "",
        "| connections | server | requests/s | p50, ms | p99, ms | oodgate's rate / this | oodgate's p99 / this |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['connections']} | {row['server']} | {row['requests/s']:.0f} | {row['p50 ms']:.2f} | {row['p99 ms']:.2f} "
        f"| {row['oodgate is']:.2f} | {row['p99 is']:.2f} |"
        for row in rows
    ]
    lines += ["", f"A request of {BATCH} images, one at a time:", "", "| | over HTTP, ms | in process, ms | speed |"]
    lines += ["|---|---|---|---|"]
    for kind, name in (("files", "image files"), ("array", ".npy array")):
        outside, inside = 1e3 * batch[f"{kind} over HTTP"], 1e3 * batch[f"{kind} in process"]
        lines.append(f"| {name} | {outside:.1f} | {inside:.1f} | {batch[f'{kind} ratio']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.relative_to(ROOT)} and its .json")
    args = parser.parse_args()
    bundle = args.bundle.resolve()
    uvicorn = ("python", "-m", "uvicorn", "benchmarks.peers.bare:app", "--port", "{port}", "--no-access-log")
    bentoml = ("bentoml", "serve", "benchmarks.peers.plain_bentoml:Plain", "--port", "{port}")
    with contextlib.ExitStack() as stack:
        ours, _ = stack.enter_context(product(bundle, workers=1))
        bare, _ = stack.enter_context(running(*uvicorn, probe="/", BUNDLE=str(bundle)))
        threads, _ = stack.enter_context(running(*uvicorn, probe="/", BUNDLE=str(bundle), THREADS="1"))
        plain, _ = stack.enter_context(running(*bentoml, probe="/readyz", BUNDLE=str(bundle)))
        urls = {"oodgate": ours, "bare": bare, "bare, threads": threads, "BentoML": plain}
        servers = {name: f"{url}/classify" for name, url in urls.items()}
        rows = summary(over_http(servers, args.image.resolve(), args.rounds, args.seconds))
        batch = batches(ours, bundle, args.image, args.rounds)
    text = markdown(rows, batch, args.rounds, args.seconds)
    print(text)
    if args.write:
        REPORT.write_text(text)
        REPORT.with_suffix(".json").write_text(json.dumps({"classify": rows, "batch": batch}, indent=1) + "\n")


if __name__ == "__main__":
    main()
