"""The benchmark of training methods as one command: a paper's network and recipes, in their first steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import methods
from train import checkpoint
from train.__main__ import _parse
from train.__main__ import main as train
from train.exceptions import TrainingError


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
    monkeypatch.setattr(methods, "command", lambda _, *options: train([str(option) for option in options]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = [str(data), "--arch", "wrn-40-2", "--epochs", "1", "--tune-epochs", "1", "--tune-rate", "0.001"]
    arguments += [
        "--scratch",
        "--recipe logitnorm-cifar --batch-size 3",
        "--tuning",
        "--recipe greg-cifar --batch-size 3",
    ]
    arguments += ["--methods", "cross-entropy", "greg", "--seeds", "3", "--runs", str(tmp_path / "runs")]
    arguments += ["--docs", str(tmp_path), "--page", "few", "--jobs", "2"]
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


def test_what_others_start_from_comes_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two runs at a time, whatever is asked for; bases that nobody asked for are trained and not measured."""
    begun: list[str] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(
        methods, "train", lambda _, name, seed: begun.append(f"{name}-{seed}") or Path(f"{name}-{seed}")
    )
    monkeypatch.setattr(methods, "measure", lambda _, run: {"of": run.name})
    monkeypatch.setattr(
        methods, "write", lambda results, docs, page: (docs / f"{page}.json").write_text(json.dumps(results))
    )
    arguments = ["data", "--docs", str(tmp_path), "--jobs", "2", "--seeds", "1", "0"]
    arguments += ["--methods", "greg", "logitnorm", "energy"]
    methods.main(arguments)
    assert set(begun[:4]) == {"cross-entropy-0", "cross-entropy-1", "logitnorm-0", "logitnorm-1"}
    assert set(begun[4:]) == {"greg-0", "greg-1", "energy-0", "energy-1"}
    assert len(begun) == 8
    file = tmp_path / "results.json"
    page = json.loads(file.read_text())
    assert list(page["runs"]) == ["logitnorm-0", "logitnorm-1", "energy-0", "energy-1", "greg-0", "greg-1"]
    assert all(found == {"of": name} for name, found in page["runs"].items())
    del page["runs"]["greg-1"]
    file.write_text(json.dumps(page))
    begun.clear()
    methods.main(arguments)
    assert begun == ["cross-entropy-1", "greg-1"]


def test_a_recipe_s_hyperparameters_do_not_reach_one_contestant_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}

    def noted(_: str, *options: object) -> None:
        args, hyperparameters = _parse([str(option) for option in options])
        found[args.out.name] = (args.batch_size, hyperparameters)

    monkeypatch.setattr(methods, "command", noted)
    tuning = ("--recipe", "greg-cifar")  # m_in=-25, m_aux=-7, by batch
    protocol = methods.Protocol(tmp_path, tmp_path, "resnet20", 24, 2, 0.002, 0.05, "", (), tuning)
    for name in ("energy", "greg", "greg+"):
        methods.train(protocol, name, 0)
        batch_size, hyperparameters = found[f"{name}-0"]
        weight = hyperparameters.pop("gradient_weight")
        assert (batch_size, weight) == (64, 0 if name == "energy" else 0.05)
        shared = {"weight": 0.1, "m_in": -23, "m_aux": -5, "reduction": "sample", "outliers_per_image": 1}
        assert hyperparameters == shared | ({"candidates": 4, "clusters": 0} if name == "greg+" else {})


@pytest.mark.parametrize("pair", ["m_inn=-25", "gradient_weight=1"])
def test_a_setting_that_nothing_takes_is_refused(pair: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=rf"--set {pair.split('=')[0]}: the methods compared have m_aux, m_in"):
        methods.main(["data", "--methods", "greg", "--set", pair, "--docs", str(tmp_path)])
