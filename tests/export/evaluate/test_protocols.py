"""OpenOOD's protocol on a small ROOT: the numbers computed from the gate's scores with scikit-learn alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.metrics import auc, roc_curve

from export.calibrate.__main__ import main as calibrate
from export.evaluate.__main__ import main
from export.evaluate.protocols import PROTOCOLS
from runtime import Gate
from runtime.bundle import Bundle
from tests.commands import failure
from tests.export.conftest import call
from tests.export.figures import markdown_tables
from tests.small import classifier, encode, write_bundle

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAME = "openood-v1.5-cifar10"
# One image of the first class to ten of the last: accuracy tells the order of the classes, whatever is predicted.
NUMBERS = [number for number in range(10) for _ in range(number + 1)]
COUNTS = {"cifar100": 25, "mnist": 12, "svhn": 18, "texture": 9}


def pictures(count: int, seed: int, low: int, high: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(low, high, (count, 16, 16, 3), dtype=np.uint8)


def write(root: Path, list_: str, lines: list[str]) -> None:
    file = root / "benchmark_imglist" / "cifar10" / list_
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def put(root: Path, names: list[str], images: npt.NDArray[np.uint8]) -> None:
    for name, image in zip(names, images, strict=True):
        file = root / "images_classic" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(image))


def known(first: int) -> list[str]:
    return [f"cifar10/test/{CIFAR10[number]}/{first + i:04}.png {number}" for i, number in enumerate(NUMBERS)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets but Tiny-ImageNet, whose list is there without images, and Places365, of which there is nothing."""
    root = tmp_path_factory.mktemp("openood")
    (root / "images_largescale").mkdir()
    for seed, split in enumerate(("test", "val")):
        lines = known(100 * seed)
        write(root, f"{split}_cifar10.txt", lines)
        put(root, [line.split(" ")[0] for line in lines], pictures(len(lines), seed, 0, 256))
    for i, (name, count) in enumerate(COUNTS.items()):
        paths = [f"{name}/test/{j:04}.png" for j in range(count)]
        write(root, f"test_{name}.txt", [f"{path} -1" for path in paths])
        put(root, paths, pictures(count, 10 + i, 20 * i, 256 - 20 * i))
    write(root, "test_tin.txt", ["tin/val/n01443537/images/val_0.JPEG -1", "tin/val/n01443537/images/val_1.JPEG -1"])
    blurred = [f"cifar10c/{i:04}.png {number}" for i, number in enumerate(NUMBERS)]
    write(root, "test_cifar10c.txt", blurred)
    put(root, [line.split(" ")[0] for line in blurred], pictures(len(NUMBERS), 0, 0, 256) // 2)
    return root


@pytest.fixture(scope="module")
def bundle(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes in an order that is not OpenOOD's, calibrated with its validation list."""
    path = tmp_path_factory.mktemp("bundles") / "ten"
    write_bundle(path, classifier(CIFAR10[::-1]))
    call(calibrate, path, root / "benchmark_imglist" / "cifar10" / "val_cifar10.txt", "--score", "energy")
    return path


@pytest.fixture(scope="module")
def output(root: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """What is printed, and the JSON."""
    file = tmp_path_factory.mktemp("figures") / "out.json"
    options = ("--protocol", NAME, "--data", root, "--shifted", "cifar10c", "--json", file)
    return call(main, bundle, *options), json.loads(file.read_text())


def decided(bundle: Path, root: Path, name: str) -> tuple[list[Any], list[str]]:
    """The gate's decisions on a list's images, read without the project's readers, and their paths."""
    lines = (root / "benchmark_imglist" / "cifar10" / f"test_{name}.txt").read_text().splitlines()
    paths = [line.split(" ")[0] for line in lines]
    images = np.stack([np.asarray(Image.open(root / "images_classic" / path)) for path in paths])
    return Gate.load(bundle, threads=1).decide(images), paths


def openood(id_scores: list[float], ood_scores: list[float]) -> tuple[float, float]:
    """AUROC and FPR@95 with OOD as the positive class, as OpenOOD defines them."""
    truth = [0] * len(id_scores) + [1] * len(ood_scores)
    fpr, tpr, _ = roc_curve(truth, -np.array(id_scores + ood_scores))
    return float(auc(fpr, tpr)), float(fpr[np.argmax(tpr >= 0.95)])


def expected(bundle: Path, root: Path, score: str, shifted: bool) -> dict[str, tuple[float, float]]:
    names = ["cifar10", "cifar10c"] if shifted else ["cifar10"]
    known = [decision.scores[score] for name in names for decision in decided(bundle, root, name)[0]]
    return {name: openood(known, [d.scores[score] for d in decided(bundle, root, name)[0]]) for name in COUNTS}


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("score", ["energy", "msp", "feature_norm"])
def test_lines_of_the_leaderboard(output: tuple[str, Any], bundle: Path, root: Path, score: str, shifted: bool) -> None:
    each = expected(bundle, root, score, shifted)
    far = np.mean([each[name] for name in ("mnist", "svhn", "texture")], axis=0)
    lines = output[1]["leaderboard"]["lines"]
    (line,) = (line for line in lines if line["score"] == score and line["full_spectrum"] == shifted)
    assert [line["near"]["auroc"], line["near"]["fpr95"]] == pytest.approx(list(each["cifar100"]))
    assert [line["far"]["auroc"], line["far"]["fpr95"]] == pytest.approx(list(far))
    assert line["near"]["sets"] == ["cifar100"]
    assert line["far"]["sets"] == ["mnist", "svhn", "texture"]


def test_accuracy_is_by_the_names_of_the_folders(output: tuple[str, Any], bundle: Path, root: Path) -> None:
    decisions, paths = decided(bundle, root, "cifar10")
    labels = Bundle.load(bundle).manifest.labels
    right = [labels[d.class_index] == path.split("/")[2] for d, path in zip(decisions, paths, strict=True)]
    assert 0 < np.mean(right) < 1
    assert output[1]["id"]["accuracy"] == pytest.approx(np.mean(right))
    lines = output[1]["leaderboard"]["lines"]
    assert {line["accuracy"] for line in lines if not line["full_spectrum"]} == {output[1]["id"]["accuracy"]}


def test_every_score_has_a_line_and_the_gates_is_marked(output: tuple[str, Any], bundle: Path) -> None:
    (table,) = markdown_tables(output[0])
    header, *rows = table
    assert header[:5] == ["Training", "Postprocessor", "Near-OOD AUROC", "Far-OOD AUROC", "ID Accuracy"]
    assert header[5:] == [
        "Outlier Data",
        "Model Arch.",
        "Additional Description",
        "Near-OOD FPR@95",
        "Far-OOD FPR@95",
    ]
    scores = Bundle.load(bundle).manifest.scores
    assert len(rows) == 2 * len(scores)
    assert [row[1] for row in rows if "*" in row[1]] == ["EBO (energy) *"] * 2
    (energy, _) = (row for row in rows if row[1] == "EBO (energy) *")
    (line,) = (
        one for one in output[1]["leaderboard"]["lines"] if one["score"] == "energy" and not one["full_spectrum"]
    )
    assert energy[2] == f"{100 * line['near']['auroc']:.2f} (incomplete)"
    assert energy[9] == f"{100 * line['far']['fpr95']:.2f} (incomplete)"
    assert (energy[0], energy[5], energy[6]) == ("none", "?", "small")


def test_what_is_missing_is_named(output: tuple[str, Any]) -> None:
    assert output[1]["leaderboard"]["missing"] == {"tin": "all of it", "places365": "all of it"}
    assert "tin is left out: " in output[0]
    assert "none of its 2 images are there" in output[0]
    assert "images_classic or " in output[0]  # where they were looked for
    assert "test_places365.txt: no such" in output[0]
    assert "oodgate, incomplete: places365, tin" in output[0]
    rows = [line.split() for line in output[0].splitlines() if line.startswith(("near ", "far "))]
    assert ["near", "tin", "all", "of", "it"] in rows
    assert ["texture", "9"] in [row[1:3] for row in rows]


def test_shifted_images_of_the_protocol(output: tuple[str, Any], bundle: Path, root: Path) -> None:
    found = output[1]["shifted"]["cifar10c"]
    decisions, _ = decided(bundle, root, "cifar10c")
    labels = Bundle.load(bundle).manifest.labels
    assert found["rejection"] == pytest.approx(np.mean([d.is_ood for d in decisions]))
    right = [labels[d.class_index] == CIFAR10[number] for number, d in zip(NUMBERS, decisions, strict=True)]
    assert 0 < np.mean(right) < 1
    # They lie in no folders of classes: those of the known images tell what their numbers are.
    assert found["accuracy"] == pytest.approx(np.mean(right))
    pooled = (output[1]["id"]["accuracy"] + np.mean(right)) / 2
    lines = [line for line in output[1]["leaderboard"]["lines"] if line["full_spectrum"]]
    assert [line["accuracy"] for line in lines] == pytest.approx([pooled] * len(lines))
    assert f"shifted cifar10c: 55 images of known classes, {100 * found['rejection']:.2f} " in output[0]


def test_a_whole_split_is_not_marked(root: Path, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "root"))
    write(copy, "test_places365.txt", [f"mnist/test/{i:04}.png -1" for i in range(12)])
    output = call(main, bundle, "--protocol", NAME, "--data", copy)
    (_, *rows), *_ = markdown_tables(output)
    assert all("(incomplete)" in row[2] and "(incomplete)" not in row[3] for row in rows)
    assert all(row[7] == "oodgate, incomplete: tin" for row in rows)


def test_a_set_with_some_of_its_images_is_incomplete(root: Path, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "root"))
    write(copy, "test_tin.txt", [f"cifar100/test/{i:04}.png -1" for i in range(27)])
    write(copy, "test_places365.txt", ["mnist/test/0000.png -1"])
    file = tmp_path / "out.json"
    output = call(main, bundle, "--protocol", NAME, "--data", copy, "--json", file, "--markdown", tmp_path / "out.md")
    assert json.loads(file.read_text())["leaderboard"]["missing"] == {"tin": "2 of its 27 images"}
    assert "oodgate, incomplete: tin" in output
    page = (tmp_path / "out.md").read_text()
    assert "Incomplete, and so not to be compared:\n- tin: 2 of its 27 images" in page
    assert len(markdown_tables(page)) == 3


def test_strict_wants_all_of_it(root: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, bundle, "--protocol", NAME, "--data", root, "--strict")
    assert "test_places365.txt: no such" in message


def test_the_images_of_the_calibration_are_refused(
    root: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "root"))
    write(copy, "test_cifar10.txt", known(100))
    message = failure(capsys, main, bundle, "--protocol", NAME, "--data", copy)
    assert "test_cifar10.txt: about 55 of 55 images are among those of the calibration of ten" in message


