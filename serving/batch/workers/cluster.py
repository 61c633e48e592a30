"""Chunks scored by a Ray cluster: tasks decode, a pool of actors holds the gate. The one module that imports Ray."""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError

from runtime.bundle import MANIFEST, MODEL, document
from runtime.engines import selection
from runtime.engines.interface import EngineName, EngineOptions
from runtime.engines.selection import GPU_ENGINES
from runtime.exceptions import OodgateError
from runtime.gate import Gate
from runtime.manifest import InputSpec
from serving.batch.images import Part, Piece, chunks
from serving.batch.scoring import Decoded, Scored, decode, score
from serving.batch.workers import Setup
from serving.exceptions import WorkersFailed

# Cores of a task and of an actor where both work on the CPU: each worker is one of each. Were they the same, Ray would have
# the actors decode too.
_DECODER, _ACTOR = 0.5, 0.4
_BLOCK = 16 << 20  # bytes that a task gathers before an actor gets them


@dataclass(frozen=True)
class Recipe:
    """How an actor makes its gate.

    Attributes:
        files: the bundle's, by name: it need not be on the worker's machine.
        engine: what runs its graph.
        alpha: the operating point.
    """

    files: Mapping[str, bytes]
    engine: EngineName
    alpha: float

    @classmethod
    def of(cls, setup: Setup, engine: EngineName) -> Recipe:
        """The recipe for a bundle on this machine, as it was loaded.

        Raises:
            BundleError: its files were replaced since.
        """
        bundle = setup.bundle
        files = {name: bundle.model if name == MODEL else bundle.read(name) for name in bundle.manifest.files}
        return cls({**files, MANIFEST: document(bundle.manifest)}, engine, setup.alpha)

    def make(self) -> Gate:
        """The gate, on the machine that this is called on."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in self.files.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(data)
            return Gate.load(folder, engine=self.engine, threads=1, alpha=self.alpha)


class Cluster:
    """A pool of actors, one a GPU where the engine runs on one, and one a core otherwise.

    Attributes:
        engine: what runs the graph in each of them.

    Raises:
        WorkersFailed: the cluster has no GPU for the engine, or some and no engine was named, or less than was asked for.
    """

    def __init__(self, setup: Setup) -> None:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        if setup.backend == "auto" and gpus:
            raise WorkersFailed(
                "the cluster has GPUs, of which this machine can't tell the engine: name one by --backend"
            )
        if setup.backend in GPU_ENGINES and not gpus:
            raise WorkersFailed(f"--backend {setup.backend} needs a GPU, of which the cluster has none")
        self._setup = setup
        self._on_gpu = setup.backend in GPU_ENGINES
        most = gpus if self._on_gpu else max(1, int(there.get("CPU", 1)))
        if setup.count > most:
            what = "GPUs" if self._on_gpu else "cores"
            raise WorkersFailed(f"--workers {setup.count}: the cluster has {most} {what}, and each takes one")
        self._count = setup.count or most
        options = EngineOptions(setup.backend, threads=1)
        self.engine = selection.load(setup.bundle, options).name if setup.backend == "auto" else setup.backend

    def run(self, pieces: Sequence[Piece], finished: frozenset[Part]) -> Generator[Scored]:
        """See :class:`serving.batch.workers.Workers`; what a worker that died had in hand is done again by another."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = _BLOCK
        try:
            for row in self._scored(pieces, finished).iter_rows():
                scored = pickle.loads(row["scored"])
                if isinstance(scored, str):
                    raise WorkersFailed(f"a worker: {scored}")
                yield scored
        except RayError as error:
            line = (str(error).strip().splitlines() or [""])[-1]
            raise WorkersFailed(
                f"Ray gave up ({type(error).__name__}: {line}); run the command again to go on"
            ) from error

    def _scored(self, pieces: Sequence[Piece], finished: frozenset[Part]) -> ray.data.Dataset:
        items = [{"piece": pickle.dumps(piece)} for piece in pieces]
        spec = self._setup.bundle.manifest.input
        decoded = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            partial(_decoded, spec=spec, rows=self._setup.rows, finished=finished),
            batch_size=1,
            batch_format="numpy",
            num_cpus=1 if self._on_gpu else _DECODER,
        )
        return decoded.map_batches(
            _Actor,
            fn_constructor_args=(Recipe.of(self._setup, cast(EngineName, self.engine)),),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=self._count),
            num_cpus=1 if self._on_gpu else _ACTOR,
            num_gpus=1 if self._on_gpu else None,
        )


@contextmanager
def start(setup: Setup) -> Iterator[Cluster]:
    """Join the cluster that RAY_ADDRESS names or this machine is part of, or start one of this machine.

    A process that is connected to one already stays so.

    Raises:
        WorkersFailed: it can't be reached, or can't do the work.
    """
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield Cluster(setup)
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise WorkersFailed(f"no Ray cluster: {error}; see RAY_ADDRESS, or score with --engine local") from error
    try:
        yield Cluster(setup)
    finally:
        ray.shutdown()


class _Actor:
    """Holds a gate, or the reason why it can't: what it raised Ray would try again and again, and tell at length."""

    def __init__(self, recipe: Recipe) -> None:
        self._gate: Gate | str
        try:
            self._gate = recipe.make()
        except OodgateError as error:
            self._gate = str(error)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for data in batch["decoded"]:
            yield {"scored": _boxed(self._scored(pickle.loads(data)))}

    def _scored(self, decoded: Decoded) -> Scored | str:
        try:
            return self._gate if isinstance(self._gate, str) else score(self._gate, decoded)
        except OodgateError as error:
            return str(error)


def _decoded(batch: dict[str, Any], spec: InputSpec, rows: int, finished: frozenset[Part]) -> Iterator[dict[str, Any]]:
    for data in batch["piece"]:
        for chunk in chunks(pickle.loads(data), rows, finished):
            yield {"decoded": _boxed(decode(chunk, spec))}


def _boxed(value: object) -> Any:
    """A column of one row, of bytes."""
    return np.array([pickle.dumps(value, protocol=5)], dtype=object)
