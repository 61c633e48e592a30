"""Two processes started by torchrun against one with their batches together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.train import together
from tests.train.sets import colours, noise, write_folder
from train import checkpoint
from train.distributed import World, join, process_count, use_global_batch_norm
from train.exceptions import TrainingError

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("together")
    command = [*TORCHRUN, "tests.train.together", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", together.METHODS)
def test_a_step_of_two_processes_is_that_of_one_with_both_batches(results: Path, name: str) -> None:
    expected = together.second_step(name, ALONE)
    for rank in range(2):
        found = load_file(results / f"{name}.{rank}")
        assert found.keys() == expected.keys()
        for kind in ("figure", "gradient", "statistic"):
            mine, reference = (together.joined(values, kind) for values in (found, expected))
            assert (mine - reference).norm() <= 1e-5 * reference.norm()


@pytest.mark.parametrize("name", [name for name in together.METHODS if name.startswith("greg")])
def test_the_step_has_a_gradient_to_regularise(name: str) -> None:
    assert together.second_step(name, ALONE)["figure gradient"] > 0


def test_normalisation_over_both_batches(results: Path) -> None:
    expected = together.normalisation(ALONE, lambda values: values)
    parts = [load_file(results / f"normalisation.{rank}") for rank in range(2)]
    for name, value in expected.items():
        if name.startswith("part"):
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), value, rtol=1e-10, atol=1e-12)
        else:
            for part in parts:
                torch.testing.assert_close(part[name], value, rtol=1e-10, atol=1e-12)


def test_layers_that_would_normalise_by_their_own_batches_are_refused() -> None:
    """Subclasses, such as timm's and those of parametrised weights, and other dimensions; frozen ones don't."""

    class Activated(nn.BatchNorm2d):
        pass

    for layer in (Activated(3), nn.BatchNorm1d(3)):
        with pytest.raises(
            TrainingError, match=f"a {type(layer).__name__} would normalise by the batch of its own process"
        ):
            use_global_batch_norm(nn.Sequential(nn.BatchNorm2d(3), layer))
        use_global_batch_norm(nn.Sequential(nn.BatchNorm2d(3), layer.eval()))


def test_the_command_on_two_processes_leaves_one_checkpoint_and_stops_together(tmp_path: Path) -> None:
    """torchrun hands the signal it gets to both processes, which then save and leave after the same step."""
    data = write_folder(tmp_path / "data", colours(36))
    np.savez(tmp_path / "aux.npz", images=noise(40), labels=np.zeros(40))
    out = tmp_path / "run"
    options = ["--method=greg+", "--arch=resnet20", f"--data={data}", f"--val={data}", f"--aux={tmp_path / 'aux.npz'}"]
    options += ["--epochs=5000", f"--out={out}", "--size=8", "--batch-size=4", "--precision=fp32"]
    process = subprocess.Popen(
        [*TORCHRUN, "train", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        file = out / "checkpoint.safetensors"
        while not file.exists() and process.poll() is None:
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        output, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    assert len(workers) >= 2, errors
    assert not any(worker.is_running() for worker in workers)
    header = checkpoint.load(file).header
    assert 4 <= header.step < 20_000
    assert header.hyperparameters["processes"] == 2
    stopped = [line for line in output.splitlines() if line.startswith("stopped")]
    assert stopped == [f"stopped at step {header.step} of 20000, saved {file}; add --resume to go on"]
    assert [path.name.split(".")[0] for path in sorted(out.iterdir())] == ["checkpoint", "events"]


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join() as world:
        assert (world.rank, world.size) == (0, 1)
        assert world.mean([1.5, 2.0]) == [1.5, 2.0]
        model = torch.nn.BatchNorm2d(2)
        assert world.share(model, torch.ones(1)) is model
    assert process_count() == 1
