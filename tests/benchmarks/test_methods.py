"""The benchmark of training methods as one command: a paper's network and recipes, in their first steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import methods
from tests.train.sets import colours, write_tar
from train import checkpoint


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, name in enumerate(("cifar10-train", "cifar10-val", "aux-cifar100", "aux-tinyimagenet")):
        write_tar(folder / f"{name}.tar", colours(6, seed))
    return folder


def test_a_paper_s_network_and_recipes_start_on_a_cpu(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks learn as asked for; what is exported and evaluated of them has tests of its own."""
    trained: list[Path] = []

    def measured(_: methods.Protocol, found: Path) -> dict[str, str]:
        trained.append(found)
        return {}

    monkeypatch.setattr(methods, "measure", measured)
    monkeypatch.setattr(
        methods, "write", lambda results, docs, page: (docs / f"{page}.json").write_text(json.dumps(results))
    )
    arguments = [str(data), "--arch", "wrn-40-2", "--epochs", "1", "--tune-epochs", "1", "--tune-rate", "0.001"]
    arguments += [
        "--scratch",
        "--recipe logitnorm-cifar --batch-size 3",
        "--tuning",
        "--recipe greg-cifar --batch-size 3",
    ]
    arguments += ["--methods", "cross-entropy", "greg", "--seeds", "3", "--runs", str(tmp_path / "runs")]
    arguments += ["--docs", str(tmp_path), "--page", "few"]
    methods.main(arguments)
    scratch, tuned = (checkpoint.load(file).header for file in trained)
    assert (scratch.arch, scratch.method, tuned.method) == ("wrn-40-2", "cross-entropy", "greg")
    assert (scratch.hyperparameters["milestones"], scratch.hyperparameters["nesterov"]) == ([0.4, 0.7], False)
    assert (tuned.hyperparameters["weight_decay"], tuned.hyperparameters["learning_rate"]) == (1e-4, 0.001)
    assert (
        tuned.hyperparameters["method_options"]["gradient_weight"] == 0.05
    )  # an option given goes before the recipe's
    assert tuned.sources["init"]["method"] == "cross-entropy"
    stored = json.loads((tmp_path / "few.json").read_text())
    assert list(stored["runs"]) == ["cross-entropy-3", "greg-3"]
    assert "--tuning '--recipe greg-cifar --batch-size 3'" in stored["protocol"]
    methods.main(arguments)
    assert len(trained) == 2  # what is there is not run again
