"""The model repository: what Triton reads of it, held against the graphs in it, the service's /v2 and Triton's own rules."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from export.exceptions import ExportError
from export.tensorrt.attach import attach
from export.tensorrt.build import Built
from export.triton import repository
from export.triton.__main__ import main
from export.triton.config import Scheduling
from runtime import Gate, bundle
from runtime.bundle import MODEL, Bundle
from runtime.exceptions import NotCalibrated
from runtime.manifest import EngineSpec
from serving.http.routes.open_inference import model_metadata
from tests.gates import KINDS, gated
from tests.small import LABELS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(int32)": "INT32"}
TYPES |= {"tensor(bool)": "BOOL", "tensor(string)": "BYTES"}


def config(folder: Path) -> Any:
    """config.pbtxt, read by protobuf and checked by the rules that Triton's core and its ONNX Runtime backend have."""
    found = text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())
    assert found.name == folder.name
    for tensor in (*found.input, *found.output):
        assert len(tensor.dims) > 0
        assert all(size == -1 or size >= 1 for size in tensor.dims)
        if tensor.HasField("reshape"):
            assert found.max_batch_size > 0
            assert np.prod(tensor.dims) == np.prod(tensor.reshape.shape) == 1
    if found.backend == "onnxruntime" and found.max_batch_size:
        assert not any(tensor.optional for tensor in found.input)
    if not found.max_batch_size:
        assert not found.HasField("dynamic_batching")
    return found


def datatype(tensor: Any) -> str:
    name = DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def full(tensor: Any, batched: bool) -> list[int]:
    """The shape of the backend's tensor, images' dimension included."""
    own = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    return [-1, *own] if batched else list(own)


