"""Who scores: threads of this process or a Ray cluster, by one interface."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.bundle import Bundle
from runtime.engines.interface import EngineName
from serving.batch.images import Part, Piece
from serving.batch.scoring import Scored


@dataclass(frozen=True)
class Setup:
    """What workers need to begin.

    Attributes:
        bundle: the bundle.
        backend: what runs its graph.
        alpha: the operating point.
        count: how many; 0 for one a core, or a GPU.
        rows: images of a part, a multiple of 64.
    """

    bundle: Bundle
    backend: EngineName
    alpha: float
    count: int
    rows: int


class Workers(Protocol):
    """Ready to score.

    Attributes:
        engine: what runs the graph, the same for all of them.
    """

    engine: str

    def run(self, pieces: Sequence[Piece], finished: frozenset[Part]) -> Generator[Scored]:
        """The rows of all chunks of these pieces but for those of parts that are finished, in any order.

        Raises:
            EngineError: a batch failed.
            WorkersFailed: they could not go on.
        """
        ...
