"""Every training method of classifiers, from images in a directory to decisions over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
import torch

import export.__main__ as export
import train.__main__ as train
from serving.http.app import create_app
from serving.settings import Settings
from tests.serving.conftest import serve
from tests.small import encode
from tests.train.sets import CLASSES, coloured, colours, noise, write_folder
from train import checkpoint, methods, models
from train.loop import CHECKPOINT
from train.models.resnet import ResNet
from train.normalize import Normalize

COUNT = 6  # images asked about
REAL = "greg+"  # the method whose bundle a real server serves


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """known: a folder a class; many: several labels an image; aux.npz: outliers."""
    path = tmp_path_factory.mktemp("sources")
    write_folder(path / "multiclass", colours(96))
    write_folder(path / "multilabel", coloured(96))
    np.savez(path / "aux.npz", images=noise(40), labels=np.zeros(40))
    return path


@pytest.fixture(params=[name for name, method in methods.METHODS.items() if method.task != "unlabelled"])
def trained(
    request: pytest.FixtureRequest, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path, Path]:
    """A method, the checkpoint and the bundle that its commands left; of a ResNet-8, which is exported in a second."""
    monkeypatch.setitem(models.ARCHITECTURES, "resnet8", lambda classes: ResNet(classes, (1, 1, 1), (8, 8, 16)))
    name: str = request.param
    method = methods.METHODS[name]
    data = sources / method.task
    options = [
        f"--method={name}",
        "--arch=resnet8",
        f"--data={data}@1/2",
        f"--val={data}@2/2",
        "--epochs=1",
        "--size=8",
    ]
    options += [f"--out={tmp_path / 'run'}", "--batch-size=8", "--precision=fp32"]
    options += [f"--aux={sources / 'aux.npz'}"] if method.needs_outliers else []
    assert train.main(options) == 0
    left, out = tmp_path / "run" / CHECKPOINT, tmp_path / "bundle"
    score = "joint_energy" if method.task == "multilabel" else "energy"
    options = [f"--checkpoint={left}", f"--calibration={data}@2/2", f"--score={score}", "--alpha=0.2", f"--out={out}"]
    assert export.main(options) == 0
    return name, left, out


def ask(bundle: Path, images: Sequence[bytes]) -> tuple[Any, list[Any]]:
    """What /model and /classify answer, of the application called without a socket."""

    async def requests() -> tuple[Any, list[Any]]:
        app = create_app(Settings(bundle=bundle, tune=False))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            answers = [(await client.post("/classify", content=image)).json() for image in images]
            return (await client.get("/model")).json(), answers

    return anyio.run(requests)


def ask_server(bundle: Path, images: Sequence[bytes]) -> tuple[Any, list[Any]]:
    """The same of a real server."""
    with serve(OODGATE_BUNDLE=str(bundle)) as (url, _), httpx.Client(base_url=url, timeout=30) as client:
        return client.get("/model").json(), [client.post("/classify", content=image).json() for image in images]


def test_one_epoch_then_export_then_decisions(trained: tuple[str, Path, Path]) -> None:
    name, left, bundle = trained
    loaded = checkpoint.load(left)
    images = colours(COUNT, seed=5).images
    with torch.no_grad():
        logits, _ = loaded.model()(Normalize(loaded.header.input)(torch.from_numpy(images)))
    model, answers = (ask_server if name == REAL else ask)(bundle, [encode(image) for image in images])
    assert (model["model"]["method"], model["task"]) == (name, methods.METHODS[name].task)
    assert tuple(model["labels"]) == CLASSES
    assert [answer["class_index"] for answer in answers] == logits.argmax(dim=1).tolist()
    energies = logits.logsumexp(dim=1) if model["task"] == "multiclass" else torch.nn.functional.softplus(logits).sum(1)
    assert [answer["score"]["value"] for answer in answers] == pytest.approx(energies.tolist(), rel=1e-4)
    for answer in answers:
        assert answer["decision"] == ("accept" if answer["score"]["value"] >= model["gate"]["threshold"] else "reject")