def tensors(found: Any, kind: str) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of inputs or outputs by name."""
    return {t.name: (datatype(t), full(t, found.max_batch_size > 0)) for t in getattr(found, kind)}


def with_engine(path: Path, small: Bundle, **options: Any) -> Bundle:
    """A copy of the bundle, in its manifest an engine whose plan is a few bytes."""
    spec = EngineSpec(
        **{
            "runtime": "tensorrt",
            "release": "10.13.2",
            "targets": (89,),
            "precision": "fp32",
            "batches": (1, 8, 32),
            "model": small.manifest.files[MODEL].sha256,
            "kernels": 9,
            "head_kernels": 2,
            **options,
        }
    )
    copy = small if small.path == path else bundle.write(path, small.manifest, {MODEL: small.model}, {})
    return attach(copy, Built(repr(spec).encode(), spec))[0]


@pytest.fixture(scope="module")
def written(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("triton") / "models"
    assert main([str(shared_bundle.path), str(path), "--python-frontend", "--instances", "2", "--kind", "cpu"]) == 0
    return path


def test_what_is_there(written: Path) -> None:
    files = {str(file.relative_to(written)) for file in written.rglob("*") if file.is_file()}
    assert files == {
        *(
            f"{name}/{file}"
            for name in ("small", "small_threshold")
            for file in ("config.pbtxt", "labels.txt", "1/model.onnx")
        ),
        *(f"small_files/{file}" for file in ("config.pbtxt", "1/model.py", "1/manifest.json")),
    }
    assert (written / "small" / "labels.txt").read_text().splitlines() == list(LABELS)


@pytest.mark.parametrize("name", ["small", "small_threshold"])
def test_the_tensors_are_the_graph_s_and_those_of_v2(name: str, written: Path, shared_bundle: Bundle) -> None:
    found = config(written / name)
    session = onnxruntime.InferenceSession(written / name / "1" / "model.onnx")
    own = {t.name: (TYPES[t.type], [d if isinstance(d, int) else -1 for d in t.shape]) for t in session.get_outputs()}
    assert tensors(found, "output") == own
    metadata = model_metadata(Gate.load(shared_bundle.path, engine="onnxruntime-cpu", threads=1))
    said = {t["name"]: (t["datatype"], t["shape"]) for t in metadata["outputs"]}
    assert {name: tensor for name, tensor in own.items() if name != "logits"} == said
    assert own["logits"] == ("FP32", [-1, 3])
    required = {name: tensor for name, tensor in tensors(found, "input").items() if name == "images"}
    assert required == {t["name"]: (t["datatype"], t["shape"]) for t in metadata["inputs"]}
    assert (metadata["name"], metadata["versions"]) == ("small", ["1"])


def test_a_model_that_batches(written: Path, shared_bundle: Bundle) -> None:
    found = config(written / "small")
    assert (found.backend, found.max_batch_size) == ("onnxruntime", 64)
    assert found.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(group.count, group.kind) for group in found.instance_group] == [(2, ModelInstanceGroup.KIND_CPU)]
    assert [tensor.name for tensor in found.input] == ["images"]
    assert {t.name: t.label_filename for t in found.output if t.label_filename} == {"probabilities": "labels.txt"}
    assert found.parameters["oodgate_sha256"].string_value == shared_bundle.manifest.files[MODEL].sha256


def test_the_shapes_that_clients_see(written: Path) -> None:
    """Of a model that batches, [N, 1] where /v2 has [N]; docs/triton.md says so."""
    shapes = {t.name: list(t.dims) for t in config(written / "small").output}
    assert shapes == {name: [1] for name in shapes} | {"scores": [6], "probabilities": [3], "logits": [3]}


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_are_optional_inputs(kind: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    made = gated(tmp_path / "small", shared_bundle, KINDS[kind])
    repository.write(repository.models(made, Scheduling()), tmp_path / "models")
    found = config(tmp_path / "models" / "small_threshold")
    assert found.max_batch_size == 0
    optional = {t.name: list(t.dims) for t in found.input if t.optional}
    session = onnxruntime.InferenceSession(tmp_path / "models" / "small_threshold" / "1" / "model.onnx")
    assert optional == {t.name: t.shape or [1] for t in session.get_overridable_initializers()}
    expected = {"of classes": {"class_thresholds"}, "merged": set(), "selective": {"selection_threshold"}}
    assert optional.keys() == {"threshold"} | expected[kind]


def test_engines_of_tensorrt_become_a_model(
    shared_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = with_engine(tmp_path / "small", shared_bundle)
    made = with_engine(tmp_path / "small", made, targets=(120,), batches=(1, 4, 16))
    made = with_engine(tmp_path / "small", made, targets=(120,), batches=(1, 2, 8))
    made = with_engine(tmp_path / "small", made, targets=(86,), batches=(8, 8, 8))
    made = with_engine(tmp_path / "small", made, runtime="tensorrt-rtx", targets=(89, 120))
    assert main([str(made.path), str(tmp_path / "models"), "--python-frontend"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2
    assert any("tensorrt-rtx" in note and "not of TensorRT-RTX" in note for note in notes)
    assert any("takes 8 at least" in note for note in notes)
    found = config(tmp_path / "models" / "small_tensorrt")
    assert (found.backend, found.max_batch_size) == ("tensorrt", 16)
    assert dict(found.cc_model_filenames) == {"8.9": "sm89.plan", "12.0": "sm120.plan"}
    assert found.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    specs = made.manifest.engines
    for target, batches in ((89, (1, 8, 32)), (120, (1, 4, 16))):
        (name,) = (n for n, s in specs.items() if (s.runtime, s.targets, s.batches) == ("tensorrt", (target,), batches))
        assert (tmp_path / "models" / "small_tensorrt" / "1" / f"sm{target}.plan").read_bytes() == made.read(name)
    graph = {
        t.name: [d if isinstance(d, int) else -1 for d in t.shape]
        for t in onnxruntime.InferenceSession(made.model).get_outputs()
    }
    assert {name: shape for name, (_, shape) in tensors(found, "output").items()} == graph
    frontend = config(tmp_path / "models" / "small_files")
    told = {name: value.string_value for name, value in frontend.parameters.items()}
    assert (told["network"], told["largest"]) == ("small_tensorrt", "16")


def test_the_files_parameters(written: Path) -> None:
    found = config(written / "small_files")
    told = {name: value.string_value for name, value in found.parameters.items()}
    assert (found.backend, told["network"], told["largest"]) == ("python", "small", "64")
    assert [(t.name, datatype(t), list(t.dims)) for t in found.input] == [("image", "BYTES", [1])]


def test_a_second_export_replaces_the_first(shared_bundle: Bundle, tmp_path: Path) -> None:
    for batch in (64, 16):
        assert main([str(shared_bundle.path), str(tmp_path / "models"), "--max-batch", str(batch)]) == 0
        assert config(tmp_path / "models" / "small").max_batch_size == batch
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["small", "small_threshold"]


def test_what_would_be_left_behind_is_refused(shared_bundle: Bundle, tmp_path: Path) -> None:
    arguments = [str(shared_bundle.path), str(tmp_path / "models")]
    assert main([*arguments, "--python-frontend"]) == 0
    with pytest.raises(ExportError, match="small_files is of an earlier bundle or of other options"):
        main(arguments)


def test_nothing_of_others_is_replaced(shared_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "small_threshold").mkdir()
    with pytest.raises(ExportError, match="small_threshold exists and is no model that export-triton wrote"):
        main([str(shared_bundle.path), str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["small_threshold"]


def changed(small: Bundle, **changes: Any) -> Bundle:
    return dataclasses.replace(small, manifest=dataclasses.replace(small.manifest, **changes))


def test_labels_of_several_lines(shared_bundle: Bundle) -> None:
    with pytest.raises(ExportError, match=r"labels\.txt has a class a line"):
        repository.models(changed(shared_bundle, labels=("cat\nhouse", "dog", "ship")), Scheduling())


def test_a_bundle_without_a_threshold(shared_bundle: Bundle) -> None:
    with pytest.raises(NotCalibrated, match="no threshold yet"):
        repository.models(changed(shared_bundle, gate=None), Scheduling())


@pytest.mark.parametrize(
    ("changes", "message"), [({"precision": "bf16"}, "only OpenVINO computes it in bf16"), ({"name": "a/b"}, "'a/b'")]
)
def test_models_that_triton_cant_have(changes: dict[str, Any], message: str, shared_bundle: Bundle) -> None:
    model = dataclasses.replace(shared_bundle.manifest.model, **changes)
    with pytest.raises(ExportError, match=message):
        repository.models(changed(shared_bundle, model=model), Scheduling())


@pytest.mark.parametrize("weight", [64, 65, -64, -65, -128])
def test_weights_whose_products_saturate(weight: int, shared_bundle: Bundle) -> None:
    """Two products of 255 each, added in 16 bits."""
    model = onnx.load_from_string(shared_bundle.model)
    model.graph.initializer.append(numpy_helper.from_array(np.full((2, 3), weight, np.int8), "eight_bits"))
    made = dataclasses.replace(shared_bundle, model=model.SerializeToString())
    if -(1 << 15) <= 2 * 255 * weight < 1 << 15:
        assert [found.config.name for found in repository.models(made, Scheduling())] == ["small", "small_threshold"]
    else:
        with pytest.raises(ExportError, match="products of its 8-bit weights saturate"):
            repository.models(made, Scheduling())


def test_a_model_without_classes(unlabelled_bundle: Bundle) -> None:
    with pytest.raises(ExportError, match="a model without classes has no answers"):
        repository.models(unlabelled_bundle, Scheduling())


@pytest.mark.parametrize(("option", "value"), [("--max-batch", "0"), ("--queue-delay", "-1"), ("--instances", "0")])
def test_numbers_out_of_range(option: str, value: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"{option}: expected at least"):
        main([str(shared_bundle.path), str(tmp_path), option, value])
