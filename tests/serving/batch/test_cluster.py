"""Ray: the rows of the local mode, also when workers are killed; its errors as one line."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from runtime.bundle import MANIFEST, MODEL, Bundle
from runtime.engines.interface import EngineName
from serving.batch import job
from serving.batch.workers import Setup
from serving.exceptions import WorkersFailed
from tests.serving.batch.sources import DAMAGED, options, photos, rows, write_folder, write_shards
from tests.small import calibration_images, encode

ray = pytest.importorskip("ray")
cluster = pytest.importorskip("serving.batch.workers.cluster")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

OF_ACTORS, OF_TASKS = "ray::MapWorker", "ray::MapBatches(_decoded)"


@pytest.fixture(scope="module", autouse=True)
def connection() -> Iterator[None]:
    """One small cluster for all: a job stays with the one that its process is connected to."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # of processes that it has killed and not waited for


def test_actors_decide_by_the_bundle_that_was_loaded(bundle_dir: Path, unlabelled_bundle: Bundle) -> None:
    """Or by none: whatever lies in its place meanwhile."""
    loaded = Bundle.load(bundle_dir)
    setup = Setup(loaded, "onnxruntime-cpu", 0.05, 1, 64)
    (bundle_dir / MODEL).write_bytes(unlabelled_bundle.model)
    (bundle_dir / MANIFEST).write_bytes((unlabelled_bundle.path / MANIFEST).read_bytes())
    made = cluster.Recipe.of(setup, "onnxruntime-cpu").make()
    assert (made.manifest.files, made.bundle.model) == (loaded.manifest.files, loaded.model)


def large(count: int) -> list[bytes]:
    """Images that take a while to decode, of which no two neighbours are the same."""
    files = [
        encode(np.asarray(Image.fromarray(image).resize((640, 640))), "JPEG")
        for image in calibration_images(31, seed=4)
    ]
    return [files[i % len(files)] for i in range(count)]


def called(process: psutil.Process) -> str:
    """What a process calls itself; nothing of one that has ended."""
    try:
        return "".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


def killed(title: str) -> int:
    """Kill a worker of this process's cluster, by what it calls itself; its number."""
    for _ in range(2000):
        for process in psutil.Process().children(recursive=True):
            if called(process).startswith(title):
                os.kill(process.pid, signal.SIGKILL)
                return process.pid
        time.sleep(0.01)
    raise AssertionError(f"no {title}")


def test_the_rows_are_those_of_the_local_mode(shared_bundle: Bundle, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", photos(300, DAMAGED))
    for engine in ("local", "ray"):
        done = job.run(options(shared_bundle, tmp_path / engine, folder, rows=64, engine=engine))
        assert (done.scored, done.summary.errors.total()) == (300, 3)
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")
    assert job.run(options(shared_bundle, tmp_path / "local", folder, rows=64, engine="ray")).scored == 0


def test_when_workers_are_killed_every_image_has_one_row_all_the_same(shared_bundle: Bundle, tmp_path: Path) -> None:
    shards, out = write_shards(tmp_path / "shards", large(1200), 50), tmp_path / "out"
    job.run(options(shared_bundle, tmp_path / "local", shards, rows=64))
    there: list[int] = []

    def kill() -> None:
        while not list(out.glob("*.parquet")):
            time.sleep(0.01)
        for title in (OF_TASKS, OF_ACTORS):
            killed(title)
            there.append(len(list(out.glob("*.parquet"))))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    job.run(options(shared_bundle, out, shards, rows=64, engine="ray"))
    killer.join(timeout=10)
    assert len(there) == 2
    assert 0 < there[0] <= there[1] < 24  # in mid-run
    assert rows(out) == rows(tmp_path / "local")


def test_an_engine_for_a_gpu_needs_one(shared_bundle: Bundle, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", photos(3))
    with pytest.raises(WorkersFailed, match="--backend tensorrt needs a GPU, of which the cluster has none"):
        job.run(options(shared_bundle, tmp_path / "out", folder, engine="ray", backend="tensorrt"))


def test_more_workers_than_there_are_cores_are_refused(shared_bundle: Bundle, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", photos(3))
    with pytest.raises(WorkersFailed, match="--workers 3: the cluster has 2 cores, and each takes one"):
        job.run(options(shared_bundle, tmp_path / "out", folder, engine="ray", workers=3))


def test_what_goes_wrong_in_a_worker_is_said_in_a_line(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = cluster.Recipe.of

    def damaged(setup: Setup, engine: EngineName) -> Any:
        recipe = of(setup, engine)
        return replace(recipe, files={**recipe.files, "model.onnx": recipe.files["model.onnx"][1:]})

    monkeypatch.setattr(cluster.Recipe, "of", damaged)
    folder = write_folder(tmp_path / "photos", photos(3))
    with pytest.raises(WorkersFailed, match=r"^a worker: .*/model.onnx: expected [\d,]+ bytes, found [\d,]+"):
        job.run(options(shared_bundle, tmp_path / "out", folder, engine="ray"))
