"""The models that a bundle becomes in Triton's model repository.

==================  ============  =====================================================================================
``NAME``            ONNX Runtime  the tensors of ``/v2/models/NAME`` of the service, and ``logits``; batches what waits
``NAME_threshold``  ONNX Runtime  the same with the thresholds as optional inputs; each request by itself
``NAME_tensorrt``   TensorRT      ``logits``, ``penultimate``, ``scores`` and ``accept``, by the bundle's engines
``NAME_files``      Python        image files in, the tensors of ``/v2`` out; in front of ``NAME_tensorrt`` or ``NAME``
==================  ============  =====================================================================================

The first two are not one, because Triton's backend refuses optional inputs of a model that batches, and rightly: a
threshold has no row an image, so one of the requests in a batch would set that of all. TensorRT has them as constants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export.exceptions import ExportError
from export.triton.answers import answering
from export.triton.config import LABELS, Config, Scheduling, Tensor
from runtime import atomic
from runtime.bundle import MANIFEST, MODEL, Bundle
from runtime.manifest import EngineSpec, GateSpec, Manifest
from runtime.tensors import INPUT, OUTPUTS

CONFIG = "config.pbtxt"
SUFFIXES = ("", "_threshold", "_tensorrt", "_files")
_FRONTEND = Path(__file__).with_name("frontend.py")
_MARK = "oodgate_sha256"  # what our models have among their parameters
_SEVEN_BITS = 64  # the largest weight of which no sum of two products with 255 exceeds 16 bits


@dataclass(frozen=True)
class Model:
    """One model of the repository: its configuration, and its files by where they lie in its directory."""

    config: Config
    files: Mapping[str, bytes]


def models(bundle: Bundle, scheduling: Scheduling, *, files: bool = False) -> list[Model]:
    """The models of a bundle, each behind those that it asks.

    Args:
        bundle: calibrated.
        scheduling: of those that batch; an engine may hold fewer images.
        files: whether there is one that takes image files.

    Raises:
        ExportError: what Triton can't be told of this bundle.
    """
    gate = _check(bundle)
    found = [_answers(bundle, gate, scheduling)]
    found.append(_answers(bundle, gate, replace(scheduling, batch=0), "_threshold"))
    if engines := usable(bundle.manifest):
        found.append(_tensorrt(bundle, engines, scheduling))
    if files:
        network = found[-1] if engines else found[0]
        found.append(_files(bundle, network.config, scheduling))
    return found


def usable(manifest: Manifest) -> dict[int, str]:
    """The engines that Triton's TensorRT backend can be told of, by compute capability: the one for the largest batches."""
    found: dict[int, str] = {}
    for name, spec in sorted(manifest.engines.items(), key=lambda item: item[1].batches[2]):
        if not unusable(spec):
            found |= dict.fromkeys(spec.targets, name)
    return found


def unusable(spec: EngineSpec) -> str:
    """Why Triton can't run an engine; empty where it can."""
    if spec.runtime != "tensorrt":
        return "Triton's TensorRT backend loads engines of TensorRT, not of TensorRT-RTX"
    if spec.batches[0] > 1:
        return (
            f"Triton sends batches of one image, and it takes {spec.batches[0]} at least: build one with --batch 1,8,64"
        )
    return ""


def write(models: list[Model], repository: Path) -> None:
    """Write models into a repository, each into its place as a whole; earlier ones of ours give way.

    Raises:
        ExportError: something else is there, or the repository can't be written.
    """
    names = {model.config.name for model in models}
    for name in {models[0].config.name + suffix for suffix in SUFFIXES}:
        _check_place(repository / name, replaced=name in names)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        for model in models:
            with atomic.writing(repository / model.config.name) as folder:
                for file, data in {CONFIG: model.config.text().encode(), **model.files}.items():
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / file).write_bytes(data)
    except OSError as error:
        raise ExportError(f"{repository}: can't be written ({error.strerror or error})") from error


