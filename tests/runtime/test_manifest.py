"""The manifest: an exact round trip, and every malformed field refused by name."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtime.exceptions import UnknownOperatingPoint
from runtime.manifest import (
    SCHEMA_VERSION,
    Calibration,
    Choice,
    ClassPoint,
    Confidence,
    DataSpec,
    ErrorBound,
    FileEntry,
    GateSpec,
    InputSpec,
    LabelSet,
    Manifest,
    Merged,
    ModelSpec,
    Numerics,
    OperatingPoint,
    OrderStatistics,
    Parity,
    PValueCurve,
    Selection,
)

FULL = Manifest(
    model=ModelSpec("name", "resnet18", "logitnorm", 11_173_962, 512, "int8"),
    task="multiclass",
    labels=("cat", "dog"),
    input=InputSpec(
        32,
        48,
        (0.49, 0.48, 0.45),
        (0.2, 0.2, 0.2),
        "squash",
        0.875,
        "bicubic",
        "srgb",
        (40, 56),
        "floor",
        (1, 2, 255),
        "torch",
    ),
    scores=("msp", "energy", "msp+energy"),
    score_parameters={"energy": {"temperature": 0.1}},
    merged={
        "msp+energy": Merged(
            "harmonic",
            2,
            {"msp": PValueCurve((0.1, 0.7), (0.3, 1.0), 0.5), "energy": PValueCurve((2.0,), (1.0,), 1.0)},
        )
    },
    gate=GateSpec(
        "energy",
        1.25,
        0.1,
        0.9,
        3,
        (0.8, 0.95),
        0.25,
        calibration=Calibration(
            3,
            (1, 2, 3),
            {"msp": (0.1, 0.1, 0.9), "energy": (-1.0, 1.25, 1e30), "msp+energy": (0.1, 0.2, 0.3)},
            {"cat": OrderStatistics(2, (1, 2), (0.75, 1.0))},
        ),
        classes={"cat": ClassPoint(2, 0.75, (0.7, 1.0), 0.5)},
        class_conditional=True,
        operating_points=(
            OperatingPoint(0.05, 0.5, (0.9, 0.99), 0.125, selection=Selection(0.875, 200, 0, 0.0149)),
            OperatingPoint(
                0.5,
                2.5,
                (0.25, 0.75),
                0.875,
                {"cat": ClassPoint(2, 1.0, (0.1, 0.9), 0.95)},
                Selection(0.75, 150, 0, 0.0198),
                (LabelSet(0.5, 0.25, 9, 1.5),),
            ),
        ),
        guarantee="pac",
        confidence=0.9,
        selection=Selection(0.5, 300, 1, 0.0157),
        sets=(LabelSet(0.9, 0.25, 99, 1.5), LabelSet(0.95, 0.125, 99, 1.75)),
        max_error=ErrorBound(0.02, 0.95, "msp", 400),
        choice=Choice(7, {"noise": 9}, {"noise": {"msp": 0.5, "energy": 0.75}}, {"0.1": 0.75, "1": 0.5}),
    ),
    confidence=Confidence(1.5, 3, 0.25, 0.125),
    parity=Parity("val.tar@1/2", 3, 0.75, 0.01, 0.25, 1, 0, None),
    data={"calibration": DataSpec("val.tar@1/2", 3, "AAAAAAAAAAA=")},
    provenance={"versions": {"torch": "2.9"}, "loss": [1.5, 0.25]},
    files={"model.onnx": FileEntry("ab" * 32, 1234), "card": FileEntry("cd" * 32, 5)},
)
MINIMAL = Manifest(FULL.model, "multilabel", ("only",), InputSpec(1, 1, (0, 0, 0), (1, 1, 1)), ("msp",))

SQUARE = {"height": 8, "width": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}


def short(value: object) -> str:
    """A parameter in a test's name."""
    return str(value)[:40]


def document(change: Callable[[Any], None] = lambda _: None) -> str:
    value = copy.deepcopy(json.loads(FULL.to_json()))
    change(value)
    return json.dumps(value)


def at(document: Any, path: str) -> tuple[Any, str]:
    """The object that holds the field at a dotted path, and the field's name."""
    *parents, last = path.split(".")
    for name in parents:
        document = document[name]
    return document, last


def put(path: str, value: Any) -> Callable[[Any], None]:
    """A change that sets a field."""

    def change(document: Any) -> None:
        owner, name = at(document, path)
        owner[name] = value

    return change


