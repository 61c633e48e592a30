"""Bundles replaced under load, by the application in this process."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import shutil
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from runtime import Gate
from runtime.bundle import CARD, MANIFEST, MODEL, Bundle, read_manifest, write
from runtime.manifest import InputSpec
from serving.deciding.deployment import Deployment, fingerprint
from tests.serving.decisions import assert_same
from tests.serving.inside import application
from tests.small import SPEC, calibration_images, classifier, encode, write_bundle

IMAGES = [encode(image) for image in calibration_images(12, seed=5)]
Body = Callable[[httpx.AsyncClient, Starlette, Path], Awaitable[None]]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another model: of other weights, another input size, other and more labels, under another name."""
    spec = InputSpec(8, 8, SPEC.mean, SPEC.std)
    small = classifier(("car", "truck", "plane", "tram"), spec, seed=1)
    return write_bundle(tmp_path_factory.mktemp("bundles") / "other", small)


def run(bundle_dir: Path, body: Body, **settings: Any) -> None:
    async def inside() -> None:
        chosen = {"reload": 0, **settings}
        async with application(Bundle.load(bundle_dir), **chosen) as (client, app):
            await body(client, app, bundle_dir)

    asyncio.run(inside())


def replace(path: Path, by: Bundle) -> None:
    write(path, by.manifest, {MODEL: by.model}, {})


