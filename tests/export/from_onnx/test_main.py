"""``python -m export --checkpoint model.onnx``: gated, calibrated, and decided as a computation by hand decides."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from PIL import Image

from export.__main__ import main
from export.convert.__main__ import main as convert
from export.from_onnx.surgery.network import rename
from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import Manifest
from runtime.selftest import main as selftest
from tests.commands import failure
from tests.export.conftest import call
from tests.export.from_onnx.graphs import NCHW, SIDE, K, Writer, scikit_like, tensorflow_like, torch_like
from tests.small import SPEC, calibration_images

LABELS = ("cat", "dog", "ship")
Array = npt.NDArray[Any]


def normalised(images: npt.NDArray[np.uint8]) -> Array:
    return (images / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)


class Ranges(CalibrationDataReader):  # type: ignore[misc]
    """Images for a quantiser."""

    def __init__(self) -> None:
        x = normalised(calibration_images(16, seed=3)).transpose(0, 3, 1, 2).astype(np.float32)
        self._batches = iter([{"input": x[i : i + 1]} for i in range(16)])

    def get_next(self) -> Any:
        return next(self._batches, None)


def quantised(path: Path, form: QuantFormat) -> onnx.ModelProto:
    """A torch-like graph of 8 bits, as ONNX Runtime's quantiser writes it."""
    onnx.save(torch_like(), path / "float.onnx")
    quantize_static(path / "float.onnx", path / "int8.onnx", Ranges(), quant_format=form)
    return onnx.load(path / "int8.onnx")


