"""pipeline.onnx and golden/ are made of the model.onnx beside them, by every command that writes one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from export import making
from export.calibrate.__main__ import main as calibrate
from export.convert.__main__ import main as convert
from export.exceptions import ExportError
from export.fit.__main__ import main as fit
from export.from_onnx.surgery.network import rename
from export.pipeline.__main__ import main as pipeline
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import BundleError, FileDamaged
from runtime.golden import document
from runtime.selftest import main as selftest
from tests.export.conftest import Exported, Sources, call, contents
from tests.export.pipeline.test_graph import session

GOLDEN = document.GOLDEN


def check_in_step(path: Path) -> Bundle:
    """Both are of this model.onnx, its threshold included; what is listed is what is there."""
    loaded = Bundle.load(path)
    found = document.read(loaded)
    assert found
    assert (
        {f"golden/{image.file}" for image in found.images} | {GOLDEN}
        == {name for name in loaded.manifest.files if name.startswith("golden/")}
        == {file.relative_to(path).as_posix() for file in (path / "golden").iterdir()}
    )
    behind, engine = session(loaded.read("pipeline.onnx")), OnnxRuntimeCpu(loaded.model, threads=1)
    assert behind.get_modelmeta().custom_metadata_map["oodgate"] == engine.signature.manifest
    for image in found.images:
        pixels = np.asarray(Image.open(path / "golden" / image.file).convert("RGB"))
        if image.file in ("alpha.png", "rotated.jpg"):
            continue
        logits, _, scores, accept = behind.run(None, {"image": pixels})
        assert logits[0].tolist() == pytest.approx(image.logits, rel=1e-4, abs=1e-5)
        assert scores[0].tolist() == pytest.approx(list(image.scores.values()), rel=1e-4, abs=1e-5)
        assert accept.tolist() == [image.decision == "accept"]
    return loaded


def test_an_export_writes_both(exported: Exported) -> None:
    check_in_step(exported.path)


def test_calibrating_again_and_moving_the_threshold_write_both_again(exported_copy: Path, sources: Sources) -> None:
    before = Bundle.load(exported_copy)
    call(calibrate, exported_copy, f"{sources.val}@1/2", "--alpha", "0.2")
    again = check_in_step(exported_copy)
    assert changed(before, again) >= {"model.onnx", "pipeline.onnx", GOLDEN}
    call(calibrate, exported_copy, "--alpha", "0.1")
    assert changed(again, check_in_step(exported_copy)) >= {"model.onnx", "pipeline.onnx", GOLDEN}


def changed(before: Bundle, after: Bundle) -> set[str]:
    return {name for name, entry in after.manifest.files.items() if before.manifest.files[name] != entry}


def test_fitting_detectors_writes_both_and_without_a_gate_no_golden_images(
    exported_copy: Path, sources: Sources
) -> None:
    call(fit, exported_copy, sources.train, "--detectors", "knn", "--calibration", f"{sources.val}@1/2")
    loaded = check_in_step(exported_copy)
    assert "knn" in json.loads(loaded.read(GOLDEN))["images"][0]["scores"]
    output = call(fit, exported_copy, sources.train, "--detectors", "she")
    assert "golden/" in output
    assert not (exported_copy / "golden").exists()
    assert "pipeline.onnx" in Bundle.load(exported_copy).manifest.files


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_precision_has_expectations_of_its_own(
    precision: str, exported: Exported, sources: Sources, tmp_path: Path
) -> None:
    options = ("--precision", precision, "--calibration", f"{sources.val}@1/2", "--out", tmp_path / "converted")
    call(convert, exported.path, *options)
    loaded, before = check_in_step(tmp_path / "converted"), Bundle.load(exported.path)
    found, other = (json.loads(of.read(GOLDEN)) for of in (loaded, before))
    assert (found["precision"], other["precision"]) == (precision, "fp32")
    assert [image["pixels"] for image in found["images"]] == [image["pixels"] for image in other["images"]]
    assert [image["logits"] for image in found["images"]] != [image["logits"] for image in other["images"]]
    report = call(selftest, tmp_path / "converted", "--engine", "onnxruntime-cpu")
    assert report.startswith("onnxruntime-cpu: 12 golden images as expected; ")


def test_a_bundle_without_a_pipeline_gets_none_by_the_way(exported_copy: Path) -> None:
    call(pipeline, exported_copy, "--no-with-resize")
    assert not (exported_copy / "pipeline.onnx").exists()
    call(calibrate, exported_copy, "--alpha", "0.05")
    assert "pipeline.onnx" not in Bundle.load(exported_copy).manifest.files


def test_the_command_gives_an_older_bundle_both_and_leaves_all_else(exported_copy: Path) -> None:
    wanted, before = Bundle.load(exported_copy).manifest.files, parsed(exported_copy)
    strip(exported_copy)
    output = call(pipeline, exported_copy)
    assert "pipeline.onnx: " in output
    assert "golden: " in output
    assert "12 images" in output
    assert check_in_step(exported_copy).manifest.files == wanted
    assert parsed(exported_copy) == before


def parsed(path: Path) -> dict[str, Any]:
    """Every file, the manifest as an object, for the order of its files may be another."""
    files = contents(path)
    return {name: json.loads(data) if name == "manifest.json" else data for name, data in files.items()}


def strip(path: Path) -> None:
    """Make it a bundle as earlier versions wrote it."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"] = {"model.onnx": manifest["files"]["model.onnx"]}
    (path / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(path / "golden")
    (path / "pipeline.onnx").unlink()
    assert document.read(Bundle.load(path)) is None


def test_an_older_bundle_loads(exported_copy: Path) -> None:
    strip(exported_copy)


def test_a_pipeline_or_a_golden_image_that_was_changed_does_not_load(exported_copy: Path) -> None:
    for name in ("pipeline.onnx", "golden/same.png", GOLDEN):
        original = (exported_copy / name).read_bytes()
        (exported_copy / name).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        with pytest.raises(FileDamaged, match=name):
            Bundle.load(exported_copy)
        (exported_copy / name).write_bytes(original)


def test_an_uncalibrated_bundle_has_no_golden_images(uncalibrated: Path) -> None:
    loaded = Bundle.load(uncalibrated)
    made = making.files(onnx.load_from_string(loaded.model), loaded.manifest, resize=True, threads=1)
    assert set(made) == {"model.onnx", "pipeline.onnx"}
    with pytest.raises(BundleError, match="no threshold"):
        call(pipeline, uncalibrated)


def test_a_pipeline_that_nothing_loads_is_not_made(exported: Exported) -> None:
    loaded = Bundle.load(exported.path)
    model = onnx.load_from_string(loaded.model)
    rename(model, {model.graph.node[-1].input[0]: "image"})
    sealed = model.SerializeToString()
    OnnxRuntimeCpu(sealed, threads=1)
    with pytest.raises(
        ExportError, match=r"pipeline.onnx: ONNX Runtime can't load .* leave it out by --no-with-resize"
    ):
        making.made_of(sealed, loaded.manifest, resize=True, threads=1)
