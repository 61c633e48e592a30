"""Writing a bundle anew: what no longer holds is dropped, every other file stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from export import making
from export.report.card import FIGURES, documents
from runtime import bundle
from runtime.bundle import MANIFEST, PIPELINE, Bundle
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
    found = {file.relative_to(of.path).as_posix(): file for file in of.path.rglob("*") if file.is_file()}
    documents = {name: file.read_bytes() for name, file in found.items() if name not in (MANIFEST, *listed)}
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
    """Write a bundle with another graph or manifest, sealed into each other.

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
    written = making.files(model, manifest, resize=bundle.PIPELINE in before.files, threads=threads)
    texts = documents(manifest)
    stale = {*FIGURES, *before.files}
    kept: dict[str, bytes] = {}
    dropped: list[str] = []
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_file() or name in (bundle.MANIFEST, *written, *texts):
            continue
        if name in stale or name.startswith("engines/"):
            dropped.append(name)
        else:
            kept[name] = file.read_bytes()
    bundle.write(out or path, manifest, written, {**kept, **texts})
    return list(dict.fromkeys(f"{FOLDER}/" if name.startswith(f"{FOLDER}/") else name for name in dropped))