def probabilities(model: onnx.ModelProto, images: Array) -> Array:
    """What the file itself says, one image at a time, by ONNX Runtime and nothing of this project."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # no kernels of 8 bits, that saturate
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (name,) = (item.name for item in session.get_inputs())
    found = [session.run(None, {name: image[None]})[-1] for image in images.astype(np.float32)]
    return np.array([list(one[0].values()) if isinstance(one[0], dict) else one[0] for one in found])


# What the file takes of images, and what options it needs.
CASES: dict[str, tuple[Callable[[Path], onnx.ModelProto], Callable[[Array], Array], str]] = {
    "torch": (lambda _: torch_like(), lambda x: normalised(x).transpose(0, 3, 1, 2), "normalised"),
    "scikit": (lambda _: scikit_like(), lambda x: (x / 255).reshape(len(x), -1), "unit"),
    "tensorflow": (lambda _: tensorflow_like(), normalised, "normalised"),
    "QDQ": (lambda path: quantised(path, QuantFormat.QDQ), lambda x: normalised(x).transpose(0, 3, 1, 2), "normalised"),
    "QOperator": (
        lambda path: quantised(path, QuantFormat.QOperator),
        lambda x: normalised(x).transpose(0, 3, 1, 2),
        "normalised",
    ),
}


def options(path: Path, model: onnx.ModelProto, **changes: Any) -> list[str]:
    """A command line for a model; None leaves an option out."""
    file, labels, images = path / "model.onnx", path / "labels.txt", path / "known.npz"
    file.write_bytes(model.SerializeToString())
    labels.write_text("\n".join(LABELS))
    np.savez(images, images=calibration_images(99), labels=np.array(LABELS)[np.arange(99) % 3])
    chosen = {
        "checkpoint": file,
        "labels": labels,
        "mean": SPEC.mean,
        "std": SPEC.std,
        "resize_to": SIDE,
        "calibration": images,
        "alpha": 0.1,
        "out": path / "bundle",
        **changes,
    }
    argv: list[str] = []
    for name, value in chosen.items():
        if value is not None:
            values = value if isinstance(value, tuple) else (value,)
            argv += [f"--{name.replace('_', '-')}", *map(str, values)]
    return argv


def case(name: str, path: Path) -> tuple[onnx.ModelProto, Callable[[Array], Array], list[str]]:
    make, take, kind = CASES[name]
    model = make(path)
    changes: dict[str, Any] = {}
    if kind == "unit":
        changes = {"mean": (0, 0, 0), "std": (1, 1, 1), "size": SIDE, "labels": None}
    return model, take, options(path, model, **changes)


@pytest.mark.parametrize("name", CASES)
def test_decisions_are_those_of_a_computation_by_hand(name: str, tmp_path: Path) -> None:
    model, take, argv = case(name, tmp_path)
    call(main, *argv)
    shares = probabilities(model, take(calibration_images(99)))
    gate = Gate.load(tmp_path / "bundle", threads=1)
    spec = gate.manifest.gate
    assert spec is not None
    assert gate.manifest.labels == LABELS
    images = calibration_images(60, seed=9)
    decisions = gate.decide(images)
    expected = probabilities(model, take(images))
    confidences = [decision.scores["msp"] for decision in decisions]
    tolerance = 2e-2 if name in ("QDQ", "QOperator") else 1e-5  # ONNX Runtime's softmax of 8 bits is a table
    np.testing.assert_allclose(confidences, expected.max(axis=1), atol=tolerance)
    assert shares.shape == (99, K)
    for decision, row in zip(decisions, expected, strict=True):
        if np.sort(row)[-2] < row.max() - 2 * tolerance:
            assert decision.class_index == row.argmax()
        energy = decision.scores["energy"]
        assert decision.is_ood == (energy < spec.threshold)
    assert 0 < sum(decision.is_ood for decision in decisions) < 60


@pytest.mark.parametrize("name", ["torch", "tensorflow", "scikit"])
def test_the_threshold_is_that_of_the_logits_by_hand(name: str, tmp_path: Path) -> None:
    """Energies up to the constant that a softmax takes away: log p_k = f_k - energy."""
    model, take, argv = case(name, tmp_path)
    call(main, *argv)
    manifest = Bundle.load(tmp_path / "bundle").manifest
    session = ort.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), providers=["CPUExecutionProvider"])
    images = calibration_images(99)
    logits, scores, accept = session.run(["logits", "scores", "accept"], {"images": images})
    energy = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(
        np.log(probabilities(model, take(images))), logits - energy[:, None], rtol=1e-3, atol=1e-4
    )
    assert manifest.gate is not None
    assert manifest.gate.threshold == pytest.approx(np.sort(energy)[math.floor(0.1 * 100) - 1], abs=1e-4)
    np.testing.assert_array_equal(
        accept, scores[:, manifest.scores.index("energy")] >= np.float32(manifest.gate.threshold)
    )


def test_the_bundle_says_what_it_is(tmp_path: Path) -> None:
    output = call(main, *options(tmp_path, torch_like()))
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert (manifest.model.arch, manifest.model.method, manifest.model.precision) == ("model.onnx", "unknown", "fp32")
    assert (manifest.input.height, manifest.input.width, manifest.model.features) == (SIDE, SIDE, 8)
    assert manifest.model.parameters == 8 * 27 + 8 + 3 * 8 + 3
    assert manifest.provenance["versions"].keys() == {"oodgate", "python", "onnx", "onnxruntime", "numpy", "pillow"}
    assert "it ends with softmax; the logits are taken in front, from fc" in output
    assert "verified against ONNX Runtime on 99 images" in output
    assert "calibration" in manifest.data


@pytest.mark.parametrize("name", ["QDQ", "QOperator"])
def test_eight_bits_are_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, argv = case(name, tmp_path)
    call(main, *argv)
    assert Bundle.load(tmp_path / "bundle").manifest.model.precision == "int8"
    message = failure(capsys, main, *argv, "--precision", "fp16")
    assert "is int8 already" in message


def test_weights_of_8_bits_stay_so_whatever_the_version(tmp_path: Path) -> None:
    """onnx's own evaluator computes DequantizeLinear from version 19 on, and would make floats of them."""
    later = version_converter.convert_version(quantised(tmp_path, QuantFormat.QDQ), 21)
    call(main, *options(tmp_path, later))
    model = onnx.load(tmp_path / "bundle" / "model.onnx")
    assert Bundle.load(tmp_path / "bundle").manifest.model.precision == "int8"
    weights = [
        name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") for name in node.input[1:2]
    ]
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    assert "DequantizeLinear" in {made.get(name) for name in weights}


def test_a_converted_file(tmp_path: Path) -> None:
    call(main, *options(tmp_path, torch_like(), precision="fp16"))
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.model.precision == "fp16"
    assert manifest.parity is not None
    assert manifest.parity.label_agreement == 1


@pytest.mark.parametrize(
    ("inputs", "inner"),
    [("image", "inner"), ("images", "image"), ("input", "resize/Shape_0")],
)
def test_names_of_ours_in_the_file(inputs: str, inner: str, tmp_path: Path) -> None:
    model = torch_like()
    rename(model, {"input": inputs, "relu": inner})
    model.graph.node[0].name = inner
    call(main, *options(tmp_path, model))
    pipeline = OnnxRuntimeCpu((tmp_path / "bundle" / "pipeline.onnx").read_bytes(), threads=1)
    assert pipeline.signature.inputs["image"].dtype == "uint8"
    assert selftest([str(tmp_path / "bundle"), "--engine", "onnxruntime-cpu"]) == 0