def test_the_card_has_the_lines(root: Path, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "ten"))
    call(main, copy, "--protocol", NAME, "--data", root, "--shifted", "cifar10c", "--card")
    text = (copy / "card.md").read_text()
    assert "By openood-v1.5-cifar10" in text
    assert "| EBO (energy) *" in text
    assert "| cifar10c" in text
    assert json.loads((copy / "evaluation.json").read_text())["leaderboard"]["protocol"] == NAME
    assert str(root) not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", NAME], "--protocol and --data go together"),
        (["--data", "here", "--id", "a", "--ood", "b=c"], "--protocol and --data go together"),
        (["--protocol", NAME, "--data", "nowhere"], "there is no nowhere/benchmark_imglist/cifar10"),
        (["--protocol", NAME, "--data", "here", "--id", "val"], "leave out --id and --ood"),
        (["--protocol", "cifar10", "--data", "here"], "openood-v1.5-imagenet1k"),
        ([], "--id; or --protocol and --data"),
        (["--id", "val", "--ood", "a=b", "--shifted", "cifar10c"], "--shifted cifar10c: expected NAME=SOURCE"),
    ],
)
def test_wrong_options(bundle: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert message.replace("/", os.sep) in failure(capsys, main, bundle, *options)


def test_a_model_of_other_classes(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "benchmark_imglist" / "imagenet").mkdir(parents=True)
    message = failure(capsys, main, bundle, "--protocol", "openood-v1.5-imagenet1k", "--data", tmp_path)
    assert "it has 1000 classes, and ten has 10" in message


def test_the_lists_of_every_protocol() -> None:
    lists = {name: Path(protocol.source(Path("r"), protocol.known)) for name, protocol in PROTOCOLS.items()}
    folder = Path("r") / "benchmark_imglist"
    assert lists == {
        "openood-v1.5-cifar10": folder / "cifar10" / "test_cifar10.txt",
        "openood-v1.5-cifar100": folder / "cifar100" / "test_cifar100.txt",
        "openood-v1.5-imagenet1k": folder / "imagenet" / "test_imagenet.txt",
    }
    imagenet = PROTOCOLS["openood-v1.5-imagenet1k"]
    assert (imagenet.near, imagenet.far) == (("ssb_hard", "ninco"), ("inaturalist", "textures", "openimage_o"))
