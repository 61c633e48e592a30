"""Writing a bundle anew: what no longer holds is dropped, every other file stays."""

from __future__ import annotations

from pathlib import Path

import onnx

from export.graph.head import seal
from export.report.card import FIGURES, documents
from runtime import bundle
from runtime.manifest import Manifest


def rewrite(
    path: Path, before: Manifest, model: onnx.ModelProto, manifest: Manifest, out: Path | None = None
) -> list[str]:
    """Write a bundle with another graph or manifest, sealed into each other.

    Args:
        path: of the bundle as it is.
        before: its manifest as it is.
        model, manifest: what it becomes.
        out: where to write, instead of `path`.

    Returns:
        the names of the files left out: figures of an evaluation of the bundle before, and engines built from its graph.
    """
    written = {bundle.MODEL: seal(model, manifest)}
    texts = documents(manifest)
    stale = {*FIGURES, *before.files} - {bundle.MODEL}
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
    return dropped
