"""The comparison of detectors from end to end on a small bundle, and what its page says of figures made by hand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.detectors import Detectors, check_apart, column, main
from benchmarks.detectors_page import Auto, chosen, reasons, table
from export.detectors.interface import Training
from runtime.bundle import Bundle
from runtime.exceptions import OodgateError
from runtime.gate import load_engine
from tests.export.conftest import Exported, Sources
from tests.train.sets import colours, write_tar
from train.data import load


@pytest.fixture
def data(sources: Sources, tmp_path: Path) -> Path:
    """The sources under the names of the data that the command reads."""
    path = tmp_path / "data"
    shutil.copytree(sources.train, path / "train")
    shutil.copy(sources.val, path / "val.tar")
    for seed, name in enumerate(("far", "other")):
        write_tar(path / f"ood-{name}.tar", colours(30, seed=5 + seed))
    return path


def arguments(data: Path, bundle: Path, *others: str) -> list[str]:
    options = f"--train train --calibration val.tar@1/2 --id val.tar@2/2 --bundle {bundle} --rounds 1 --threads 1"
    return [str(data), *options.split(), "--out", str(data / "page.md"), *others]


def test_from_end_to_end(data: Path, exported: Exported) -> None:
    few = ("--set", "knn.bank=40")  # fewer than its 50 neighbours
    options = ("--detectors", "nci,react,mahalanobis++,knn", *few, "--about", "A network of colours")
    assert main(arguments(data, exported.path, *options)) == 0
    text = (data / "page.md").read_text()
    loaded = Bundle.load(exported.path)
    engine, energy = load_engine(loaded, threads=1), loaded.manifest.scores.index("energy")
    known, far = (load(f"{data}/{name}", loaded.manifest.input).images[:] for name in ("val.tar@2/2", "ood-far.tar"))
    scores = [engine.run(images).scores[:, energy] for images in (known, far)]
    auroc = roc_auc_score(np.repeat([1, 0], [len(known), len(far)]), np.concatenate(scores))
    (row,) = (line for line in text.splitlines() if line.startswith("| `energy`"))
    assert row.split("|")[2].strip().startswith(f"{100 * auroc:.1f} [")
    assert "| far (30)" in text
    assert "A network of colours; D = 64, 3 classes. Detectors are fitted on train (240 images)" in text
    assert re.search(r"of \d+ candidates .*: \*\*[a-z_+, 0-9]+\*\*, average AUROC", text)
    assert re.search(r"^- `knn`: .*neighbours in a bank of 40", text, re.MULTILINE)
    assert "| `knn`" not in text


def test_parts_that_overlap(data: Path, exported: Exported) -> None:
    """The second quarter is in the second half."""
    with pytest.raises(OodgateError, match="--calibration and --id share 30 images"):
        main([*arguments(data, exported.path), "--calibration", "val.tar@2/4"])
    parts = {
        part: load(f"{data}/val.tar@{part}", Bundle.load(exported.path).manifest.input).images
        for part in ("1/4", "3/4", "2/2")
    }
    check_apart(parts)


def test_negative_features_are_spoken_of() -> None:
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    layers: Any = None
    examples = Training(np.zeros((50, 2), np.float32), features, np.zeros(50, np.int64), layers)
    found = Detectors({}, {"ash-b": "meaningless here", "nan_react": "left out"}, examples).weaker
    assert {"nan", "react", "vra"} <= set(found)
    assert not {"ash-b", "nan_react", "energy", "mahalanobis++"} & set(found)
    assert found["react"].startswith("weaker here: it takes features to be at least 0")


def test_the_choice_beside_every_score() -> None:
    known, others = np.arange(100.0), {"a": np.arange(100.0) - 50, "b": np.arange(100.0) - 90}
    good, bad = column(known, others), column(known, {name: scores + 50 for name, scores in others.items()})
    assert good.fpr95 == pytest.approx((0.45 + 0.05) / 2)  # of 100, those above 5 are left 45 and 5
    found: Any = SimpleNamespace(
        outliers={"a": 100, "b": 100},
        columns={"energy": bad, "msp": good},
        costs={"energy": 1.0, "msp": 2.0},
        auto=Auto("energy", 3, bad),
        chosen_by="10 images",
    )
    said = chosen(found)
    assert "1 of the 2 scores by themselves would have been better: `msp` 25.0. The others: `energy`" in said
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(found).splitlines()]
    assert [row[0] for row in rows[2:]] == ["`--score auto`", "`msp`", "`energy`"]
    assert rows[3][3].endswith("<br>25.0")
    found.auto = Auto("msp", 3, good)
    assert "none of the 2 scores by itself is better. All of them: `msp` 25.0, `energy`" in chosen(found)


def test_reasons_share_a_line() -> None:
    assert reasons("Refused", {}) == []
    assert reasons("Refused", {"a": "x", "b": "y", "c": "x"}) == ["## Refused", "- `a`, `c`: x.\n- `b`: y."]