def drop(path: str) -> Callable[[Any], None]:
    """A change that removes a field."""

    def change(document: Any) -> None:
        owner, name = at(document, path)
        del owner[name]

    return change


# --- round trip


@pytest.mark.parametrize("manifest", [FULL, MINIMAL], ids=["full", "minimal"])
@pytest.mark.parametrize("indent", [None, 1, 2])
def test_json_reads_back_as_the_same_manifest(manifest: Manifest, indent: int | None) -> None:
    assert Manifest.from_json(manifest.to_json(indent=indent)) == manifest


def test_json_may_be_bytes() -> None:
    assert Manifest.from_json(FULL.to_json().encode()) == FULL


@pytest.mark.parametrize("indent", [None, 1])
def test_numbers_survive_exactly(indent: int | None, rng: np.random.Generator) -> None:
    values = tuple(np.sort(rng.normal(size=1000) * 10.0 ** rng.integers(-300, 300, 1000)).tolist())
    assert FULL.gate is not None
    quantiles = dict.fromkeys(FULL.scores, values)
    calibration = Calibration(1000, tuple(range(1, 1001)), quantiles, FULL.gate.calibration.classes)
    gate = dataclasses.replace(FULL.gate, n_calibration=1000, calibration=calibration)
    manifest = dataclasses.replace(FULL, gate=gate)
    assert Manifest.from_json(manifest.to_json(indent=indent)).gate == gate


@pytest.mark.parametrize(
    "label", ["[a  b]", "a [1,  2] b", " [ ] ", "{}", '"quoted"', "line\nbreak", "tab\t", "猫", ""]
)
@pytest.mark.parametrize("indent", [None, 1])
def test_labels_survive_whatever_they_contain(indent: int | None, label: str) -> None:
    manifest = dataclasses.replace(FULL, labels=("cat", label))
    assert Manifest.from_json(manifest.to_json(indent=indent)).labels == ("cat", label)


def test_indented_json_keeps_a_list_of_numbers_on_one_line() -> None:
    lines = {"".join(line.split()).rstrip(",") for line in FULL.to_json(indent=1).splitlines()}
    assert '"energy":[-1.0,1.25,1e+30]' in lines


def test_schema_version_comes_first() -> None:
    assert next(iter(json.loads(FULL.to_json()))) == "schema_version"


def test_fields_are_those_of_the_design() -> None:
    assert set(json.loads(FULL.to_json())) == {
        "schema_version",
        "model",
        "task",
        "labels",
        "input",
        "scores",
        "score_parameters",
        "merged",
        "gate",
        "calibration",
        "confidence",
        "parity",
        "data",
        "provenance",
        "files",
        "engines",
    }


def test_the_calibration_stands_beside_the_gate() -> None:
    value = json.loads(FULL.to_json())
    assert value == json.loads(json.dumps(FULL.to_dict()))
    assert list(value)[list(value).index("gate") + 1] == "calibration"
    assert "calibration" not in value["gate"]
    value["gate"]["calibration"] = value["calibration"]
    with pytest.raises(ValueError, match=r"gate\.calibration: unknown field"):
        Manifest.from_json(json.dumps(value))


def test_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dataclasses.replace(FULL, provenance={"loss": math.nan}).to_json()


def test_a_manifest_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.task = "multilabel"  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["score_parameters", "merged", "gate", "calibration", "confidence", "provenance", "files"]
)
def test_optional_fields_may_be_left_out(name: str) -> None:
    value = json.loads(FULL.to_json())
    for absent in {"gate", "calibration"} if name in ("gate", "calibration") else {name}:
        del value[absent]
    assert not getattr(Manifest.from_json(json.dumps(value)), "gate" if name == "calibration" else name)


# --- numerics


@pytest.mark.parametrize(
    "numerics",
    [Numerics("onnxruntime-cpu", "int8", ("avx2", "avx512_vnni")), Numerics("openvino", "bf16", ("amx_bf16",))],
)
def test_what_computed_the_scores_survives(numerics: Numerics) -> None:
    model = dataclasses.replace(FULL.model, precision=numerics.precision, numerics=numerics)
    manifest = dataclasses.replace(FULL, model=model)
    assert Manifest.from_json(manifest.to_json()) == manifest
    document = json.loads(manifest.to_json())["model"]["numerics"]
    flags = list(numerics.machine_flags)
    assert document == {"engine": numerics.engine, "precision": numerics.precision, "machine_flags": flags}