def _check(bundle: Bundle) -> GateSpec:
    """The gate of a bundle that Triton can be told of."""
    manifest, path = bundle.manifest, bundle.path
    gate = bundle.gate()
    if manifest.task == "unlabelled":
        raise ExportError(
            f"{path}: a model without classes has no answers that Triton's models give; oodgate serve has"
        )
    if manifest.model.precision == "bf16":
        raise ExportError(f"{path}: only OpenVINO computes it in bf16; export an fp32, fp16 or int8 bundle to Triton")
    if _saturates(onnx.load_from_string(bundle.model)):
        raise ExportError(
            f"{path}: products of its 8-bit weights saturate in ONNX Runtime on a CPU without VNNI, and Triton can't be told "
            "to add them in 32 bits, as oodgate serve does; quantise with weights of 7 bits, as oodgate convert does"
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", manifest.model.name, re.ASCII):
        raise ExportError(
            f"{path}: Triton's models are called as their directories, of letters, digits, '_', '-' and '.', and this one "
            f"is called {manifest.model.name!r}; export it into a directory of another name"
        )
    if broken := [label for label in manifest.labels if label.splitlines() != [label]]:
        raise ExportError(f"{path}: {LABELS} has a class a line, and the label {broken[0]!r} has several")
    return gate


def _saturates(model: onnx.ModelProto) -> bool:
    """Whether a graph has int8 weights that use more than 7 bits (:func:`runtime.engines.ort.cpu.cpu_session`)."""
    weights = (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1)
    return any((np.abs(numpy_helper.to_array(tensor).astype(int)) > _SEVEN_BITS).any() for tensor in weights)


def _check_place(path: Path, *, replaced: bool) -> None:
    if not path.exists():
        return
    config = path / CONFIG
    if not config.is_file() or f'"{_MARK}"' not in config.read_text():
        raise ExportError(f"{path} exists and is no model that export-triton wrote; choose another repository")
    if not replaced:
        raise ExportError(
            f"{path} is of an earlier bundle or of other options, and would stay as it is; delete it first"
        )


def _answers(bundle: Bundle, gate: GateSpec, scheduling: Scheduling, suffix: str = "") -> Model:
    """A model of ONNX Runtime, with all that a decision says."""
    manifest = bundle.manifest
    outputs = [
        Tensor(name, output.datatype, (-1, *output.columns(manifest)), labelled=name == "probabilities")
        for name, output in OUTPUTS.items()
    ]
    config = Config(
        manifest.model.name + suffix,
        "onnxruntime",
        [_images(manifest), *(_thresholds(manifest, gate) if suffix else [])],
        [*outputs, Tensor("logits", "FP32", (-1, len(manifest.labels)))],
        scheduling,
        parameters=_parameters(bundle),
    )
    model = answering(bundle.model, manifest, gate, thresholds=bool(suffix))
    return Model(config, {LABELS: _labels(manifest), f"1/{MODEL}": model})


def _tensorrt(bundle: Bundle, engines: Mapping[int, str], scheduling: Scheduling) -> Model:
    """A model of TensorRT, with an engine for each compute capability."""
    manifest = bundle.manifest
    largest = min(manifest.engines[name].batches[2] for name in engines.values())
    classes = Tensor("logits", "FP32", (-1, len(manifest.labels)), labelled=True)
    outputs = [
        classes,
        Tensor("penultimate", "FP32", (-1, manifest.model.features)),
        Tensor("scores", "FP32", (-1, len(manifest.scores))),
        Tensor("accept", "BOOL", (-1,)),
    ]
    config = Config(
        f"{manifest.model.name}_tensorrt",
        "tensorrt",
        [_images(manifest)],
        outputs,
        replace(scheduling, batch=min(scheduling.batch, largest), kind="gpu"),
        {f"{target // 10}.{target % 10}": f"sm{target}.plan" for target in engines},
        _parameters(bundle),
    )
    plans = {f"1/sm{target}.plan": bundle.read(name) for target, name in engines.items()}
    return Model(config, {LABELS: _labels(manifest), **plans})


def _files(bundle: Bundle, network: Config, scheduling: Scheduling) -> Model:
    """A model of the Python backend in front of the one that has the network."""
    manifest = bundle.manifest
    told = {"network": network.name, "largest": str(network.scheduling.batch)}
    config = Config(
        f"{manifest.model.name}_files",
        "python",
        [Tensor("image", "BYTES", (-1, 1))],
        [Tensor(name, output.datatype, (-1, *output.columns(manifest))) for name, output in OUTPUTS.items()],
        replace(scheduling, kind="cpu"),
        parameters={**_parameters(bundle), **told},
    )
    return Model(config, {"1/model.py": _FRONTEND.read_bytes(), f"1/{MANIFEST}": manifest.to_json(indent=1).encode()})


def _images(manifest: Manifest) -> Tensor:
    return Tensor(INPUT, "UINT8", (-1, manifest.input.height, manifest.input.width, 3))


def _thresholds(manifest: Manifest, gate: GateSpec) -> list[Tensor]:
    """The optional inputs; of a scalar Triton is told as of one number."""
    found = [Tensor("threshold", "FP32", (1,), optional=True)]
    if gate.class_conditional:
        found.append(Tensor("class_thresholds", "FP32", (len(manifest.labels),), optional=True))
    if gate.max_error:
        found.append(Tensor("selection_threshold", "FP32", (1,), optional=True))
    return found


def _parameters(bundle: Bundle) -> dict[str, str]:
    return {_MARK: bundle.manifest.files[MODEL].sha256}


def _labels(manifest: Manifest) -> bytes:
    return ("\n".join(manifest.labels) + "\n").encode()
