"""Shadow mode: what a second bundle would have said, counted and never answered."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from runtime import Decision, Gate
from runtime.bundle import MODEL, Bundle
from runtime.exceptions import BundleError, UnknownOperatingPoint
from runtime.manifest import InputSpec
from serving.deciding.shadow import compare
from serving.process.checks import checked_settings
from tests.serving.decisions import assert_same
from tests.serving.inside import application
from tests.small import LABELS, SPEC, calibration_images, classifier, encode, write_bundle

PIXELS = calibration_images(40, seed=3)
OUTCOMES = ("agree", "verdict", "label", "dropped", "failed")
Body = Callable[[httpx.AsyncClient, Starlette], Awaitable[None]]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Other weights, and another input size."""
    spec = InputSpec(8, 8, SPEC.mean, SPEC.std)
    return write_bundle(tmp_path_factory.mktemp("bundles") / "other", classifier(LABELS, spec, seed=3))


def counts(bundle: Bundle, body: Body, **settings: Any) -> Counter[str]:
    """What the shadow counted while `body` ran."""

    def now() -> Counter[str]:
        return Counter(
            {o: int(REGISTRY.get_sample_value("oodgate_shadow_total", {"outcome": o}) or 0) for o in OUTCOMES}
        )

    async def inside() -> None:
        async with application(bundle, **settings) as (client, app):
            await body(client, app)

    before = now()
    asyncio.run(inside())  # which ends when the shadow has finished what it was asked
    return now() - before


def test_disagreement_is_counted_and_answers_are_the_served_bundle_s(shared_bundle: Bundle, other: Bundle) -> None:
    images = [encode(image) for image in PIXELS]
    ours = Gate.load(shared_bundle.path, threads=1).decide(images)
    theirs = Gate.load(other.path, threads=1).decide(images)
    expected: Counter[str] = Counter()
    for a, b in zip(ours, theirs, strict=True):
        expected["verdict" if a.is_ood != b.is_ood else "agree" if a.is_ood or a.label == b.label else "label"] += 1
    assert len(expected) > 1

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for image, decision in zip(images, ours, strict=True):
            assert_same((await client.post("/classify", content=image)).json(), decision.to_dict())

    assert counts(shared_bundle, body, shadow=str(other.path)) == expected
    labels = {"role": "shadow", "model": "other", "sha256": other.manifest.files[MODEL].sha256}
    assert REGISTRY.get_sample_value("oodgate_bundle_info", labels) == 1


def test_arrays_of_another_size_can_not_be_compared(shared_bundle: Bundle, other: Bundle) -> None:
    document = {"name": "images", "datatype": "UINT8", "shape": [8, 16, 16, 3], "data": PIXELS[:8].tolist()}

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        assert (await client.post("/v2/models/small/infer", json={"inputs": [document]})).status_code == 200

    assert counts(shared_bundle, body, shadow=str(other.path)) == {"failed": 8}
    assert counts(shared_bundle, body, shadow=str(shared_bundle.path)) == {"agree": 8}


def test_a_request_with_its_own_alpha_is_not_compared(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        await client.post("/classify?alpha=0.01", content=encode(PIXELS[0]))

    assert not counts(shared_bundle, body, shadow=str(shared_bundle.path))


def test_both_decide_at_the_operating_point_that_is_set(shared_bundle: Bundle) -> None:
    images = [encode(image) for image in PIXELS]
    gates = [Gate.load(shared_bundle.path, threads=1, alpha=alpha) for alpha in (0.01, 0.1)]
    strict, default = ([decision.decision for decision in gate.decide(images)] for gate in gates)
    assert strict != default

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for image, decision in zip(images, strict, strict=True):
            assert (await client.post("/classify", content=image)).json()["decision"] == decision

    assert counts(shared_bundle, body, shadow=str(shared_bundle.path), alpha=0.01) == {"agree": len(PIXELS)}


def test_a_shadow_without_the_operating_point_that_is_set_ends_the_start(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = write_bundle(tmp_path / "few", classifier(), count=15)  # too few for an alpha of 0.05

    async def body(_: httpx.AsyncClient, __: Starlette) -> None:
        raise AssertionError("it started")

    reason = r"no operating point for alpha = 0\.05; stored are 0\.1\."
    with pytest.raises(UnknownOperatingPoint, match=reason):
        counts(shared_bundle, body, shadow=str(few.path), alpha=0.05)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    monkeypatch.setenv("OODGATE_BUNDLE", str(shared_bundle.path))
    monkeypatch.setenv("OODGATE_SHADOW", str(few.path))
    monkeypatch.setenv("OODGATE_ALPHA", "0.05")
    with pytest.raises(UnknownOperatingPoint, match=reason):
        checked_settings()


def test_a_slow_shadow_delays_nobody(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        shadow = app.state.deployment._shadow
        go, engine = threading.Event(), shadow._gate.engine.run

        def slow(*args: Any) -> Any:
            assert go.wait(10)
            return engine(*args)

        shadow._gate.engine.run = slow
        for image in PIXELS:
            assert (await client.post("/classify", content=encode(image))).status_code == 200
        go.set()

    found = counts(shared_bundle, body, shadow=str(shared_bundle.path), max_queue=4)
    assert found.total() == len(PIXELS)
    assert found["dropped"] >= len(PIXELS) - 2 * 4
    assert set(found) == {"agree", "dropped"}


def test_a_shadow_that_fails_is_counted(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        def broken(*_: Any) -> Any:
            raise RuntimeError("the shadow's fault")

        app.state.deployment._shadow._gate.engine.run = broken
        assert (await client.post("/classify", content=encode(PIXELS[0]))).status_code == 200

    assert counts(shared_bundle, body, shadow=str(shared_bundle.path)) == {"failed": 1}


def test_a_shadow_that_is_no_bundle_ends_the_start(shared_bundle: Bundle, tmp_path: Path) -> None:
    async def body(_: httpx.AsyncClient, __: Starlette) -> None:
        raise AssertionError("it started")

    with pytest.raises(BundleError, match="the directory of a bundle"):
        counts(shared_bundle, body, shadow=str(tmp_path))


def test_what_is_compared(shared_bundle: Bundle) -> None:
    decision: Decision = Gate.load(shared_bundle.path, threads=1).decide(PIXELS[:1])[0]
    accepted = replace(decision, decision="accept", label="cat")
    rejected = replace(decision, decision="reject", label=None)
    assert compare(accepted, rejected) == "verdict"
    assert compare(accepted, replace(accepted, label="dog")) == "label"
    assert compare(replace(accepted, labels=("cat",)), replace(accepted, labels=("cat", "dog"))) == "label"
    assert compare(rejected, replace(rejected, class_index=1 - bool(rejected.class_index))) == "agree"
