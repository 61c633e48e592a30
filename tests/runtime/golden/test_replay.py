"""A replay names the first stage that makes something else of a golden image, by breaking one stage at a time."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime.preprocess.decode as decoding
from runtime.bundle import Bundle
from runtime.engines.interface import Outputs
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import BundleError, FileDamaged
from runtime.gate import Gate
from runtime.golden import replay as replaying
from runtime.golden.document import GOLDEN, Golden, read
from runtime.golden.replay import Report, replay
from tests.small import reseal


@pytest.fixture(scope="module")
def gate(golden_bundle: Bundle) -> Gate:
    return Gate(golden_bundle, OnnxRuntimeCpu(golden_bundle.model, threads=1))


@pytest.fixture(scope="module")
def golden(golden_bundle: Bundle) -> Golden:
    found = read(golden_bundle)
    assert found
    return found


class Patched:
    """An engine whose outputs are changed."""

    def __init__(self, inner: OnnxRuntimeCpu, change: Callable[[Outputs], Outputs]) -> None:
        self.name, self.signature, self.batches = inner.name, inner.signature, inner.batches
        self._inner, self._change = inner, change

    def run(self, images: Any, *, penultimate: bool = False) -> Outputs:
        return self._change(self._inner.run(images, penultimate=penultimate))


def with_outputs(bundle: Bundle, change: Callable[[Outputs], Outputs]) -> Gate:
    return Gate(bundle, Patched(OnnxRuntimeCpu(bundle.model, threads=1), change))


def stages(report: Report) -> set[str]:
    return {fault.stage for fault in report.faults}


def test_nothing_is_wrong_with_what_made_it(gate: Gate, golden: Golden) -> None:
    report = replay(gate, golden)
    assert report.faults == ()
    assert report.images == 12
    assert report.logits is not None
    assert report.logits < 1e-6
    assert max(report.scores.values()) < 1e-6
    assert set(report.scores) == set(gate.manifest.scores)
    assert str(report).startswith("onnxruntime-cpu: 12 golden images as expected; logits ")


def test_decode(gate: Gate, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transparency over black, and no other image is touched."""
    flattened = decoding._flattened

    def over_black(opened: Any, image: Any) -> Any:
        return image.convert("RGB") if image.mode == "RGBA" else flattened(opened, image)

    monkeypatch.setattr(decoding, "_flattened", over_black)
    (fault,) = replay(gate, golden).faults
    assert (fault.file, fault.stage) == ("alpha.png", "decode")
    assert str(fault).startswith("alpha.png fails at decode: 21 x 18 pixels, of other colours (SHA-256 ")


def test_decode_of_a_turned_photograph(gate: Gate, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "turn", lambda _: None)
    (fault,) = replay(gate, golden).faults
    assert (fault.file, fault.stage) == ("rotated.jpg", "decode")
    assert "26 x 19 pixels, expected 19 x 26" in fault.figures