def test_a_bundle_of_before_has_none() -> None:
    value = json.loads(FULL.to_json())
    del value["model"]["numerics"], value["parity"]["flips_with_own_threshold"]
    found = Manifest.from_json(json.dumps(value))
    assert found.model.numerics is None
    assert found.parity is not None
    assert found.parity.flips_with_own_threshold is None


def test_what_parity_says_of_the_graph_holds_with_any_gate() -> None:
    assert FULL.parity is not None
    assert FULL.parity.flips == 1
    kept = FULL.parity.of_graph
    assert kept == Parity("val.tar@1/2", 3, 0.75, 0.01, 0.25, None, None, None)
    assert kept.flips is None
    manifest = dataclasses.replace(FULL, parity=kept)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert dataclasses.replace(FULL.parity, label_agreement=None).of_graph is None
    with pytest.raises(ValueError, match="parity: newly_rejected and newly_accepted must be given together"):
        Manifest.from_json(document(put("parity.newly_rejected", None)))


@pytest.mark.parametrize(
    ("numerics", "problem"),
    [
        ({"engine": "openvino", "precision": "bf16"}, "model: numerics.precision is bf16, and precision fp32"),
        ({"engine": "openvino", "precision": "fp32"}, "model: numerics.engine is openvino, which calibrates no fp32"),
        ({"engine": "tensorrt", "precision": "fp32"}, "model.numerics.engine: expected one of"),
        ({"engine": "onnxruntime-cpu"}, "model.numerics.precision: missing"),
        ({"engine": "onnxruntime-cpu", "precision": "fp8"}, "model.numerics.precision: expected one of"),
    ],
)
def test_numerics_that_can_not_be(numerics: dict[str, str], problem: str) -> None:
    def change(value: Any) -> None:
        value["model"] |= {"precision": "fp32", "numerics": numerics}

    with pytest.raises(ValueError, match=re.escape(problem)):
        Manifest.from_json(document(change))


# --- promises


def test_a_gate_of_before_promises_what_it_promised() -> None:
    """Bundles of schema version 1 that know nothing of the guarantees."""

    def strip(value: Any) -> None:
        for point in (value["gate"], *value["gate"]["operating_points"]):
            del point["selection"], point["sets"]
        for name in ("guarantee", "confidence", "max_error", "promise"):
            del value["gate"][name]

    gate = Manifest.from_json(document(strip)).gate
    assert gate is not None
    assert (gate.guarantee, gate.confidence, gate.max_error, gate.selection, gate.sets) == (
        "marginal",
        None,
        None,
        None,
        (),
    )
    assert (gate.threshold, gate.alphas) == (1.25, (0.05, 0.1, 0.5))


def test_the_promise_is_in_the_document_and_follows_from_the_rest() -> None:
    gate = FULL.gate
    assert gate is not None
    told = json.loads(FULL.to_json())["gate"]["promise"]
    assert told == gate.promise
    assert told.startswith(
        "With 90 % confidence over the draw of its 3 calibration images, this gate rejects at most 10 %"
    )
    assert told.endswith(
        "With 95 % confidence over the draw of 400 labelled test images, at most 2 % of the in-distribution images that it "
        "accepts are classified wrong."
    )
    assert Manifest.from_json(document(put("gate.promise", "All is well."))) == FULL
    assert "at most 50 %" in gate.at(0.5).promise


# --- operating points


def test_a_gate_can_be_moved_to_each_of_its_operating_points_and_back() -> None:
    gate = FULL.gate
    assert gate is not None
    assert gate.alphas == (0.05, 0.1, 0.5)
    for alpha, threshold, bound in ((0.05, 0.5, 0.125), (0.1, 1.25, 0.25), (0.5, 2.5, 0.875)):
        moved = gate.at(alpha)
        assert (moved.alpha, moved.threshold, moved.max_rejection, moved.tpr_target) == (
            alpha,
            threshold,
            bound,
            1 - alpha,
        )
        assert moved.points == gate.points
        assert moved.at(0.1) == gate
        assert moved.max_error == gate.max_error
    assert gate.at(0.05).selection == Selection(0.875, 200, 0, 0.0149)
    assert gate.at(0.5).sets == (LabelSet(0.5, 0.25, 9, 1.5),)
    assert gate.at(0.05).classes == {}
    assert gate.at(0.5).classes["cat"].threshold == 1.0


@pytest.mark.parametrize("alpha", [0.01, 0.1000001, math.nan])
def test_an_operating_point_that_is_not_stored(alpha: float) -> None:
    assert FULL.gate is not None
    with pytest.raises(UnknownOperatingPoint, match=rf"alpha = {alpha:g}; stored are 0.05, 0.1, 0.5\. Calibrate again"):
        FULL.gate.at(alpha)


