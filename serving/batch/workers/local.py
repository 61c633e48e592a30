"""Threads of this process: decoders, resizing and engines let go of the interpreter while they work."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from runtime.engines import selection
from runtime.engines.interface import EngineOptions
from runtime.gate import Gate
from serving.batch.images import Chunk, Part, Piece, chunks
from serving.batch.scoring import Scored, decode, score
from serving.batch.workers import Setup
from serving.settings import cores


class Threads:
    """Threads that share one gate; as many chunks as there are threads, and one, are in memory.

    Attributes:
        engine: the gate's.
    """

    def __init__(self, gate: Gate, setup: Setup) -> None:
        self.engine = gate.engine.name
        self._gate = gate
        self._rows = setup.rows
        self._count = setup.count or cores()

    def run(self, pieces: Sequence[Piece], finished: frozenset[Part]) -> Generator[Scored]:
        """See :class:`serving.batch.workers.Workers`; the rows come in order."""
        pool = ThreadPoolExecutor(self._count, thread_name_prefix="score")
        pending: deque[Future[Scored]] = deque()
        try:
            for chunk in (chunk for piece in pieces for chunk in chunks(piece, self._rows, finished)):
                pending.append(pool.submit(self._work, chunk))
                if len(pending) > self._count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _work(self, chunk: Chunk) -> Scored:
        return score(self._gate, decode(chunk, self._gate.manifest.input))


@contextmanager
def start(setup: Setup) -> Iterator[Threads]:
    """Threads with a gate.

    Raises:
        EngineError: the engine that is named can't run here.
    """
    options = EngineOptions(setup.backend, threads=1, contexts=setup.count or cores())
    yield Threads(Gate(setup.bundle, selection.load(setup.bundle, options), alpha=setup.alpha), setup)
