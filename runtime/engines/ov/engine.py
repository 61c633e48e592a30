"""OpenVINO on the CPU: the graph in the precision of the bundle, prepared for batches of a few sizes."""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from runtime.bundle import Bundle, Signature, Tensor
from runtime.engines import cache
from runtime.engines.interface import Engine, EngineOptions, Outputs, joined
from runtime.engines.ov.parts import split
from runtime.engines.processor import BF16, machine_flags
from runtime.exceptions import EngineError

NAME: Final = "openvino"
SIZES = (1, 2, 4, 8, 16)
"""Batches that are prepared. A shape that changes from call to call costs OpenVINO as much as a small image's inference."""

Hint = Literal["f32", "bf16"]

_COMPILED = "compiled"
_DIGEST = 32  # bytes
_DTYPES = {"u8": "uint8", "f32": "float32", "boolean": "bool"}
logger = logging.getLogger(__name__)

Compiled = Mapping[str, npt.NDArray[np.uint8]]  # each size's parts, as OpenVINO exports them, by `_part`


class OpenVino:
    """A graph on OpenVINO's CPU plugin. Several lanes run one batch each at a time; further batches wait for a lane.

    Args:
        model: the bytes of an .onnx file.
        hint: what the trunk's layers are computed in, as far as the graph does not say it itself; the head is fp32.
        threads: of one batch; 0 takes one for each physical core. With one, a batch runs in the thread that calls.
        lanes: how many.
        root: of the cache, where what is compiled is kept; None keeps nothing.

    Attributes:
        hint: as given.
        batches: the sizes that are prepared.

    Raises:
        EngineError: OpenVINO is not installed, can't compile the graph, or does not compute in `hint` here.
    """

    name: str = NAME
    batches: tuple[int, ...] = SIZES

    def __init__(
        self, model: bytes, hint: Hint = "f32", *, threads: int = 0, lanes: int = 1, root: Path | None = None
    ) -> None:
        core = load_core()
        if hint == "bf16" and (reason := no_bf16(core)):
            raise EngineError(reason)
        self.hint: Hint = hint
        try:
            self.signature = _signature(core.read_model(model))
            compiled = _compiled(core, model, hint, threads, root)
            self._free: SimpleQueue[dict[int, _Prepared]] = SimpleQueue()
            for _ in range(lanes):
                self._free.put({size: _Prepared(core, compiled, size, hint, threads) for size in SIZES})
        except RuntimeError as error:  # all that OpenVINO raises
            raise EngineError(f"OpenVINO can't compile the graph: {_reason(error)}") from error
        self._shape = self.signature.inputs["images"].shape[1:]

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise EngineError(
                f"{NAME} failed on a batch of {len(images)}: expected uint8 [N, {', '.join(map(str, self._shape))}], "
                f"found {images.dtype} {list(images.shape)}"
            )
        lane = self._free.get()
        try:
            parts, start = [], 0
            for size in pieces(len(images)):
                parts.append(lane[size].run(images[start : start + size], penultimate))
                start += size
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a batch of {len(images)}: {_reason(error)}") from error
        finally:
            self._free.put(lane)
        return joined(parts)


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's graph on OpenVINO, compiled now if the cache does not have it.

    A bf16 bundle is computed in bf16 where the CPU has instructions for it, and in fp32 elsewhere.

    Raises:
        EngineError: no OpenVINO, or it can't compile the graph.
    """
    bf16 = bundle.manifest.model.precision == "bf16" and no_bf16(load_core()) is None
    hint: Hint = "bf16" if bf16 else "f32"
    lanes = options.contexts if options.threads == 1 else 1
    return OpenVino(bundle.model, hint, threads=options.threads, lanes=lanes, root=options.cache)


def load_core() -> Any:
    """OpenVINO's ``Core``.

    Raises:
        EngineError: it is not installed.
    """
    try:
        openvino = importlib.import_module("openvino")
    except ImportError:
        raise EngineError("there is no Python module 'openvino'; pip install 'oodgate[openvino]'") from None
    return openvino.Core()


def no_bf16(core: Any) -> str | None:
    """Why bf16 is not computed here; None where it is, by instructions and not by OpenVINO's simulation on AVX-512."""
    flags = machine_flags()
    if flags and not BF16 & {*flags}:
        return f"the CPU has none of {', '.join(sorted(BF16))}, only {', '.join(flags)}"
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "OpenVINO does not compute in bf16 on this CPU"
    return None


def pieces(count: int) -> list[int]:
    """The sizes that a batch is run in, its last piece padded where that fills at least three quarters; none for 0 is 1."""
    found: list[int] = []
    while count > 0 or not found:
        padded = next((size for size in SIZES if size >= count >= 0.75 * size or not count), None)
        found.append(padded or max(size for size in SIZES if size <= count))
        count -= found[-1]
    return found


