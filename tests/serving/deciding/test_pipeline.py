"""What the pipeline guarantees, on a gate that can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.exceptions import EngineError, NotAnImage
from serving.deciding.job import Job, Ticket, infer
from serving.deciding.pipeline import Pipeline, suitable_batch, suited
from serving.exceptions import Expired
from serving.settings import Settings
from tests.serving.decisions import assert_same
from tests.small import calibration_images, encode


class SlowGate:
    """Decides that an image is its first pixel; its engine waits for `go`, and records its batches."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[list[int]] = []
        self.fails = False

    def preprocess(self, data: bytes) -> npt.NDArray[np.uint8]:
        if data == b"bad":
            raise NotAnImage("no")
        return np.full((2, 2, 3), data[0], np.uint8)

    def run(self, images: npt.NDArray[np.uint8]) -> list[int]:
        batch = images[:, 0, 0, 0].tolist()
        self.batches.append(batch)
        assert self.go.wait(10)
        if self.fails:
            raise EngineError("broken")
        return cast("list[int]", batch)

    def decisions(self, outputs: list[int]) -> list[int]:
        return outputs


class Run:
    """A pipeline and what it delivered."""

    def __init__(self, **options: Any) -> None:
        self.gate = SlowGate()
        self.done: list[Job] = []
        self.pipeline = Pipeline(self._deliver, **{"threads": 2, **options})

    def _deliver(self, jobs: Sequence[Job]) -> None:
        self.done += jobs

    def submit(
        self, *sources: Any, bulk: bool = False, deadline: float = 60, gate: SlowGate | None = None
    ) -> list[Job]:
        ticket = Ticket(monotonic() + deadline, bulk)
        jobs = [Job(ticket, cast(Gate, gate or self.gate), source) for source in sources]
        self.pipeline.submit(jobs)
        return jobs

    def until(self, condition: Callable[[], object]) -> None:
        limit = monotonic() + 10
        while not condition():
            assert monotonic() < limit
            sleep(0.002)


@pytest.fixture
def make() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(**options: Any) -> Run:
        runs.append(Run(**options))
        return runs[-1]

    yield start
    for run in runs:
        run.gate.go.set()
        run.pipeline.close()


def blocked(run: Run) -> None:
    """The engine is busy with one image."""
    run.submit(bytes([0]))
    run.until(lambda: run.gate.batches)


def outcomes(jobs: Sequence[Job]) -> list[Any]:
    return [job.outcome for job in jobs]


def test_an_idle_engine_does_not_wait_for_company(make: Callable[..., Run]) -> None:
    run = make()
    run.gate.go.set()
    for value in range(5):
        (job,) = run.submit(bytes([value]))
        run.until(lambda job=job: job.finished)
    assert run.gate.batches == [[0], [1], [2], [3], [4]]


def test_a_busy_engine_gets_all_that_came_meanwhile(make: Callable[..., Run]) -> None:
    run = make(max_batch=8)
    blocked(run)
    jobs = [job for value in range(1, 13) for job in run.submit(bytes([value]))]
    run.until(lambda: all(job.ready for job in jobs))
    assert run.pipeline.waiting(False) == 12
    run.gate.go.set()
    run.until(lambda: len(run.done) == 13)
    assert [len(batch) for batch in run.gate.batches] == [1, 8, 4]
    assert outcomes(jobs) == [[value] for value in range(1, 13)]
    assert run.pipeline.waiting(False) == 0


def test_a_bad_image_reaches_no_batch(make: Callable[..., Run]) -> None:
    run = make()
    blocked(run)
    jobs = run.submit(b"\1", b"bad", b"\2", bulk=True)
    run.until(lambda: jobs[1].finished)
    assert isinstance(jobs[1].outcome, NotAnImage)
    run.gate.go.set()
    run.until(lambda: len(run.done) == 4)
    assert sorted(run.gate.batches[1]) == [1, 2]
    assert outcomes([jobs[0], jobs[2]]) == [[1], [2]]


