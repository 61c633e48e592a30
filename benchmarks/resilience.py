"""Does the service keep its promises when it is ended, killed, reloaded, or asked for what is not there?

    python -m benchmarks.resilience

Real processes with two workers, of `oodgate serve` or `bentoml serve`, on small made-up bundles (needs the `dev` extra).
Ends with a verdict on each promise, and fails if one is broken. A hundred reloads take two minutes, the rest half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from benchmarks.servers import SERVERS, product, workers
from runtime import Gate
from runtime.bundle import MODEL, Bundle, write
from tests.serving.decisions import assert_same
from tests.small import calibration_images, classifier, encode, write_bundle

IMAGES = [encode(image) for image in calibration_images(24, seed=5)]
HELD = 48  # requests in hand when the end comes
LIMIT = 60  # seconds to wait for anything

Verdict = tuple[bool, str]


class Load:
    """Clients that ask all the time, each over a connection that it keeps.

    Args:
        url: of the service.
        check: raises if an answer's JSON, for the image of that number, is not right.
        clients: how many.
    """

    def __init__(self, url: str, check: Callable[[int, dict[str, object]], None], clients: int = 4) -> None:
        self.answered = 0
        self.unanswered = 0  # connections closed without a byte, so whose request was not accepted
        self.faults: list[str] = []
        self._url = url
        self._check = check
        self._stop = threading.Event()
        self._count = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(timeout=LIMIT) as client:
            while not self._stop.is_set():
                number = (number + 1) % len(IMAGES)
                try:
                    answer = client.post(f"{self._url}/classify", content=IMAGES[number])
                    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
                    self._check(number, answer.json())
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                    if "incomplete" in str(error):  # some bytes of an answer, and not the rest
                        self.faults.append(str(error))
                    with self._count:
                        self.unanswered += 1
                    time.sleep(0.05)
                except (AssertionError, ValueError) as error:
                    self.faults.append(str(error)[:300])
                else:
                    with self._count:
                        self.answered += 1


def expected(*bundles: Bundle) -> Callable[[int, dict[str, object]], None]:
    """Checks that a decision is that of one of these bundles, in every field."""
    decisions = {
        bundle.manifest.files[MODEL].sha256: [d.to_dict() for d in Gate.load(bundle.path, threads=1).decide(IMAGES)]
        for bundle in bundles
    }

    def check(number: int, found: dict[str, object]) -> None:
        model = found["model"]
        assert isinstance(model, dict)
        assert_same(found, decisions[model["sha256"]][number])

    return check


def total(url: str, series: str) -> float:
    """The sum of the series whose name and labels start so."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def until(holds: Callable[[], bool]) -> bool:
    """Wait until something holds; whether it did in time."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def counts(bundle: Bundle, command: str) -> Iterator[tuple[str, Verdict]]:
    """Two workers' sums, and the number of series."""
    with product(bundle.path, server=command, workers=2) as (url, _):
        asked = 400
        for number in range(asked):  # a connection each, so that both workers get some
            httpx.post(f"{url}/classify", content=IMAGES[number % len(IMAGES)]).raise_for_status()
        time.sleep(2.5)  # the drift watch writes once a second
        decided, requests = (
            total(url, "oodgate_decisions_total"),
            total(url, 'oodgate_requests_total{route="/classify"'),
        )
        watched = [httpx.get(f"{url}/drift").json()["total_images"] for _ in range(4)]
        sums = [decided, requests, *watched]
        yield "two workers count in sum", (set(sums) == {asked}, f"{asked} requests; counted {sums}")

        def series() -> int:
            return sum(not line.startswith("#") for line in httpx.get(f"{url}/metrics").text.splitlines())

        for _ in range(20):
            httpx.get(f"{url}/nothing")
        before = series()
        for _ in range(500):
            httpx.get(f"{url}/{secrets.token_hex(8)}")
        after = series()
        yield "random paths make no series", (after == before, f"{before} before 500 random paths, {after} after")


