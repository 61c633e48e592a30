"""``python -m export.parity``: two bundles, or a checkpoint and its bundle, image by image."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from export.convert.__main__ import main as convert
from export.exceptions import ExportError
from export.from_torch.checkpoint import from_checkpoint
from export.graph.head import seal
from export.parity.__main__ import main
from export.parity.reference import ReferenceEngine
from runtime import Gate, bundle
from runtime.bundle import Bundle
from tests.commands import failure
from tests.export.conftest import Exported, Sources, call
from train import data


@pytest.fixture(scope="module")
def int8(exported: Exported, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "colours"
    options = ("--precision", "int8", "--int8-method", "minmax", "--int8-keep", "none")
    call(convert, exported.path, *options, "--calibration", f"{sources.val}@1/2", "--out", out)
    return out


@pytest.fixture(scope="module")
def compared(
    exported: Exported, int8: Path, sources: Sources, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any, Path]:
    """What is printed, the JSON, and the directory with the rest."""
    out = tmp_path_factory.mktemp("compared")
    files = ("--json", out / "p.json", "--markdown", out / "p.md", "--plot", out / "p.png")
    ood = ("--ood", f"noise={sources.noise}")
    output = call(main, exported.path, int8, f"{sources.val}@2/2", *ood, *files)
    return output, json.loads((out / "p.json").read_text()), out


def test_flips_and_labels_are_those_of_the_gates(
    exported: Exported, int8: Path, sources: Sources, compared: tuple[str, Any, Path]
) -> None:
    gates = [Gate.load(path, threads=1) for path in (exported.path, int8)]
    for found, source in (
        (compared[1]["known"], f"{sources.val}@2/2"),
        (compared[1]["unknown"]["noise"], str(sources.noise)),
    ):
        images = data.load(source, gates[0].manifest.input).images
        a, b = (gate.decide(images) for gate in gates)
        assert found["images"] == len(images)
        assert found["flips"]["newly_rejected"] == sum(y.is_ood > x.is_ood for x, y in zip(a, b, strict=True))
        assert found["flips"]["newly_accepted"] == sum(y.is_ood < x.is_ood for x, y in zip(a, b, strict=True))
        same = [x.class_index == y.class_index for x, y in zip(a, b, strict=True)]
        assert found["label_agreement"] == pytest.approx(np.mean(same))
        energies = [abs(x.scores["energy"] - y.scores["energy"]) for x, y in zip(a, b, strict=True)]
        assert found["scores"]["energy"]["max"] == pytest.approx(max(energies))
        assert found["scores"]["energy"]["mean"] == pytest.approx(np.mean(energies))


def test_figures_of_each_stand_side_by_side(compared: tuple[str, Any, Path]) -> None:
    output, document, out = compared
    a, b = document["evaluations"]
    row = next(line for line in output.splitlines() if line.startswith("noise AUROC"))
    values = [each["ood"]["noise"]["scores"]["energy"]["auroc"] for each in (a, b)]
    assert row.split()[2::2] == [f"{100 * value:.2f}" for value in values]
    text = (out / "p.md").read_text()
    assert f"| {100 * a['id']['accuracy']:.2f} % " in text
    assert text.count("\n## ") == 3
    assert Image.open(io.BytesIO((out / "p.png").read_bytes())).format == "PNG"


def test_a_bundle_and_itself(exported: Exported, sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    output = call(main, exported.path, exported.path, f"{sources.val}@2/2", "--json", file)
    found = json.loads(file.read_text())["known"]
    assert found["logits"] == {"mean": 0, "max": 0, "quantiles": [0, 0, 0]}
    assert found["flips"] == found["flips_with_a_threshold"] == {"newly_rejected": 0, "newly_accepted": 0}
    assert found["label_agreement"] == 1
    assert "warning" not in output


def test_a_checkpoint_and_its_bundle(
    checkpoint_file: Path, exported: Exported, sources: Sources, tmp_path: Path
) -> None:
    file = tmp_path / "p.json"
    call(main, checkpoint_file, exported.path, f"{sources.val}@2/2", "--json", file)
    document = json.loads(file.read_text())
    assert 0 < document["known"]["logits"]["max"] < 1e-3
    assert document["known"]["label_agreement"] == 1
    a, b = document["evaluations"]
    assert a["id"]["accuracy"] == b["id"]["accuracy"]


def test_images_that_one_was_made_with(int8: Path, exported: Exported, sources: Sources) -> None:
    output = call(main, exported.path, int8, f"{sources.val}@1/2")
    assert (
        f"warning: val.tar@1/2: about 60 of 60 images are among those of the calibration of {exported.path}" in output
    )
    assert f"of the quantisation of {int8}" in output


def test_images_of_other_classes(exported: Exported, int8: Path, sources: Sources, tmp_path: Path) -> None:
    """Compared all the same, without an accuracy."""
    file = tmp_path / "p.json"
    call(main, exported.path, int8, sources.noise, "--json", file)
    document = json.loads(file.read_text())
    assert document["known"]["images"] == 50
    assert document["evaluations"][0]["id"]["accuracy"] is None


# --- what is wrong


def relabelled(path: Path, out: Path) -> Path:
    loaded = Bundle.load(path)
    manifest = dataclasses.replace(loaded.manifest, labels=tuple(map(str, range(len(loaded.manifest.labels)))))
    model = seal(onnx.load_from_string(loaded.model), manifest)
    return bundle.write(out, manifest, {bundle.MODEL: model}, {}).path


def test_bundles_of_different_labels(
    exported: Exported, checkpoint_file: Path, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = relabelled(exported.path, tmp_path / "other")
    for a in (exported.path, checkpoint_file):
        message = failure(capsys, main, a, other, sources.val)
        assert message.startswith("not two artifacts of one classifier: their labels differ, ('")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("nowhere {val}", "nowhere"),
        ("{bundle} nowhere", "nowhere: no such directory"),
        ("{bundle} {val} --ood far", "--ood far: expected NAME=SOURCE"),
        ("{bundle} {val} --json no/such/p.json", "--json no/such/p.json: there is no directory no/such"),
        ("{bundle} {val} --plot no/such/p.png", "--plot no/such/p.png: there is no directory no/such"),
        ("{bundle} {val} --json {bundle}", "it is a directory; name a file in it"),
        ("{bundle}", "SOURCE"),
    ],
)
def test_wrong_options(
    exported: Exported, sources: Sources, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    given = options.format(bundle=exported.path, val=sources.val).split()
    assert message in failure(capsys, main, exported.path, *given)


def test_a_bundle_without_a_threshold(
    exported: Exported, uncalibrated: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no threshold yet" in failure(capsys, main, exported.path, uncalibrated, sources.val)


def test_a_checkpoint_of_another_width(exported: Exported, checkpoint_file: Path) -> None:
    loaded = Bundle.load(exported.path)
    narrow = dataclasses.replace(loaded.manifest.model, features=32)
    manifest = dataclasses.replace(loaded.manifest, model=narrow)
    signature = Gate.load(exported.path, threads=1).engine.signature
    with pytest.raises(ExportError, match="expected 32 penultimate activations, as colours has, found 64"):
        ReferenceEngine(from_checkpoint(checkpoint_file), onnx.load_from_string(loaded.model), manifest, signature)


def test_a_checkpoint_where_torch_is_not_installed(
    exported: Exported,
    checkpoint_file: Path,
    sources: Sources,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("checkpoint", "classifier", "backbone"):
        monkeypatch.delitem(sys.modules, f"export.from_torch.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = failure(capsys, main, checkpoint_file, exported.path, sources.val)
    assert message.endswith("a checkpoint needs torch: pip install 'oodgate[export]'")