def test_an_array_s_decisions_are_its_own(make: Callable[..., Run]) -> None:
    run = make()
    blocked(run)
    array = np.arange(5, 9, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    jobs = [*run.submit(b"\1"), *run.submit(array, bulk=True), *run.submit(b"\2")]
    run.until(lambda: all(job.ready for job in jobs))
    run.gate.go.set()
    run.until(lambda: len(run.done) == 4)
    assert outcomes(jobs) == [[1], [5, 6, 7, 8], [2]]
    assert len(run.gate.batches) == 2


@pytest.mark.parametrize("abandoned", [False, True])
def test_what_nobody_waits_for_is_not_inferred(make: Callable[..., Run], abandoned: bool) -> None:
    run = make()
    blocked(run)
    (late,) = run.submit(b"\1", deadline=60 if abandoned else 0.05)
    (good,) = run.submit(b"\2")
    run.until(lambda: late.ready and good.ready)
    late.ticket.abandoned = abandoned
    sleep(0.06)
    run.gate.go.set()
    run.until(lambda: len(run.done) == 3)
    assert run.gate.batches == [[0], [2]]
    assert late.outcome is None if abandoned else isinstance(late.outcome, Expired)
    assert good.outcome == [2]


def test_an_array_that_nobody_waits_for_waits_no_longer(make: Callable[..., Run]) -> None:
    run = make()
    blocked(run)
    (late,) = run.submit(np.zeros((5, 2, 2, 3), np.uint8), bulk=True, deadline=-1)
    run.until(lambda: late in run.done)
    assert isinstance(late.outcome, Expired)
    assert run.pipeline.waiting(True) == 0
    run.gate.go.set()


def test_a_batch_never_mixes_two_gates(make: Callable[..., Run]) -> None:
    run = make()
    blocked(run)
    other = SlowGate()
    other.go.set()
    jobs = [*run.submit(b"\1"), *run.submit(b"\2", gate=other), *run.submit(b"\3", gate=other), *run.submit(b"\4")]
    run.until(lambda: all(job.ready for job in jobs))
    run.gate.go.set()
    run.until(lambda: len(run.done) == 5)
    assert sorted(chain(*run.gate.batches)) == [0, 1, 4]
    assert sorted(chain(*other.batches)) == [2, 3]


def test_a_failed_batch_fails_its_own_images_alone(make: Callable[..., Run]) -> None:
    run = make()
    run.gate.fails = True
    run.gate.go.set()
    (job,) = run.submit(b"\1")
    run.until(lambda: job.finished)
    assert isinstance(job.outcome, EngineError)
    run.gate.fails = False
    (job,) = run.submit(b"\2")
    run.until(lambda: job.finished)
    assert job.outcome == [2]


def test_a_large_request_takes_every_second_turn_at_most(make: Callable[..., Run]) -> None:
    run = make(threads=1)
    decoded: list[int] = []
    hold = threading.Event()

    def preprocess(data: bytes) -> npt.NDArray[np.uint8]:
        assert hold.wait(10)
        decoded.append(data[0])
        return np.full((2, 2, 3), data[0], np.uint8)

    run.gate.preprocess = preprocess  # type: ignore[method-assign]
    run.submit(*[bytes([value]) for value in range(100, 140)], bulk=True)
    for value in range(1, 6):
        run.submit(bytes([value]))
    hold.set()
    run.gate.go.set()
    run.until(lambda: len(run.done) == 45)
    assert max(decoded.index(value) for value in range(1, 6)) < 15


def test_an_image_waits_for_company_as_long_as_it_is_told(make: Callable[..., Run]) -> None:
    run = make(batch_wait=0.2, max_batch=3)
    run.gate.go.set()
    run.submit(b"\1")
    run.submit(b"\2")
    run.until(lambda: len(run.done) == 2)
    assert sorted(run.gate.batches[0]) == [1, 2]
    assert all(job.started - job.submitted >= 0.15 for job in run.done)
    full = [job for value in (3, 4, 5) for job in run.submit(bytes([value]))]
    run.until(lambda: len(run.done) == 5)
    assert max(job.started - job.submitted for job in full) < 0.15


def test_engine_calls_run_side_by_side(make: Callable[..., Run]) -> None:
    run = make(engine_calls=2)
    run.submit(b"\1")
    run.until(lambda: len(run.gate.batches) == 1)
    run.submit(b"\2")
    run.until(lambda: len(run.gate.batches) == 2)


def test_closing_finishes_what_is_queued(make: Callable[..., Run]) -> None:
    run = make(threads=3, engine_calls=2)
    run.gate.go.set()
    jobs = run.submit(*[bytes([value]) for value in range(50)], bulk=True)
    run.pipeline.close()
    assert outcomes(jobs) == [[value] for value in range(50)]


def test_a_thread_of_its_own_decodes_its_share_of_what_waits(make: Callable[..., Run]) -> None:
    run = make(threads=0, engine_calls=2, max_batch=8, own=True)
    for value in (1, 2):
        run.submit(bytes([value]))
        run.until(lambda value=value: len(run.gate.batches) == value)
    assert run.pipeline.waiting(False) == 0  # both calls are taken
    jobs = [job for value in range(3, 15) for job in run.submit(bytes([value]))]
    sleep(0.02)
    assert run.pipeline.waiting(False) == 12
    assert not any(job.decoding for job in jobs)
    run.gate.go.set()
    run.until(lambda: len(run.done) == 14)
    assert outcomes(jobs) == [[value] for value in range(3, 15)]
    assert sorted(chain(*run.gate.batches)) == list(range(1, 15))
    assert max(map(len, run.gate.batches)) <= 8
    assert run.pipeline.waiting(False) == 0


def test_the_last_free_thread_takes_all_that_waits(make: Callable[..., Run]) -> None:
    run = make(threads=0, engine_calls=1, max_batch=8, own=True)
    blocked(run)
    jobs = [job for value in range(1, 13) for job in run.submit(bytes([value]))]
    run.gate.go.set()
    run.until(lambda: len(run.done) == 13)
    assert [len(batch) for batch in run.gate.batches] == [1, 8, 4]
    assert outcomes(jobs) == [[value] for value in range(1, 13)]


def test_what_takes_long_to_decode_is_decided_on_meanwhile(make: Callable[..., Run]) -> None:
    run = make(threads=0, engine_calls=1, max_batch=8, own=True)
    blocked(run)
    decode = run.gate.preprocess
    run.gate.preprocess = lambda data: [sleep(0.03), decode(data)][1]  # type: ignore[method-assign, return-value]
    jobs = run.submit(b"\1", b"\2", b"\3", bulk=True)
    run.gate.go.set()
    run.until(lambda: len(run.done) == 4)
    assert run.gate.batches == [[0], [1], [2], [3]]
    assert outcomes(jobs) == [[1], [2], [3]]


def test_a_thread_of_its_own_mixes_no_gates_and_infers_nothing_bad_or_late(make: Callable[..., Run]) -> None:
    run = make(threads=0, engine_calls=1, max_batch=8, own=True)
    blocked(run)
    other = SlowGate()
    other.go.set()
    array = np.full((8, 2, 2, 3), 9, np.uint8)
    (late,) = run.submit(b"\7", deadline=0.01)
    jobs = [
        *run.submit(b"\1"),
        *run.submit(b"\2", gate=other),
        *run.submit(b"bad"),
        *run.submit(b"\3"),
        *run.submit(array),
    ]
    sleep(0.02)
    run.gate.go.set()
    run.until(lambda: len(run.done) == 7)
    assert run.gate.batches == [[0], [1], [3], [9] * 8]
    assert other.batches == [[2]]
    assert isinstance(late.outcome, Expired)
    assert isinstance(jobs[2].outcome, NotAnImage)
    assert outcomes([*jobs[:2], *jobs[3:]]) == [[1], [2], [3], [9] * 8]
    assert run.pipeline.waiting(False) == 0


def test_threads_of_their_own_finish_what_is_queued(make: Callable[..., Run]) -> None:
    run = make(threads=0, engine_calls=2, max_batch=4, own=True)
    run.gate.go.set()
    jobs = run.submit(*[bytes([value]) for value in range(50)], bulk=True)
    run.pipeline.close()
    assert outcomes(jobs) == [[value] for value in range(50)]


@pytest.mark.parametrize(
    ("name", "settings", "threads"),
    [
        ("openvino", {"engine_calls": 2, "decode_threads": 2}, 2),
        ("onnxruntime-cpu", {"engine_calls": 1, "decode_threads": 2}, 3),
        ("onnxruntime-cpu", {"engine_calls": 2, "decode_threads": 2, "engine_threads": 2}, 4),
        ("onnxruntime-cpu", {"engine_calls": 2, "decode_threads": 2, "batch_wait_ms": 5}, 4),
        ("onnxruntime-cuda", {"engine_calls": 2, "decode_threads": 2}, 4),
    ],
)
def test_threads_decode_for_themselves_where_each_core_has_a_call(
    name: str, settings: dict[str, int], threads: int
) -> None:
    engine = SimpleNamespace(name=name, batches=())
    pipeline = suited(cast("Any", engine), Settings(**settings), lambda _: None)
    assert len(pipeline._threads) == threads
    pipeline.close()


def test_jobs_of_any_alpha_share_an_engine_call(shared_bundle: Bundle) -> None:
    """Each gets the decisions of a call of its own, beside those at the gate's default operating point."""
    gate = Gate.load(shared_bundle.path, threads=1)
    pixels = calibration_images(60, seed=3)
    alphas = (0.01, None, 0.05, 0.1)
    ticket = Ticket(monotonic() + 60, bulk=True)
    arrays = [pixels[start : start + 20] for start in (0, 20, 40)]
    sources = [*arrays, *map(encode, pixels[:20])]
    jobs = [Job(ticket, gate, source, alphas[i % 4]) for i, source in enumerate(sources)]
    single = [gate.decide(arrays[i] if i < 3 else pixels[i - 3 : i - 2], alpha=job.alpha) for i, job in enumerate(jobs)]
    standard = [gate.decide(arrays[i] if i < 3 else pixels[i - 3 : i - 2]) for i in range(len(jobs))]
    sizes = []
    engine = gate.engine.run

    def counted(images: Any, **options: Any) -> Any:
        sizes.append(len(images))
        return engine(images, **options)

    gate.engine.run = counted  # type: ignore[method-assign]
    for job in jobs:
        job.images = job.decoded()
    infer(jobs)
    assert sizes == [80]
    verdicts = set()
    for job, alone, usual in zip(jobs, single, standard, strict=True):
        assert isinstance(job.outcome, list)
        for found, expected in zip([*job.outcome, *job.standard], [*alone, *usual], strict=True):
            assert_same(found.to_dict(), expected.to_dict())
        verdicts |= {(a.is_ood, b.is_ood) for a, b in zip(job.outcome, job.standard, strict=True)}
        if job.alpha is None:
            assert all(a is b for a, b in zip(job.outcome, job.standard, strict=True))
    assert verdicts == {(False, False), (True, True), (False, True)}  # the default alpha is the largest


@pytest.mark.parametrize(
    ("name", "batches", "asked", "expected"),
    [
        ("onnxruntime-cpu", (), 0, 16),
        ("onnxruntime-cpu", (), 48, 48),
        ("onnxruntime-cuda", (), 0, 64),
        ("tensorrt", (1, 8, 32), 0, 32),
        ("tensorrt", (1, 8, 32), 4, 4),
    ],
)
def test_a_batch_suits_its_engine(name: str, batches: tuple[int, ...], asked: int, expected: int) -> None:
    engine = SimpleNamespace(name=name, batches=batches)
    assert suitable_batch(cast("Any", engine), asked) == expected