def test_resize(gate: Gate, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another filter: whatever has another size than the model's differs, the one that has it and flat ones do not."""
    fit = decoding.fit
    monkeypatch.setattr(
        decoding, "fit", lambda image, spec: fit(image, dataclasses.replace(spec, interpolation="lanczos"))
    )
    report = replay(gate, golden)
    assert stages(report) == {"resize"}
    assert {fault.file for fault in report.faults} == {image.file for image in golden.images} - {
        "same.png",
        "pixel.png",
    }
    assert "grey levels " in report.faults[0].figures


def test_network(golden_bundle: Bundle, golden: Golden) -> None:
    """1 % of the logits' range is no rounding of fp32."""
    extent = max(np.ptp([image.logits for image in golden.images]), 0)
    gate = with_outputs(
        golden_bundle, lambda found: dataclasses.replace(found, logits=found.logits + np.float32(0.01 * extent))
    )
    report = replay(gate, golden)
    assert stages(report) == {"network"}
    assert len(report.faults) == 12
    assert report.logits == pytest.approx(0.01, rel=1e-3)
    assert "1.00% of their range apart, 0.005% is allowed" in report.faults[0].figures


def test_scores(golden_bundle: Bundle, golden: Golden) -> None:
    column = golden_bundle.manifest.scores.index("energy")
    largest = max(abs(image.scores["energy"] or 0) for image in golden.images)

    def change(found: Outputs) -> Outputs:
        scores = found.scores.copy()
        scores[3, column] += np.float32(0.02 * largest)
        return dataclasses.replace(found, scores=scores)

    report = replay(with_outputs(golden_bundle, change), golden)
    (fault,) = report.faults
    assert (fault.file, fault.stage) == (golden.images[3].file, "scores")
    assert fault.figures.startswith("energy is ")
    assert "2.00% of its largest value apart, 0.10% is allowed" in fault.figures
    assert report.scores["energy"] == pytest.approx(0.02, rel=1e-3)


def test_rule(golden_bundle: Bundle, golden: Golden) -> None:
    gate = with_outputs(golden_bundle, lambda found: dataclasses.replace(found, accept=~found.accept))
    report = replay(gate, golden)
    assert stages(report) == {"rule"}
    assert "of the same scores" in report.faults[0].figures


def test_a_decision_at_its_threshold_is_no_fault(golden_bundle: Bundle, golden: Golden) -> None:
    """A golden image whose score is the threshold, to within the tolerance, may be decided either way."""
    gate = with_outputs(golden_bundle, lambda found: dataclasses.replace(found, accept=~found.accept))
    assert gate.manifest.gate
    threshold = gate.manifest.gate.threshold
    images = tuple(
        dataclasses.replace(image, scores={**image.scores, "energy": threshold * (1 + 1e-5)}) for image in golden.images
    )
    outputs = gate.engine.run(np.zeros((12, 16, 16, 3), np.uint8))
    expected = replaying.Expected.of(
        dataclasses.replace(golden, images=images), golden_bundle.manifest, replay(gate, golden).tolerance
    )
    assert outputs.accept is not None
    assert all(expected.rule_fault(image.decision == "reject", None, row) is None for row, image in enumerate(images))


def test_a_number_that_is_not_finite_is_the_same_only_as_another_such(golden_bundle: Bundle, golden: Golden) -> None:
    def change(found: Outputs) -> Outputs:
        scores = found.scores.copy()
        scores[0, 0] = np.nan
        return dataclasses.replace(found, scores=scores, accept=None)

    report = replay(with_outputs(golden_bundle, change), golden)
    assert [fault.stage for fault in report.faults] == ["scores"]
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["scores"][golden_bundle.manifest.scores[0]] is None
    assert document["passed"] is False
    assert document["faults"][0]["file"] == "same.png"


def test_scores_that_were_edited_and_sealed_again_fail_at_scores(golden_bundle: Bundle, tmp_path: Path) -> None:
    edited = edit(golden_bundle, tmp_path, lambda image: image["scores"].update(energy=image["scores"]["energy"] + 1))
    found = read(edited)
    assert found
    report = replay(Gate(edited, OnnxRuntimeCpu(edited.model, threads=1)), found)
    assert {(fault.file, fault.stage) for fault in report.faults} == {("same.png", "scores")}


def edit(bundle: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], None], image: int = 0) -> Bundle:
    """A copy whose golden.json was changed and sealed again."""
    path = Path(shutil.copytree(bundle.path, tmp_path / "edited"))
    document = json.loads((path / GOLDEN).read_text())
    change(document["images"][image])
    return reseal(path, GOLDEN, json.dumps(document).encode())


def test_another_image_sealed_again_fails_at_decode(golden_bundle: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copytree(golden_bundle.path, tmp_path / "edited"))
    edited = reseal(path, "golden/grey.png", (path / "golden/larger.png").read_bytes())
    found = read(edited)
    assert found
    (fault,) = replay(Gate(edited, OnnxRuntimeCpu(edited.model, threads=1)), found).faults
    assert (fault.file, fault.stage) == ("grey.png", "decode")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda document: document.update(model="0" * 64),
            "of model.onnx 0000000000000000.. at alpha 0.1, and the bundle",
        ),
        (
            lambda document: document.update(alpha=0.3),
            "at alpha 0.3, and the bundle has .* at 0.1; run oodgate pipeline",
        ),
        (lambda document: document.update(format=2), "format: expected 1, found 2"),
        (lambda document: document.update(images=[]), "images: expected at least one"),
        (lambda document: document["images"][0].pop("decoded"), r"images\[0\]\.decoded: missing"),
        (lambda document: document["images"][0].update(file="other.png"), "other.png is not one of the bundle's files"),
    ],
)
def test_a_document_of_something_else_is_refused(
    golden_bundle: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = Path(shutil.copytree(golden_bundle.path, tmp_path / "edited"))
    document = json.loads((path / GOLDEN).read_text())
    change(document)
    edited = reseal(path, GOLDEN, json.dumps(document).encode())
    with pytest.raises(BundleError, match=message):
        read(edited)


def test_a_bundle_without_has_none(shared_bundle: Bundle) -> None:
    assert read(shared_bundle) is None


def test_an_image_that_is_changed_after_loading_is_damaged(golden_bundle: Bundle, tmp_path: Path) -> None:
    loaded = Bundle.load(shutil.copytree(golden_bundle.path, tmp_path / "copy"))
    found = read(loaded)
    assert found
    (loaded.path / "golden/same.png").write_bytes(b"")
    with pytest.raises(FileDamaged, match=r"same\.png"):
        replay(Gate(loaded, OnnxRuntimeCpu(loaded.model, threads=1)), found)