@pytest.mark.parametrize("inner", ["scores", "images", "penultimate", "accept"])
def test_names_of_ours_in_a_subgraph(inner: str, tmp_path: Path) -> None:
    """A branch scales the activations by a constant that nothing else reads."""
    model = torch_like()
    (relu,) = (node for node in model.graph.node if "relu" in node.output)
    relu.output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2), inner))
    model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "yes"))
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["before", inner], [f"{inner}/{name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{inner}/{name}", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }
    at = list(model.graph.node).index(relu) + 1
    model.graph.node.insert(at, helper.make_node("If", ["yes"], ["relu"], **branches))
    call(main, *options(tmp_path, model))
    assert Bundle.load(tmp_path / "bundle").manifest.labels == LABELS


def test_a_choice_of_the_score_stands_at_another_precision(tmp_path: Path) -> None:
    images = tmp_path / "many.npz"
    np.savez(images, images=calibration_images(400))
    given = options(tmp_path, torch_like(), calibration=images, score="auto")
    call(main, *given)
    chosen = Bundle.load(tmp_path / "bundle").manifest
    assert chosen.gate is not None
    assert chosen.gate.choice is not None
    options_of_convert = ("--precision", "fp16", "--calibration", images, "--out", tmp_path / "converted")
    call(convert, tmp_path / "bundle", *options_of_convert)
    call(main, *given, "--precision", "fp16", "--out", tmp_path / "exported")
    for name in ("converted", "exported"):
        manifest = Bundle.load(tmp_path / name).manifest
        assert manifest.gate is not None
        assert manifest.model.precision == "fp16"
        assert (manifest.gate.score, manifest.gate.choice) == (chosen.gate.score, chosen.gate.choice)
        assert manifest.gate.n_calibration <= 300  # those that chose it set no threshold
        assert "The scores were compared on 100 other" in (tmp_path / name / "card.md").read_text()


# --- options


def test_everything_missing_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": ("N", 3, "h", "w")}, {"output": ("N", K)})
    message = failure(capsys, main, *options(tmp_path, model, labels=None, mean=None, std=None, resize_to=None))
    for wanted in (
        "--labels FILE",
        "--size 224",
        "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225",
        "--resize-to 256",
    ):
        assert wanted in message
    assert not (tmp_path / "bundle").exists()


def test_labels_and_range_of_the_file_itself(tmp_path: Path) -> None:
    metadata = {"author": "Ultralytics", "task": "classify", "names": "{0: 'cat', 1: 'dog', 2: 'ship'}"}
    model = torch_like(metadata=metadata)
    output = call(main, *options(tmp_path, model, labels=None, mean=None, std=None, resize_to=None))
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.labels == LABELS
    assert (manifest.input.mean, manifest.input.std) == ((0, 0, 0), (1, 1, 1))
    assert (manifest.input.resize, manifest.input.resize_to) == ("shortest", SIDE)
    assert "3 labels from names: cat, dog, ship" in output
    assert "Ultralytics' classifiers take pixels / 255" in output


def test_labels_of_the_file_that_are_shared(tmp_path: Path) -> None:
    model = torch_like(metadata={"names": "['crane', 'dog', 'crane']"})
    output = call(main, *options(tmp_path, model, labels=None, calibration=None, alpha=None))
    assert Bundle.load(tmp_path / "bundle").manifest.labels == ("crane (0)", "dog", "crane (2)")
    assert "labels that several classes share got their index: crane" in output


def test_the_order_of_channels_of_the_file_itself(tmp_path: Path) -> None:
    metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    model = torch_like(metadata=metadata)
    output = call(main, *options(tmp_path, model, mean=None, std=None))
    images = calibration_images(20, seed=9)
    expected = probabilities(model, images[..., ::-1].transpose(0, 3, 1, 2))
    confidences = [decision.scores["msp"] for decision in Gate.load(tmp_path / "bundle", threads=1).decide(images)]
    np.testing.assert_allclose(confidences, expected.max(axis=1), atol=1e-4)
    assert "its metadata says Bgr8: channels are given to it in that order" in output