class _Prepared:
    """Infer requests for one size of batch: of the whole graph, or of trunk and head, which share tensors."""

    def __init__(self, core: Any, compiled: Compiled, size: int, hint: Hint, threads: int) -> None:
        self._size = size
        hints: dict[str, Hint] = {"whole": "f32"} if hint == "f32" else {"trunk": hint, "head": "f32"}
        self._requests = [
            _imported(core, compiled[_part(size, part)].tobytes(), own, threads).create_infer_request()
            for part, own in hints.items()
        ]
        if len(self._requests) == 2:
            trunk, head = self._requests
            for index in range(len(trunk.model_outputs)):
                head.set_input_tensor(index, trunk.get_output_tensor(index))

    def run(self, images: npt.NDArray[np.uint8], penultimate: bool) -> Outputs:
        """Run up to `size` images, padded by black ones."""
        first, last = self._requests[0], self._requests[-1]
        n = len(images)
        if n < self._size:
            images = np.concatenate([images, np.zeros((self._size - n, *images.shape[1:]), np.uint8)])
        first.infer({0: np.ascontiguousarray(images)}, share_inputs=True)
        if last is not first:
            last.infer()
        names = {name: last for output in last.model_outputs for name in output.get_names() & {"logits", "scores"}}
        names |= {"penultimate": first} if penultimate else {}
        return Outputs.of({name: request.get_tensor(name).data[:n].copy() for name, request in names.items()})


def _imported(core: Any, blob: bytes, hint: Hint, threads: int) -> Any:
    compiled = core.import_model(blob, "CPU", _config(hint, threads))
    if (found := compiled.get_property("INFERENCE_PRECISION_HINT").to_string()) != hint:
        raise EngineError(f"OpenVINO computes in {found} what it was told to compute in {hint}")
    return compiled


def _compiled(core: Any, model: bytes, hint: Hint, threads: int, root: Path | None) -> Compiled:
    """The compiled parts, from the cache if they are there and whole."""
    if root is None:
        return _compile(core, model, hint, threads)
    parts = {
        "engine": NAME,
        "model": hashlib.sha256(model).hexdigest(),
        "openvino": _version(),
        "processor": f"{core.get_property('CPU', 'FULL_DEVICE_NAME')}: {' '.join(machine_flags())}",
        "precision": hint,
        "threads": str(threads),
        "batches": str(SIZES),
    }
    made: list[Compiled] = []

    def fill(folder: Path) -> None:
        logger.info("%s: compiling the graph; it is kept in %s", NAME, root)
        made.append(_compile(core, model, hint, threads))
        (folder / _COMPILED).write_bytes(_packed(made[0]))

    try:
        file = cache.filled(root, parts, fill) / _COMPILED
        found = made[0] if made else _unpacked(file)
        if found is None:
            logger.warning("%s: %s is damaged; the graph is compiled again", NAME, file)
            found = _compile(core, model, hint, threads)
            cache.write(file, _packed(found))
    except EngineError as error:
        logger.warning("%s: %s; the graph is compiled at each start", NAME, error)
        return made[0] if made else _compile(core, model, hint, threads)
    return found


def _compile(core: Any, model: bytes, hint: Hint, threads: int) -> Compiled:
    parts: dict[str, npt.NDArray[np.uint8]] = {}
    export = partial(_exported, core, threads=threads)
    for size in SIZES:
        graph = core.read_model(model)
        graph.reshape({"images": [size, *_tensor(graph.input("images")).shape[1:]]})
        if hint == "f32":
            parts[_part(size, "whole")] = export(graph, "f32")
        else:
            trunk, head = split(graph)
            parts[_part(size, "trunk")], parts[_part(size, "head")] = export(trunk, hint), export(head, "f32")
    return parts


def _exported(core: Any, graph: Any, hint: Hint, *, threads: int) -> npt.NDArray[np.uint8]:
    blob = io.BytesIO()
    core.compile_model(graph, "CPU", _config(hint, threads)).export_model(blob)
    return np.frombuffer(blob.getbuffer(), np.uint8)


def _config(hint: Hint, threads: int) -> dict[str, Any]:
    """Without a stream of its own a model runs in the thread that calls, alone. Pinned, several processes share a core."""
    config = {
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": "0" if threads == 1 else "1",
        "ENABLE_CPU_PINNING": False,
    }
    return {**config, "INFERENCE_NUM_THREADS": threads} if threads else config


def _part(size: int, part: str) -> str:
    return f"{size}-{part}"


def _packed(compiled: Compiled) -> bytes:
    """One file: SHA-256, and .npz. OpenVINO itself takes a damaged blob and computes something with it."""
    buffer, arrays = io.BytesIO(), dict[str, Any](compiled)
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    return hashlib.sha256(data).digest() + data


def _unpacked(file: Path) -> Compiled | None:
    """What :func:`_packed` wrote; None where it is not there or no longer that."""
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(stored[_DIGEST:]).digest() != stored[:_DIGEST]:
        return None
    with np.load(io.BytesIO(stored[_DIGEST:]), allow_pickle=False) as parts:
        return dict(parts)


def _signature(model: Any) -> Signature:
    """Thresholds are constants here, and the manifest is not read: it is an engine built from the graph."""
    inputs, outputs = (
        {port.get_any_name(): _tensor(port) for port in ports} for ports in (model.inputs, model.outputs)
    )
    return Signature(inputs, outputs, None, built=True)


def _tensor(port: Any) -> Tensor:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    name = port.get_element_type().to_string()
    return Tensor(_DTYPES.get(name, name), shape)


def _version() -> str:
    return str(importlib.import_module("openvino").get_version())


def _reason(error: RuntimeError) -> str:
    """The last line of what OpenVINO says: those before it are places in its source."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()