# --- malformed documents


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"not json", b"\xff\xfe\x00", b"\x80", '{"a": 1}}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "open", "words", "utf-16", "not utf-8", "two ends", "deep list", "deep object"],
)
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Manifest.from_json(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"', "true", "NaN"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a JSON object"):
        Manifest.from_json(text)


@pytest.mark.parametrize("version", [0, 2, 999, -1, "1", None, [1], 1.5])
def test_another_schema_version_is_refused_first(version: Any) -> None:
    text = json.dumps({"schema_version": version, "unheard": "of"})
    with pytest.raises(ValueError, match=rf"^schema_version: expected {SCHEMA_VERSION}, found .*export"):
        Manifest.from_json(text)


@pytest.mark.parametrize("version", [True, 1.0])
def test_a_schema_version_that_only_equals_one_is_refused(version: Any) -> None:
    with pytest.raises(ValueError, match="schema_version"):
        Manifest.from_json(document(put("schema_version", version)))


def test_no_schema_version_is_refused() -> None:
    with pytest.raises(ValueError, match="schema_version: expected 1, found None"):
        Manifest.from_json(document(drop("schema_version")))


@pytest.mark.parametrize("path", ["model", "task", "labels", "input", "scores"])
def test_a_missing_field_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"^{path}: missing"):
        Manifest.from_json(document(drop(path)))


@pytest.mark.parametrize(
    "path",
    [
        "model.name",
        "model.features",
        "input.height",
        "input.mean",
        "input.std",
        "gate.threshold",
        "gate.score",
        "calibration.n",
        "calibration.ranks",
        "files.card.sha256",
    ],
)
def test_a_missing_inner_field_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"^{path}: missing"):
        Manifest.from_json(document(drop(path)))


@pytest.mark.parametrize(
    "change", [drop("gate.max_rejection"), put("gate.novelty", 1), put("novelty", 1), drop("calibration.n")]
)
def test_fields_of_another_version_say_what_to_do(change: Any) -> None:
    """The first bundles had no `max_rejection`; later ones may have what is unheard of here."""
    with pytest.raises(
        ValueError, match=r": (missing|unknown field).*; another version wrote this: export the bundle again$"
    ):
        Manifest.from_json(document(change))