@pytest.mark.parametrize(
    ("fill", "colour"), [(None, (255, 255, 255)), ((114,), (114, 114, 114)), ((9, 90, 200), (9, 90, 200))]
)
def test_a_letterbox(tmp_path: Path, fill: tuple[int, ...] | None, colour: tuple[int, int, int]) -> None:
    """An image twice as wide as high, as its owner lays it on the input, and its file to the gate."""
    output = call(main, *options(tmp_path, torch_like(), resize_to=None, resize="border", fill=fill))
    assert ("is white; --fill says otherwise" in output) == (fill is None)
    wide = Image.fromarray(calibration_images(1, seed=9)[0]).resize((96, 48), Image.Resampling.BICUBIC)
    wide.save(tmp_path / "wide.png")
    canvas = Image.new("RGB", (SIDE, SIDE), colour)
    canvas.paste(wide.resize((SIDE, SIDE // 2), Image.Resampling.BILINEAR), (0, SIDE // 4))
    expected = probabilities(torch_like(), normalised(np.asarray(canvas)[None]).transpose(0, 3, 1, 2))
    (decision,) = Gate.load(tmp_path / "bundle", threads=1).decide([tmp_path / "wide.png"])
    assert decision.scores["msp"] == pytest.approx(expected.max(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fill": (1, 2)}, "--fill 1 2: expected a grey level, or R, G and B, from 0 to 255"),
        ({"fill": 256}, "--fill 256: expected a grey level"),
        ({"fill": (-1, 0, 0)}, "--fill -1 0 0: expected a grey level"),
        ({"fill": 0, "resize": "center", "resize_to": None}, "center leaves nothing to fill; --resize border does"),
    ],
)
def test_a_colour_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert message in failure(capsys, main, *options(tmp_path, torch_like(), **changes))


def test_options_that_contradict_the_file_are_said(tmp_path: Path) -> None:
    metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    metadata |= {"names": "['dog', 'cat', 'ship']"}
    output = call(main, *options(tmp_path, torch_like(metadata=metadata), channels="rgb"))
    assert "its metadata says Bgr8: --channels rgb says otherwise" in output
    assert "NominalRange_0_255, for pixels from 0 to 255: --mean and --std say otherwise" in output
    assert "names has these labels in another order: --labels says otherwise" in output
    assert Bundle.load(tmp_path / "bundle").manifest.labels == LABELS
    scaled = {"mean": (0, 0, 0), "std": (0.00392157,) * 3, "channels": "bgr"}
    (tmp_path / "other").mkdir()
    output = call(main, *options(tmp_path / "other", torch_like(metadata=metadata), **scaled))
    assert "--mean and --std say" not in output
    assert "--channels bgr says" not in output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 32}, "--size 32: its input input takes 16 x 16"),
        ({"std": None}, "--mean and --std go together"),
        ({"mean": (123.7, 116.3, 103.5)}, "divide those of pixels from 0 to 255 by 255"),
        ({"channels": "grey"}, "--channels grey: its input input has three channels"),
        ({"labels": "nowhere.txt"}, "nowhere.txt"),
        ({"layout": "nhwc"}, "has 16 channels as nhwc"),
        ({"output": "nowhere"}, "--output nowhere: there is no such tensor; the outputs are output [1, 3]"),
        ({"penultimate": "nowhere"}, "--penultimate nowhere: there is no such tensor"),
        ({"checkpoint": "nowhere.onnx"}, "nowhere.onnx: no such file"),
        ({"key": "model_ema"}, "--key goes with a checkpoint of torch, not with an ONNX file"),
        ({"ema": ()}, "--ema goes with a checkpoint of torch"),
        ({"trust": ()}, "--trust goes with a checkpoint of torch"),
    ],
    ids=str,
)
def test_wrong_options(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in failure(capsys, main, *options(tmp_path, torch_like(), **changes))
    assert not (tmp_path / "bundle").exists()


def test_pixels_as_they_are_need_no_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    w = Writer()
    w.op("Cast", "x", "float", to=1)
    w.op("Flatten", w.features("float"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": NCHW}, {"output": (1, K)}, dtype=2)
    assert "takes pixels as they are" in call(main, *options(tmp_path, model, mean=None, std=None))
    assert "takes pixels as they are" in failure(capsys, main, *options(tmp_path, model))


def test_the_manifest_is_complete(tmp_path: Path) -> None:
    call(main, *options(tmp_path, tensorflow_like(), calibration=None, alpha=None))
    bundle = Bundle.load(tmp_path / "bundle")
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest
    assert bundle.manifest.gate is None


@pytest.mark.parametrize("folder", [".", "onnx"])
def test_what_optimum_writes_beside_a_file(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    argv = options(tmp_path, torch_like(), labels=None, mean=None, std=None, resize_to=None)
    (tmp_path / "model.onnx").rename(tmp_path / folder / "model.onnx")
    names = {str(i): name for i, name in enumerate(LABELS)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": names}))
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}, "resample": 3}
    statistics = {"image_mean": SPEC.mean, "image_std": SPEC.std}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor | statistics))
    output = call(main, *argv[2:], "--checkpoint", tmp_path / folder / "model.onnx")
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.labels == LABELS
    assert (manifest.input.mean, manifest.input.std) == (SPEC.mean, SPEC.std)
    assert (manifest.input.resize, manifest.input.interpolation, manifest.input.colour) == (
        "squash",
        "bicubic",
        "ignore",
    )
    assert "3 labels from config.json: cat, dog, ship" in output


def test_a_config_beside_a_file_that_is_no_model_of_transformers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = options(tmp_path, torch_like(), labels=None)
    (tmp_path / "config.json").write_text('{"id2label": {"0": "a"}}')
    assert "needs --labels" in failure(capsys, main, *argv)
