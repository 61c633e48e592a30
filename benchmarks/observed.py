"""What a network puts out for every set of a comparison, each image decoded and run once, and kept on disk."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.calibrate.gating import split, without_gate
from export.images.inference import collect
from export.images.outliers import synthetic
from runtime.bundle import Bundle
from runtime.engines.interface import Engine, Outputs
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import Manifest
from train.data import Images, SelectedImages, load

OutputsOf = Callable[[str, Callable[[], Images]], Outputs]


@dataclass(frozen=True)
class Network:
    """A bundle without its gate.

    Attributes:
        model: its graph, its manifest says what of.
        of: outputs by title, with penultimate activations.
    """

    model: onnx.ModelProto
    manifest: Manifest
    engine: Engine
    of: OutputsOf


@dataclass(frozen=True)
class Sets:
    """A network's outputs: for images to choose by, their synthetic outliers, others to evaluate on, and real outliers."""

    choose: Outputs
    kinds: dict[str, Outputs]
    known: Outputs
    real: dict[str, Outputs]

    def each(self, change: Callable[[Outputs], Outputs]) -> Sets:
        kinds, real = ({name: change(part) for name, part in sets.items()} for sets in (self.kinds, self.real))
        return Sets(change(self.choose), kinds, change(self.known), real)


def network(path: Path, threads: int, cache: Path | None) -> Network:
    """The bundle at `path`; what it puts out is kept in a folder of `cache`."""
    bundle = Bundle.load(path)
    model = onnx.load_from_string(bundle.model)
    manifest = without_gate(model, bundle.manifest)
    graph = model.SerializeToString()
    engine = OnnxRuntimeCpu(graph, threads)
    folder = cache and cache / f"{path.name} {hashlib.sha256(graph).hexdigest()[:8]}"
    return Network(model, manifest, engine, cached(engine, folder))


def cached(engine: Engine, folder: Path | None) -> OutputsOf:
    """Outputs by title; from a file in `folder` where they are there."""

    def of(title: str, images: Callable[[], Images]) -> Outputs:
        file = None if folder is None else folder / f"{title}.npz"
        if file is not None and file.exists():
            return Outputs(**np.load(file))
        start = time.perf_counter()
        found = collect(engine, images(), penultimate=True, title=title)
        seconds = time.perf_counter() - start
        print(f"{title}: {len(found.logits):,} images in {seconds:.0f} s", file=sys.stderr, flush=True)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, logits=found.logits, scores=found.scores, penultimate=np.asarray(found.penultimate))
        return found

    return of


def observed(of: OutputsOf, manifest: Manifest, calibration: str, known: str, outliers: Mapping[str, str]) -> Sets:
    """All outputs but those for training images.

    Args:
        calibration: the source of which `--score auto` chooses by a quarter, and makes outliers of it.
        known: the source to evaluate on.
        outliers: real ones, by name.
    """

    def source(title: str, path: str) -> Outputs:
        return of(title, lambda: load(path, manifest.input).images)

    first = load(calibration, manifest.input).images
    part = SelectedImages(first, split(len(first))[0])
    kinds = {name: of(f"synthetic {name}", lambda x=x: x) for name, x in synthetic(part[:]).items()}  # type: ignore[misc]
    real = {name: source(f"real {name}", path) for name, path in outliers.items()}
    return Sets(of("choose", lambda: part), kinds, source("known", known), real)