@pytest.mark.parametrize("path", ["extra", "model.extra", "input.extra", "gate.extra", "calibration.extra"])
def test_an_unknown_field_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"{path}: unknown field"):
        Manifest.from_json(document(put(path, 1)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.name", 5),
        ("model.parameters", 1.5),
        ("model.features", "512"),
        ("task", "regression"),
        ("labels", "cat"),
        ("labels", ["cat", 1]),
        ("input.height", 32.0),
        ("input.width", True),
        ("input.mean", [0.5, 0.5]),
        ("input.std", [0.5, 0.5, "0.5"]),
        ("input.resize", "stretch"),
        ("input.interpolation", "area"),
        ("input.resize_to", "256"),
        ("input.resize_to", 256.0),
        ("input.resize_to", [256]),
        ("input.resize_to", [256, "320"]),
        ("input.corner", "ceil"),
        ("input.fill", 255),
        ("input.fill", [0, 0, 0, 0]),
        ("input.resampler", "opencv"),
        ("scores", {"msp": 0}),
        ("score_parameters", {"energy": {"temperature": "hot"}}),
        ("gate.threshold", "1.25"),
        ("gate.threshold", None),
        ("gate.alpha", [0.1]),
        ("gate.tpr_interval", [0.8]),
        ("gate.max_rejection", "0.1"),
        ("gate.classes", ["cat"]),
        ("gate.classes", {"cat": 1.5}),
        ("gate.classes.cat.n", 2.5),
        ("gate.class_conditional", 1),
        ("gate.operating_points", {}),
        ("gate.operating_points", [0.05]),
        ("gate.choice", "auto"),
        ("gate.choice.auroc", {"noise": 0.5}),
        ("gate.choice.temperatures", {"1": "high"}),
        ("merged", ["msp+energy"]),
        ("merged.msp+energy.method", "max"),
        ("merged.msp+energy.parts.msp", [0.5]),
        ("merged.msp+energy.parts.msp.knots", [0.5, "1"]),
        ("calibration.classes", [1]),
        ("calibration.classes.cat.quantiles", {"energy": [1]}),
        ("confidence", 1.5),
        ("confidence.temperature", "1"),
        ("calibration.ranks", [1, 2, 3.0]),
        ("calibration.quantiles", [1]),
        ("provenance", []),
        ("files", [1]),
        ("files", {"model.onnx": "ab"}),
        ("files", {"model.onnx": {"sha256": 1, "bytes": 1}}),
        ("files", {"model.onnx": {"sha256": "ab", "bytes": "1"}}),
    ],
    ids=short,
)
def test_a_value_of_the_wrong_type_is_named(path: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(path)}.*: expected"):
        Manifest.from_json(document(put(path, value)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("input.height", 0, "input size must be positive, found 0 x 48"),
        ("input.width", -1, "input size must be positive"),
        ("input.crop_fraction", 0, "crop_fraction"),
        ("input.crop_fraction", 1.01, "crop_fraction"),
        ("input.crop_fraction", math.nan, "crop_fraction"),
        ("input.resize_to", [32, 0], "resize_to must be positive"),
        ("input.resize_to", 40, "resize_to of squash must be .height, width., found 40"),
        ("input.resize", "center", "resize_to goes with shortest, squash and border"),
        ("input", {**SQUARE, "resize": "shortest"}, "resize_to: shortest needs the short side, such as 256"),
        ("input", {**SQUARE, "resize": "shortest", "resize_to": -1}, "resize_to must be positive, found -1"),
        ("input", {**SQUARE, "resize": "none", "resize_to": 8}, "resize_to goes with shortest, squash and border"),
        ("input", {**SQUARE, "resampler": "torch"}, "center is resampled by pillow alone, found torch"),
        ("input.fill", [0, 0, 256], "fill must be a colour of 0 to 255 a channel"),
        ("input.mean", [math.nan, 0, 0], "mean must be finite"),
        ("input.mean", [math.inf, 0, 0], "mean must be finite"),
        ("input.std", [1, 0, 1], "std positive"),
        ("input.std", [1, -1, 1], "std positive"),
        ("input.std", [1, math.nan, 1], "std positive"),
        ("input.std", [1, 1, 255], r"of pixels in \[0, 1\]"),
        ("input.mean", [123.675, 116.28, 103.53], "divided by 255, mean 0.485 0.456 0.406 and std"),
        ("labels", [], "labels must be distinct and at least one"),
        ("labels", ["cat", "cat"], "labels must be distinct"),
        ("scores", [], "scores must be distinct and at least one"),
        ("scores", ["msp", "msp"], "scores must be distinct"),
        ("gate.threshold", math.nan, "threshold must be a finite float32, found nan"),
        ("gate.threshold", math.inf, "threshold must be a finite float32, found inf"),
        ("gate.threshold", -math.inf, "threshold must be a finite float32"),
        ("gate.threshold", 1e39, "threshold"),
        ("gate.alpha", 0, "alpha"),
        ("gate.alpha", 1, "alpha"),
        ("gate.alpha", math.nan, "alpha"),
        ("gate.score", "entropy", "gate.score is 'entropy', not one of the scores"),
        ("gate.guarantee", "marginal", "a guarantee of pac has a confidence, found marginal and 0.9"),
        ("gate.confidence", None, "a guarantee of pac has a confidence, found pac and None"),
        ("gate.confidence", 1, "confidence must be in"),
        ("gate.max_error", None, "max_error needs a selection at every operating point"),
        ("gate.selection", None, "max_error needs a selection at every operating point"),
        ("gate.max_error.rate", 0, "rate and confidence must be in"),
        ("gate.max_error.confidence", 1, "rate and confidence must be in"),
        ("gate.max_error.score", "entropy", "gate.max_error.score is 'entropy', not one of"),
        ("gate.selection.threshold", math.nan, "threshold must be a finite float32, found nan"),
        ("gate.selection.errors", 301, "errors must be from 0 to 300, found 301"),
        ("gate.selection.upper", 1.5, "upper must be in"),
        ("gate.sets", [{"coverage": 0.9, "threshold": 1.5, "n": 9, "size": 1}], "threshold in"),
        ("gate.sets", [{"coverage": 1, "threshold": 0.5, "n": 9, "size": 1}], "coverage must be in"),
        ("gate.sets", [{"coverage": 0.9, "threshold": 0.5, "n": 9, "size": 0.5}], "size must be at least 1"),
        ("task", "multilabel", "max_error and sets are for models of one label an image"),
        ("gate.tpr_interval", [0.9, 0.8], "tpr_interval must ascend within"),
        ("gate.tpr_interval", [0.9, 1.1], "tpr_interval"),
        ("gate.tpr_interval", [math.nan, 0.9], "tpr_interval"),
        ("gate.max_rejection", 1.5, "max_rejection must be in"),
        ("gate.max_rejection", math.nan, "max_rejection"),
        ("gate.class_conditional", False, "classes must be empty where class_conditional is false"),
        ("gate.classes.cat.threshold", math.nan, "threshold must be a finite float32"),
        ("gate.classes.cat.max_rejection", -1, "max_rejection"),
        ("gate.classes.cat.n", 3, "calibration.classes must have the 3 images of 'cat'"),
        (
            "gate.classes",
            {"bird": {"n": 2, "threshold": 1, "tpr_interval": [0, 1], "max_rejection": 1}},
            "'bird' is not",
        ),
        ("gate.alpha", 0.05, "operating_points must differ"),
        ("calibration.classes", {}, "calibration.classes must have the 2 images of 'cat'"),
        ("calibration.classes.cat.ranks", [1, 3], "ranks must ascend"),
        ("calibration.classes.cat.quantiles", [1.0, 0.5], "quantiles must be 2 finite ascending"),
        ("calibration.classes.cat.quantiles", [1.0, math.inf], "quantiles must be 2 finite ascending"),
        ("merged", {"msp+entropy": {"method": "min", "n": 1, "parts": {}}}, "'msp\\+entropy' and what it is made of"),
        ("merged.msp+energy.parts", {}, "'msp\\+energy' and what it is made of"),
        ("merged.msp+energy.parts.msp.knots", [0.7, 0.1], "knots and heights must ascend"),
        ("merged.msp+energy.parts.msp.knots", [], "knots and heights must ascend"),
        ("merged.msp+energy.parts.msp.knots", [0.1, math.inf], "knots must be finite"),
        ("merged.msp+energy.parts.msp.heights", [0.3, 1.5], "heights in"),
        ("merged.msp+energy.parts.msp.heights", [0.3], "be as many"),
        ("merged.msp+energy.parts.msp.heights", [0, 1], "heights in"),
        ("merged.msp+energy.parts.msp.tail", 0, "tail must be positive"),
        ("merged.msp+energy.parts.msp.tail", math.nan, "tail must be positive"),
        ("confidence.temperature", 0, "temperature must be positive"),
        ("confidence.temperature", math.inf, "temperature must be positive"),
        ("gate", None, "gate and calibration must be given together"),
        ("calibration", None, "gate and calibration must be given together"),
        ("calibration.n", 4, "ranks must ascend from at least 1 and end with n = 4"),
        ("calibration.ranks", [], "ranks must ascend"),
        ("calibration.ranks", [1, 1, 3], "ranks must ascend"),
        ("calibration.ranks", [2, 1, 3], "ranks must ascend"),
        ("calibration.ranks", [0, 1, 3], "ranks"),
        ("calibration.ranks", [-5, 1, 3], "ranks"),
        ("calibration.quantiles.msp", [0.1, 0.2], "quantiles of msp must be 3 finite ascending"),
        ("calibration.quantiles.msp", [0.1, 0.3, 0.2], "quantiles of msp"),
        ("calibration.quantiles.msp", [0.1, math.nan, 0.2], "quantiles of msp"),
        ("calibration.quantiles.msp", [-math.inf, 0.1, 0.2], "quantiles of msp"),
        ("calibration.quantiles.msp", [0.1, 0.2, math.inf], "quantiles of msp"),
        ("calibration.quantiles", {"msp": [1, 2, 3]}, "quantiles must have the scores"),
        ("calibration.quantiles", {"msp": [1, 2, 3], "energy": [1, 2, 3], "x": [1, 2, 3]}, "must have the scores"),
    ],
    ids=short,
)
def test_a_value_out_of_range_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(document(put(path, value)))


def test_a_single_quantile_must_be_a_number() -> None:
    def change(value: Any) -> None:
        value["calibration"] = {"n": 1, "ranks": [1], "quantiles": {"msp": [math.nan], "energy": [1.0]}}

    with pytest.raises(ValueError, match="quantiles of msp"):
        Manifest.from_json(document(change))


@pytest.mark.parametrize("name", ["../model.onnx", "/absolute/model.onnx", "engines/../../x", ".."])
def test_a_file_outside_the_bundle_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="files"):
        Manifest.from_json(document(put("files", {name: {"sha256": "ab", "bytes": 1}})))
