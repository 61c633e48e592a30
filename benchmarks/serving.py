"""How fast is the service, beside the same work done by other servers and in process?

    python -m benchmarks.serving --write
    python -m benchmarks.serving --write --name "224 pixels" --bundle LITE0 --image 640x480.jpg --connections 1 16 64

All servers run at once on this machine with the same bundle and the same image, with as many workers or replicas as there
are cores where they are made to have several; short rounds of wrk go from one to the next in turns, so that whatever else
the machine does meets all of them. What is printed are medians of the rounds, and medians of the rounds' ratios. `--write`
puts them into docs/measured/serving_performance.md and .json, beside the workloads of other names that are there;
benchmarks.photographs makes JPEGs of 640 x 480 and of 12 million pixels.

LitServe, MLServer, Ray Serve and KServe want environments of their own: `--environment DIR`, repeatable, names one that has
such a server, onnxruntime, pillow and orjson.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from benchmarks.paths import BUNDLE, IMAGE, MEASURED, ROOT
from benchmarks.servers import Load, processor_seconds, product, resident, running, wrk
from benchmarks.serving_page import BATCH, markdown, section, sent
from runtime import Gate
from serving.settings import Settings, cores

REPORT = MEASURED / "serving_performance.md"
CONNECTIONS = (1, 16, 64, 256)
_DRAINING, _IDLE = 60, 0.15  # seconds at most, and the share of a core that counts as nothing
OURS = "oodgate"

# The service by its defaults, with a worker a core, and letting all connections in.
PRODUCTS: dict[str, dict[str, object]] = {
    OURS: {},
    f"{OURS}, a worker a core": {"workers": cores()},
    f"{OURS}, all let in": {"max_queue": 512, "max_concurrency": 512},
}


@dataclass(frozen=True)
class Peer:
    """A server that wants an environment of its own.

    Attributes:
        package: by which an environment is known to have it.
        command: of Python.
        probe: a route that answers once it is ready.
        route: that decides.
        form: what holds the image: "raw", the request itself, or JSON in "base64".
    """

    package: str
    command: tuple[str, ...]
    probe: str
    route: str
    form: str = "raw"


PEERS = {
    "LitServe": Peer(
        "litserve", ("benchmarks.peers.litserve_api", "--port", "{port}"), "/health", "/classify", "base64"
    ),
    "MLServer": Peer(
        "mlserver", ("benchmarks.peers.mlserver_model", "--port", "{port}"), "/v2/health/ready", "/classify"
    ),
    "Ray Serve": Peer("ray", ("benchmarks.peers.ray_app", "--port", "{port}"), "/-/healthz", "/classify"),
    "KServe": Peer(
        "kserve",
        ("benchmarks.peers.kserve_model", "--http_port", "{port}"),
        "/v2/health/ready",
        "/v1/models/gate:predict",
        "base64",
    ),
}


@dataclass(frozen=True)
class Server:
    """A server that is up: where it decides, what it is sent, and its process."""

    url: str
    body: Path
    media: str
    pid: int

    def load(self, connections: int, seconds: int) -> Load:
        """What wrk sees; afterwards what it left unanswered is worked off, so that the next server has the machine."""
        seen = wrk(self.url, self.body, connections, seconds, self.media)
        limit = time.monotonic() + _DRAINING
        while self._busy() > _IDLE and time.monotonic() < limit:
            pass
        return seen

    def _busy(self, seconds: float = 0.2) -> float:
        """The share of a core that its processes take."""
        before = processor_seconds(self.pid)
        time.sleep(seconds)
        return (processor_seconds(self.pid) - before) / seconds

    @property
    def megabytes(self) -> float:
        """Resident memory of all its processes: what they share is counted in each."""
        return resident(self.pid)


Rounds = dict[tuple[str, int], list[Load]]


def bodies(image: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """The file to send and its media type, for each form that holds the image."""
    instance = {"image": {"b64": base64.b64encode(image.read_bytes()).decode()}}
    encoded = folder / "instances.json"
    encoded.write_text(json.dumps({"instances": [instance]}))
    return {"raw": (image, f"image/{image.suffix[1:]}"), "base64": (encoded, "application/json")}


@contextlib.contextmanager
def servers(
    bundle: Path, image: Path, engine: str, environments: list[Path], products: dict[str, dict[str, object]]
) -> Iterator[dict[str, Server]]:
    """All servers, up."""
    uvicorn = ("python", "-m", "uvicorn", "benchmarks.peers.bare:app", "--port", "{port}", "--no-access-log")
    bentoml = ("bentoml", "serve", "benchmarks.peers.plain_bentoml:Plain", "--port", "{port}")
    found = {}
    with contextlib.ExitStack() as stack:
        forms = bodies(image, Path(stack.enter_context(tempfile.TemporaryDirectory())))

        def up(name: str, command: tuple[str, ...], probe: str, route: str, form: str, **variables: str) -> None:
            url, process = stack.enter_context(running(*command, probe=probe, BUNDLE=str(bundle), **variables))
            found[name] = Server(url + route, *forms[form], process.pid)

        for name, settings in products.items():
            url, process = stack.enter_context(product(bundle, engine=engine, **settings))
            found[name] = Server(f"{url}/classify", *forms["raw"], process.pid)
        up("bare", uvicorn, "/", "/classify", "raw")
        up("bare, threads", uvicorn, "/", "/classify", "raw", THREADS="1")
        up("BentoML", bentoml, "/readyz", "/classify", "raw")
        for environment in environments:
            for name, peer in PEERS.items():
                if any(environment.glob(f"lib/python*/site-packages/{peer.package}")):
                    python = (str(environment.resolve() / "bin" / "python"), "-m", *peer.command)
                    up(name, python, peer.probe, peer.route, peer.form)
        yield found


def over_http(up: dict[str, Server], connections: Sequence[int], rounds: int, seconds: int) -> Rounds:
    """Every server at every number of connections, `rounds` times, in turns."""
    results: Rounds = {(name, count): [] for name in up for count in connections}
    for server in up.values():
        server.load(4, 1)
    for index in tqdm(range(rounds), desc="wrk", disable=None):
        names = list(up)
        for count in connections:
            for name in names[index % len(names) :] + names[: index % len(names)]:
                results[name, count].append(up[name].load(count, seconds))
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


def summary(results: Rounds, memory: dict[str, float]) -> list[dict[str, Any]]:
    """Medians of the rounds, and of their ratios to the product's."""
    rows = []
    for (name, count), loads in results.items():
        ours = results[OURS, count]
        row = {
            "server": name,
            "connections": count,
            "requests/s": statistics.median(load.rate for load in loads),
            "p50 ms": statistics.median(load.p50 for load in loads),
            "p99 ms": statistics.median(load.p99 for load in loads),
            "RSS MB": memory[name],
            "refused": sum(load.refused + load.failed for load in loads),
            "oodgate is": statistics.median(_ratio(o.rate, load.rate) for o, load in zip(ours, loads, strict=True)),
            "p99 is": statistics.median(_ratio(o.p99, load.p99) for o, load in zip(ours, loads, strict=True)),
        }
        rows.append(row)
    return sorted(rows, key=lambda row: (row["connections"], row["server"]))


