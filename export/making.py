"""The files that a graph and its manifest make: every command that writes a bundle takes them from here."""

from __future__ import annotations

import onnx

from export.exceptions import ExportError
from export.golden.expectations import golden
from export.graph.head import seal
from export.images.inference import check_precision
from export.pipeline.graph import with_resize
from runtime.bundle import MODEL, PIPELINE
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError
from runtime.manifest import Manifest


def files(model: onnx.ModelProto, manifest: Manifest, *, resize: bool, threads: int = 0) -> dict[str, bytes]:
    """What the runtime reads of a bundle, by name: model.onnx, pipeline.onnx made of the very same bytes, and golden/.

    Args:
        model, manifest: sealed into each other here.
        resize: whether there is to be a pipeline.onnx.
        threads: of the engine that computes what is right for the golden images.

    Returns:
        no golden images where there is no gate to decide, or this machine can't compute the manifest's precision.
    """
    return made_of(seal(model, manifest), manifest, resize=resize, threads=threads)


def made_of(sealed: bytes, manifest: Manifest, *, resize: bool, threads: int = 0) -> dict[str, bytes]:
    """:func:`files` of a model.onnx that is there.

    Raises:
        ExportError: a pipeline.onnx that can't be loaded.
    """
    made = {MODEL: sealed}
    if resize:
        made[PIPELINE] = _loadable(with_resize(sealed, manifest.input), threads)
    if manifest.gate and _computable(manifest):
        made |= golden(sealed, manifest, manifest.gate, threads=threads)
    return made


def _loadable(pipeline: bytes, threads: int) -> bytes:
    try:
        OnnxRuntimeCpu(pipeline, threads)
    except EngineError as error:
        raise ExportError(f"{PIPELINE}: {error}; leave it out by --no-with-resize") from error
    return pipeline


def _computable(manifest: Manifest) -> bool:
    try:
        check_precision(manifest.model.precision)
    except ExportError:
        return False
    return True
