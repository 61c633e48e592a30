"""A paper's own network and recipe, in its first steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import methods, reproduce
from train import checkpoint
from train.__main__ import _parse
from train.__main__ import main as train
from train.recipes import RECIPES


def test_the_first_steps_on_a_cpu(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained elsewhere is measured later."""
    monkeypatch.setattr(methods, "command", lambda _, *options: train([*map(str, options), "--batch-size", "3"]))
    monkeypatch.setattr(methods, "measure", lambda *_: pytest.fail("it was to train only"))
    given = [str(data), "--epochs", "1", "--tune-epochs", "1", "--runs", str(tmp_path), "--train-only"]
    methods.main(reproduce.arguments([*given, "--docs", str(tmp_path)]))
    base, energy, greg = (
        checkpoint.load(tmp_path / f"{name}-0" / "checkpoint.safetensors").header
        for name in ("cross-entropy", "energy", "greg")
    )
    assert {header.arch for header in (base, energy, greg)} == {"wrn-40-2"}
    paper = RECIPES["greg-cifar"]
    for header in (energy, greg):
        assert header.sources["init"]["method"] == "cross-entropy"
        options = header.hyperparameters["method_options"]
        weight = options.pop("gradient_weight")
        assert weight == (paper["set"]["gradient_weight"] if header is greg else 0)
        assert options == {name: value for name, value in paper["set"].items() if name != "gradient_weight"}
        for name in ("weight_decay", "momentum", "nesterov", "schedule", "warmup", "padding", "flip", "learning_rate"):
            assert header.hyperparameters[name] == paper[name], name
    assert not list(tmp_path.glob("results_wrn*"))


def test_epochs_and_batches_are_the_paper_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}

    def noted(_: str, *options: object) -> None:
        args, _ = _parse([str(option) for option in options])
        found[args.out.name] = args.epochs, args.batch_size, args.cuda_graph

    monkeypatch.setattr(methods, "command", noted)
    methods.main(reproduce.arguments(["DATA", "--gpu", "--seeds", "1", "2", "--train-only", "--runs", str(tmp_path)]))
    for seed in (1, 2):
        assert found[f"cross-entropy-{seed}"] == (100, 128, True)
        assert found[f"energy-{seed}"] == found[f"greg-{seed}"] == (20, 64, True)
    methods.main(reproduce.arguments(["DATA", "--train-only", "--runs", str(tmp_path)]))
    assert found["greg-0"] == (20, 64, False)
