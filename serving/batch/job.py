"""A source scored from its beginning to its end: listed, claimed, scored where it has not been, counted."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from runtime.bundle import Bundle
from runtime.engines.interface import EngineName
from serving.batch import discovery, summary
from serving.batch.discovery import Discovery
from serving.batch.identity import Identity, claim, identity
from serving.batch.images import BATCH
from serving.batch.parts import Parts
from serving.batch.places import Folder
from serving.batch.sources import Source, open_source
from serving.batch.summary import Summary
from serving.batch.workers import Setup, Workers, local
from serving.exceptions import SourceUnusable, WorkersFailed

_PIECE = 16 * BATCH  # images of a list of files that one task of Ray decodes


@dataclass(frozen=True)
class Options:
    """A job.

    Attributes:
        sources: of :func:`serving.batch.sources.open_source`.
        bundle: its directory.
        out: a directory or URL.
        engine: what the work is spread by.
        backend: what runs the graph.
        alpha: one of the bundle's operating points; None for its own.
        workers: threads, or Ray's actors; 0 for one a core, or a GPU.
        rows: images of a part, a multiple of 64.
        image, key: columns of Parquet files.
        fdr: the false discovery rate to find outliers at; None finds none.
    """

    sources: tuple[str, ...]
    bundle: Path
    out: str
    engine: Literal["local", "ray"] = "local"
    backend: EngineName = "auto"
    alpha: float | None = None
    workers: int = 0
    rows: int = 8192
    image: str | None = None
    key: str | None = None
    fdr: float | None = None


@dataclass(frozen=True)
class Done:
    """A job that is done.

    Attributes:
        summary: of the whole output.
        discovery: None where no outliers were asked for.
        scored: images scored this time; the others were there.
        seconds: that took, from the first image to be read on.
    """

    summary: Summary
    discovery: Discovery | None
    scored: int
    seconds: float


def run(options: Options) -> Done:
    """Score what has not been scored yet, and count all of it.

    Raises:
        OodgateError: the bundle, source, output or options are unusable, or the workers failed; what is finished stays.
    """
    bundle = Bundle.load(options.bundle)
    gate = bundle.gate(options.alpha)
    if options.fdr is not None:
        discovery.check(gate, bundle.manifest.labels, options.fdr)
    source = open_source(options.sources, image=options.image, key=options.key)
    folder = Folder(options.out)
    with _start(options, Setup(bundle, options.backend, gate.alpha, options.workers, options.rows)) as workers:
        said = identity(source, bundle, {**_said(options), "alpha": gate.alpha, "engine": workers.engine})
        parts = Parts(folder, said)
        claim(folder, parts, said)
        started = time.perf_counter()
        scored = _score(source, workers, parts, folder, options.rows)
        seconds = time.perf_counter() - started
    parts.check_whole()
    found = summary.survey(parts)
    if not found.images:
        raise SourceUnusable(f"{', '.join(options.sources)}: no images in these {source.files:,} {source.kind}")
    outliers = (
        None if options.fdr is None else discovery.discover(found.p_values, options.fdr, discovery.smallest(gate))
    )
    _finish(folder, parts, found, outliers)
    return Done(found, outliers, scored, seconds)


def _finish(folder: Folder, parts: Parts, found: Summary, outliers: Discovery | None) -> None:
    """Mark the outliers, and say that the output is whole.

    Without outliers asked for, what parts say of them stays, but for what is of other rows than those that are there, or of a
    job that was stopped at it.
    """
    marks = found.marks
    if outliers is not None or len(marks) > 1:
        folder.delete(summary.FILE)
        discovery.mark(parts, outliers)
        marks = frozenset({outliers})
    folder.write(summary.FILE, summary.as_json(found.document(next(iter(marks)))))


def _said(options: Options) -> Identity:
    """The options that the rows depend on."""
    return {"rows of a part": options.rows, "image column": options.image, "key column": options.key}


def _start(options: Options, setup: Setup) -> AbstractContextManager[Workers]:
    if options.engine == "local":
        return local.start(setup)
    try:
        from serving.batch.workers import cluster
    except ModuleNotFoundError as error:
        raise WorkersFailed(
            f"--engine ray needs {error.name}, which is not installed: pip install 'oodgate[ray]'"
        ) from error
    return cluster.start(setup)


def _score(source: Source, workers: Workers, parts: Parts, folder: Folder, rows: int) -> int:
    """Score what is left; how many images that were."""
    finished = parts.finished()
    left = [piece for piece in source.pieces(_PIECE) if piece.split not in finished]
    if not left:
        return 0
    folder.delete(summary.FILE)
    there = sum(source.images_of(part, rows) for part in parts.names)
    bar = tqdm(total=source.images, initial=there, unit="image", desc="score", disable=None)
    scored = 0
    with bar, closing(workers.run(left, frozenset(parts.names))) as results:
        for each in results:
            new = parts.add(each)
            scored += new
            bar.update(new)
    return scored