def killed(bundle: Bundle, command: str) -> Iterator[tuple[str, Verdict]]:
    """A worker is killed: the other serves on, it comes back, and readiness tells the truth."""
    check = expected(bundle)
    with product(bundle.path, server=command, workers=2) as (url, server), Load(url, check) as load:
        time.sleep(1)
        victim = workers(server.pid)[0]
        victim.kill()
        start = time.monotonic()
        back = until(lambda: len([child for child in workers(server.pid) if child.pid != victim.pid]) == 2)
        seconds = time.monotonic() - start
        time.sleep(3)
    lost = load.unanswered
    fine = back and not load.faults and lost <= 4  # at most what its four connections had in hand
    yield (
        "a killed worker comes back",
        (fine, f"after {seconds:.1f} s; {load.answered} answered, {lost} lost with it, faults {load.faults[:1]}"),
    )
    with product(bundle.path, server=command, workers=1) as (url, server):
        workers(server.pid)[0].kill()
        start, lies, polls = time.monotonic(), 0, 0
        while time.monotonic() - start < LIMIT:
            polls += 1
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz", timeout=0.5).status_code == 200:
                    if httpx.post(f"{url}/classify", content=IMAGES[0], timeout=2).status_code == 200:
                        break
                    lies += 1
            time.sleep(0.05)
        seconds = time.monotonic() - start
    fine = lies == 0 and seconds < LIMIT
    yield "the only worker killed: ready only when it is", (fine, f"{seconds:.1f} s, {polls} looks, {lies} lies")


def ended(bundle: Bundle, command: str) -> Iterator[tuple[str, Verdict]]:
    """SIGTERM while large images are in hand and clients keep asking."""
    large = encode(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8))
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(large)
    with product(bundle.path, server=command, workers=2) as (url, server), Load(url, expected(bundle)) as load:
        address = urlsplit(url)
        time.sleep(1)
        before = total(url, "oodgate_decisions_total")
        held = [socket.create_connection((str(address.hostname), int(address.port or 0)), LIMIT) for _ in range(HELD)]
        for connection in held:
            connection.sendall(head + large)
        read = 'oodgate_stage_seconds_count{stage="read"}'
        until(lambda: total(url, read) - total(url, "oodgate_decisions_total") > HELD / 4)
        until(lambda: total(url, read) >= before + HELD)
        os.kill(server.pid, signal.SIGTERM)
        answers = [b"".join(iter(lambda c=connection: c.recv(65536), b"")) for connection in held]
        status = server.wait(LIMIT)
    statuses = [answer[9:12].decode() or "none" for answer in answers]
    fine = set(statuses) == {"200"} and not load.faults and status == 0
    found = {status: statuses.count(status) for status in set(statuses)}
    yield (
        "SIGTERM: what was accepted is answered",
        (fine, f"{HELD} large images in hand: {found}; {load.answered} others answered, faults {load.faults[:1]}"),
    )


def reloaded(first: Bundle, second: Bundle, command: str, times: int) -> Iterator[tuple[str, Verdict]]:
    """The bundle is replaced again and again, then by a damaged one."""
    check = expected(first, second)
    path = first.path.with_name("served")
    write(path, first.manifest, {MODEL: first.model}, {})
    swapped, refused = 'oodgate_reloads_total{outcome="swapped"}', 'oodgate_reloads_total{outcome="refused"}'
    with product(path, server=command, workers=2) as (url, _), Load(url, check) as load:
        until(lambda: total(url, "oodgate_bundle_info{") == 2)  # the service is ready when one of its workers is
        done = 0
        for number in range(times):
            new = (second, first)[number % 2]
            write(path, new.manifest, {MODEL: new.model}, {})
            if not until(lambda number=number: total(url, swapped) == 2 * (number + 1)):
                break
            done += 1
        yield (
            "hot reload under load",
            (
                done == times and not load.faults and not load.unanswered,
                f"{done} of {times} by both workers; {load.answered} answered, each wholly by one bundle, "
                f"{load.unanswered} failed, faults {load.faults[:1]}",
            ),
        )
        model = path / MODEL
        model.write_bytes(model.read_bytes()[:-1] + b"?")
        seen = until(lambda: total(url, refused) == 2)
        answered = load.answered
        time.sleep(1)
        serves = load.answered > answered and not load.faults
        yield "a damaged bundle is refused, the old one serves", (seen and serves, f"faults {load.faults[:1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--server", choices=SERVERS, default="oodgate", help="default: %(default)s")
    args = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as directory:
        first = write_bundle(Path(directory) / "first", classifier())
        second = write_bundle(Path(directory) / "second", classifier(("car", "truck", "plane", "tram"), seed=1))
        for verdicts in (
            counts(first, args.server),
            killed(first, args.server),
            ended(first, args.server),
            reloaded(first, second, args.server, args.reloads),
        ):
            for name, (holds, found) in verdicts:
                print(f"{'PASS' if holds else 'FAIL'}: {name}: {found}", flush=True)
                broken += not holds
    raise SystemExit(broken > 0)


if __name__ == "__main__":
    main()
