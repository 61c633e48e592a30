"""Writing a bundle anew: what no longer holds is dropped, every other file stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from export import making
from export.graph.head import seal
from export.report.card import documents
from runtime import bundle
from runtime.bundle import CARD, FIGURES, MODEL, PIPELINE, Bundle
from runtime.golden.document import FOLDER
from runtime.manifest import Manifest


def renew(of: Bundle, made: Mapping[str, bytes]) -> Bundle:
    """Write a bundle again with other files for its graph to be looked at by, and all else as it is, engines among it.

    Args:
        of: as it is.
        made: pipeline.onnx and golden images, by name; none of these that is not among them stays.
    """
    listed = of.manifest.files
    kept = {name: of.read(name) for name in listed if name != PIPELINE and not name.startswith(f"{FOLDER}/")}
    documents = {name: file.read_bytes() for name in (CARD, *FIGURES) if (file := of.path / name).is_file()}
    return bundle.write(of.path, of.manifest, {**kept, **made}, documents)


def rewrite(
    path: Path,
    before: Manifest,
    model: onnx.ModelProto,
    manifest: Manifest,
    out: Path | None = None,
    *,
    threads: int = 0,
) -> list[str]:
    """Write a bundle with another graph or manifest, sealed into each other; where these are as they were, leave it as it is.

    Args:
        path: of the bundle as it is.
        before: its manifest as it is.
        model, manifest: what it becomes.
        out: where to write, instead of `path`.
        threads: of the engine.

    Returns:
        the names of the files left out: figures of an evaluation of the bundle before, and engines built from its graph;
        golden images by their folder's.
    """
    sealed = seal(model, manifest)
    if bundle.entry(sealed) == before.files[MODEL] and out in (None, path):
        return []
    written = making.made_of(sealed, manifest, resize=PIPELINE in before.files, threads=threads)
    dropped = [name for name in sorted({*before.files, *FIGURES} - written.keys()) if (path / name).is_file()]
    bundle.write(out or path, manifest, written, documents(manifest))
    return list(dict.fromkeys(f"{FOLDER}/" if name.startswith(f"{FOLDER}/") else name for name in dropped))