def _ratio(ours: float, other: float) -> float:
    """Infinite where the other answered nothing in a round."""
    return ours / other if other else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--engine", default="auto", help="oodgate's; the others have ONNX Runtime")
    parser.add_argument("--environment", type=Path, action="append", default=[], metavar="DIR", help="has a peer")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--name", default="32 pixels", help="of the workload on the page (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.relative_to(ROOT)} and its .json")
    args = parser.parse_args()
    args.bundle, args.image = args.bundle.resolve(), args.image.resolve()
    few = max(args.connections) <= Settings().max_queue  # who are let in anyway
    products = {name: settings for name, settings in PRODUCTS.items() if "max_queue" not in settings or not few}
    with servers(args.bundle, args.image, args.engine, args.environment, products) as up:
        results = over_http(up, args.connections, args.rounds, args.seconds)
        workload: dict[str, Any] = {
            **{"bundle": args.bundle.name, "engine": args.engine, "sent": sent(args.image), "load": os.getloadavg()[0]},
            **{"rounds": args.rounds, "seconds": args.seconds},
            "classify": summary(results, {name: server.megabytes for name, server in up.items()}),
        }
        if args.bundle == BUNDLE:
            url = up[OURS].url.removesuffix("/classify")
            workload["batch"] = batches(url, args.bundle, args.image, args.rounds)
    print("\n".join(section(args.name, workload)))
    if args.write:
        file = REPORT.with_suffix(".json")
        known = json.loads(file.read_text()) if file.exists() else {}
        known[args.name] = workload
        file.write_text(json.dumps(known, indent=1) + "\n")
        REPORT.write_text(markdown(known))


if __name__ == "__main__":
    main()
