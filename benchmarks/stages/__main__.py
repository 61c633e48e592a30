"""Where does the time of a request go, at 1 and at 16 connections, in microseconds by stage?

    python -m benchmarks.stages 32=bundles/cifar10,serving/page/samples/ship.png 224=LITE0,640x480.jpg

Each CASE is NAME=BUNDLE,IMAGE. The application runs as in a worker, with a clock in every stage, and wrk asks over so
many connections. For each stage: the processor's time, which other processes add little to, and the time on the clock, in
which the interpreter may have been another thread's and the core another process's. `everything else` is what the process
used beside them: asyncio, Starlette, the middleware, the body, locks. `share of the limit` is what decoding, resizing and
the engine used of all cores, of which 100 % is the most that can be answered. --write adds this machine's figures to those of
others in docs/measured/stages.md and .json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import beside, machine
from benchmarks.paths import MEASURED, ROOT
from benchmarks.servers import Load, running, wrk
from export.report.table import layout
from serving.settings import cores

CONNECTIONS = (1, 16)
LIMIT = ("decode", "resize", "engine")
REPORT = MEASURED / "stages.md"
_STAGES = ("HTTP: parse", "decode", "resize", "engine", "rule", "listeners, metrics", "JSON", "write")
_REST, _WAITS = "everything else", "waits"


Variables = dict[str, str]


def measure(bundle: Path, image: Path, ways: list[Variables], rounds: int, seconds: int) -> list[list[dict[str, Any]]]:
    """For each way to run it a row for each number of connections; medians of the rounds, in which the ways take turns."""
    command = ("python", "-m", "benchmarks.stages.server", "{port}")
    found: list[dict[int, list[dict[str, Any]]]] = [{count: [] for count in CONNECTIONS} for _ in ways]
    with contextlib.ExitStack() as stack:
        clients = []
        for variables in ways:
            up = running(*command, probe="/v2/health/ready", OODGATE_BUNDLE=str(bundle), **variables)
            clients.append(stack.enter_context(httpx.Client(base_url=stack.enter_context(up)[0], timeout=60)))
        models = [client.get("/model").json() for client in clients]
        for client in clients:
            wrk(str(client.base_url.join("/classify")), image, 4, 1)
        for _, count in itertools.product(range(rounds), CONNECTIONS):
            for client, rows in zip(clients, found, strict=True):
                _settle(client)
                load = wrk(str(client.base_url.join("/classify")), image, count, seconds)
                rows[count].append(figures(load, client.get("/stages").raise_for_status().json(), seconds))
    return [
        [
            {"connections": count, "ran on": model["engine"], "tuning": model["tuning"], **_medians(each)}
            for count, each in rows.items()
        ]
        for model, rows in zip(models, found, strict=True)
    ]


def _settle(client: httpx.Client) -> None:
    """Until what was asked before is answered, and nothing of it is counted."""
    idle = False
    while not idle:
        time.sleep(0.25)
        passed = client.get("/stages").raise_for_status().json()
        idle = passed["process"] < 0.1 * passed["clock"]


def figures(load: Load, taken: dict[str, Any], seconds: int) -> dict[str, Any]:
    """What one round says, by request."""
    requests = load.rate * seconds
    row: dict[str, Any] = {"requests/s": load.rate, "p50 ms": load.p50, "p99 ms": load.p99}
    inside = 0.0
    for stage in _STAGES:
        passed, spent = taken["stages"].get(stage, (0, 0))
        inside += spent
        row[stage] = 1e-3 * spent / requests
        row[f"{stage}, clock"] = 1e-3 * passed / requests
    row[_REST] = (1e6 * taken["process"] - 1e-3 * inside) / requests
    for stage, waited in taken["waits"].items():  # an image that comes alone is decided at once and waits for nothing
        row[f"{_WAITS}: {stage}"] = 1e-3 * waited / requests
    used = sum(taken["stages"].get(stage, (0, 0))[1] for stage in LIMIT)
    row["share of the limit"] = 1e-9 * used / seconds / cores()
    return row


def _medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.median(row.get(name, 0.0) for row in rows) for name in names}


def table(rows: list[dict[str, Any]]) -> str:
    """One case: a line a stage, columns by the number of connections."""
    header = ["microseconds a request"]
    for row in rows:
        header += [f"{row['connections']}: processor", "clock"]
    lines = [header]
    for stage in (*_STAGES, _REST):
        cells = [(f"{row[stage]:.0f}", f"{row[f'{stage}, clock']:.0f}" if stage != _REST else "") for row in rows]
        lines.append([stage, *(cell for pair in cells for cell in pair)])
    for wait in dict.fromkeys(name for row in rows for name in row if name.startswith(_WAITS)):
        lines.append([wait, *(cell for row in rows for cell in ("", f"{row.get(wait, 0.0):.0f}"))])
    for name, text in (("requests/s", "{:.0f}"), ("p50 ms", "{:.2f}"), ("p99 ms", "{:.2f}")):
        lines.append([name, *(cell for row in rows for cell in ("", text.format(row[name])))])
    share = [cell for row in rows for cell in (f"{100 * row['share of the limit']:.0f} %", "")]
    return layout([*lines, ["share of the limit", *share]], True)


def report(known: dict[str, dict[str, Any]]) -> str:
    """The whole page, of every machine."""
    parts = [
        "# Where the time of a request goes",
        "By `python -m benchmarks.stages CASE ..`, wrk on the same cores; medians of rounds. `processor` is its time, "
        "`clock` what passed meanwhile, in which the interpreter was another thread's and the core another process's. "
        "`waits` are between stages. `share of the limit` is what decoding, resizing and the engine used of all cores. "
        "Where OODGATE_ENGINE_CALLS is below the cores, images are decoded by some threads and handed to another for the "
        "engine, as all were before each core had an engine call and its thread decoded for itself.",
    ]
    for name, figures in known.items():
        parts += [f"## {name}", figures["conditions"]]
        for case, rows in figures["cases"].items():
            tuning = ", ".join(f"{key} {value}" for key, value in rows[0]["tuning"].items())
            parts += [f"### {case}", f"On {rows[0]['ran on']}; {tuning}.", table(rows)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="+", metavar="NAME=BUNDLE,IMAGE")
    parser.add_argument("--engine", default="onnxruntime-cpu")
    parser.add_argument("--beside", nargs="+", metavar="OODGATE_X=VALUE", help="once more, with these variables")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.relative_to(ROOT)} and its .json")
    args = parser.parse_args()
    ways = {"": {"OODGATE_ENGINE": args.engine}}
    if args.beside:
        others = dict(variable.split("=", 1) for variable in args.beside)
        ways[f", {' '.join(args.beside)}"] = {**ways[""], **others}
    found: dict[str, list[dict[str, Any]]] = {}
    for case in args.cases:
        name, _, rest = case.partition("=")
        bundle, image = (Path(part).resolve() for part in rest.split(","))
        measured = measure(bundle, image, list(ways.values()), args.rounds, args.seconds)
        found |= {name + way: rows for way, rows in zip(ways, measured, strict=True)}
    figures = {
        "conditions": f"Medians of {args.rounds} rounds of {args.seconds} s; Python {platform.python_version()}; "
        f"load average {os.getloadavg()[0]:.1f}.",
        "cases": found,
    }
    print(report({machine(): figures}))
    if args.write:
        REPORT.write_text(report(beside(REPORT.with_suffix(".json"), machine(), figures)))


if __name__ == "__main__":
    main()