def sha256(bundle: Bundle) -> str:
    return bundle.manifest.files[MODEL].sha256


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_bundle_that_is_copied_file_by_file_is_served_when_it_is_whole(other: Bundle, bundle_dir: Path) -> None:
    """Whatever its last file is, and whenever one looks."""
    new = write(bundle_dir.parent / "new", other.manifest, {MODEL: other.model, "pipeline.onnx": b"theirs"}, {})

    async def body(_: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        refused = sample("oodgate_reloads_total", outcome="refused")
        before = deployment.decider.gate
        for name in (MANIFEST, MODEL):
            shutil.copy(new.path / name, path / name)
        for _ in range(3):
            await deployment.look()
        assert deployment.decider.gate is before
        assert sample("oodgate_reloads_total", outcome="refused") == refused + 1  # said once
        shutil.copy(new.path / "pipeline.onnx", path / "pipeline.onnx")
        await deployment.look()
        assert deployment.decider.gate.manifest == new.manifest

    run(bundle_dir, body)


def test_a_hundred_reloads_under_load(shared_bundle: Bundle, other: Bundle, bundle_dir: Path) -> None:
    bundles = {sha256(bundle): bundle for bundle in (shared_bundle, other)}
    expected = {
        sha: [decision.to_dict() for decision in Gate.load(bundle.path, threads=1).decide(IMAGES)]
        for sha, bundle in bundles.items()
    }
    swapped = sample("oodgate_reloads_total", outcome="swapped")
    served: set[str] = set()

    async def body(client: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        over = False

        def check(results: list[Any], images: list[int]) -> None:
            (sha,) = {result["model"]["sha256"] for result in results}
            served.add(sha)
            for result, image in zip(results, images, strict=True):
                assert_same(result, expected[sha][image])

        async def one(number: int) -> int:
            count = 0
            while not over:
                image = (number + count) % len(IMAGES)
                answer = await client.post("/classify", content=IMAGES[image])
                assert answer.status_code == 200, answer.text
                check([answer.json()], [image])
                count += 1
                await asyncio.sleep(0.002)
            return count

        async def several() -> int:
            count = 0
            while not over:
                files = [("images", image) for image in IMAGES[:8]]
                answer = await client.post("/classify_batch", files=files)
                assert answer.status_code == 200, answer.text
                check(answer.json()["results"], list(range(8)))
                count += 1
            return count

        load = [asyncio.ensure_future(task) for task in (one(0), one(3), several())]
        for number in range(100):
            new = (other, shared_bundle)[number % 2]
            await asyncio.to_thread(replace, path, new)
            await deployment.look()
            assert deployment.decider.gate.manifest.files[MODEL].sha256 == sha256(new)
        over = True
        assert min(await asyncio.gather(*load)) > 10
        model = (await client.get("/model")).json()
        assert (model["sha256"], model["labels"]) == (sha256(shared_bundle), list(shared_bundle.manifest.labels))

    run(bundle_dir, body)
    assert served == set(bundles)
    assert sample("oodgate_reloads_total", outcome="swapped") == swapped + 100
    info = {"role": "served", "model": other.manifest.model.name, "sha256": sha256(other)}
    assert sample("oodgate_bundle_info", **info) == 0
    info = {"role": "served", "model": shared_bundle.manifest.model.name, "sha256": sha256(shared_bundle)}
    assert sample("oodgate_bundle_info", **info) == 1


def flip_a_byte(path: Path) -> None:
    data = bytearray((path / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (path / MODEL).write_bytes(data)


def cut_the_manifest(path: Path) -> None:
    file = path / MANIFEST
    file.write_bytes(file.read_bytes()[:100])


def forge_a_model(path: Path) -> None:
    bundle = Bundle.load(path)
    write(path, bundle.manifest, {MODEL: b"no graph"}, {})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(flip_a_byte, "expected SHA-256"), (cut_the_manifest, MANIFEST), (forge_a_model, MODEL)],
)
def test_a_corrupted_bundle_is_refused_once(
    shared_bundle: Bundle,
    other: Bundle,
    bundle_dir: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        before = {outcome: sample("oodgate_reloads_total", outcome=outcome) for outcome in ("swapped", "refused")}

        async def decides(bundle: Bundle) -> bool:
            answer = await client.post("/classify", content=IMAGES[0])
            return bool(answer.status_code == 200 and answer.json()["model"]["sha256"] == sha256(bundle))

        damage(path)
        with caplog.at_level(logging.ERROR, "oodgate"):
            await deployment.look()
            await deployment.look()
        (record,) = [record for record in caplog.records if record.name == "oodgate"]
        assert "refused, the old one serves on" in record.message
        assert reason in record.message
        assert sample("oodgate_reloads_total", outcome="refused") == before["refused"] + 1
        assert await decides(shared_bundle)
        shutil.rmtree(path)
        await deployment.look()
        assert await decides(shared_bundle)
        replace(path, other)
        await deployment.look()
        assert await decides(other)
        assert sample("oodgate_reloads_total", outcome="swapped") == before["swapped"] + 1

    run(bundle_dir, body)


def test_a_bundle_without_the_service_s_operating_point_is_refused(
    shared_bundle: Bundle, bundle_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = write_bundle(tmp_path / "few", classifier(), count=15)  # too few for an alpha of 0.05

    async def body(_: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        replace(path, few)
        with caplog.at_level(logging.ERROR, "oodgate"):
            await app.state.deployment.look()
        assert "no operating point for alpha = 0.05; stored are 0.1." in caplog.text
        assert sha256(app.state.decider.gate.bundle) == sha256(shared_bundle)

    run(bundle_dir, body, alpha=0.05)


def test_a_request_in_progress_keeps_its_bundle(shared_bundle: Bundle, other: Bundle, bundle_dir: Path) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        old, listeners = deployment.decider.gate, deployment.listeners
        go, engine = threading.Event(), old.engine.run

        def slow(*args: Any) -> Any:
            assert go.wait(10)
            return engine(*args)

        old.engine.run = slow  # type: ignore[method-assign]
        first = asyncio.ensure_future(client.post("/classify", content=IMAGES[0]))
        await asyncio.sleep(0.1)
        replace(path, other)
        await deployment.look()
        second = await client.post("/classify", content=IMAGES[0])
        assert second.json()["model"]["sha256"] == sha256(other)
        assert not first.done()
        go.set()
        assert (await first).json()["model"]["sha256"] == sha256(shared_bundle)
        while deployment._retiring:
            await asyncio.sleep(0.01)
        assert listeners.drift.report().images == 1  # nothing that it heard is lost
        assert (await client.get("/model")).json()["labels"] == list(other.manifest.labels)

    run(bundle_dir, body, engine_calls=2)


def test_a_replaced_bundle_leaves_the_memory(other: Bundle, bundle_dir: Path) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        await client.post("/classify_batch?alpha=0.05", files=[("images", image) for image in IMAGES[:8]])
        await client.post("/classify", content=IMAGES[0])
        old = weakref.ref(deployment.decider.gate.engine)
        replace(path, other)
        await deployment.look()
        while deployment._retiring:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        gc.collect()
        assert old() is None

    run(bundle_dir, body, decode_threads=4, engine_calls=2)


def test_the_same_bundle_written_again_is_left_alone(shared_bundle: Bundle, bundle_dir: Path) -> None:
    async def body(_: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        served = deployment.decider.served
        replace(path, shared_bundle)
        (path / CARD).write_text("another card")
        await deployment.look()
        assert deployment.decider.served is served

    run(bundle_dir, body)


def test_files_that_are_none_of_the_bundles_are_not_looked_at(bundle_dir: Path) -> None:
    before = fingerprint(bundle_dir)
    assert before is not None
    (bundle_dir / "rejects").mkdir()
    (bundle_dir / "rejects" / "one.png").write_bytes(IMAGES[0])
    assert fingerprint(bundle_dir) == before
    for name in read_manifest(bundle_dir).files:
        content = (bundle_dir / name).read_bytes()
        (bundle_dir / name).unlink()
        without = fingerprint(bundle_dir)
        assert (without is None) == (name == MODEL)
        (bundle_dir / name).write_bytes(content)
        assert fingerprint(bundle_dir) not in (before, without)
        before = fingerprint(bundle_dir)
    (bundle_dir / MANIFEST).write_text("{")
    assert fingerprint(bundle_dir) not in (before, None)


def test_other_golden_images_of_the_same_model_are_served(golden_bundle: Bundle, tmp_path: Path) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette, path: Path) -> None:
        deployment: Deployment = app.state.deployment
        served = deployment.decider.served
        files = {MODEL: golden_bundle.model}
        write(path, dataclasses.replace(golden_bundle.manifest, files={}, engines={}), files, {})
        await deployment.look()
        assert deployment.decider.served is not served
        assert (await client.get("/model")).json()["sha256"] == sha256(golden_bundle)

    run(Path(shutil.copytree(golden_bundle.path, tmp_path / "bundle")), body)


def test_workers_look_by_themselves(other: Bundle, bundle_dir: Path) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette, path: Path) -> None:
        replace(path, other)
        for _ in range(100):
            if (await client.get("/model")).json()["sha256"] == sha256(other):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it was never looked at")

    run(bundle_dir, body, reload=1)
