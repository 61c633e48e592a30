"""A bundle without classes in service: every route answers without a label, or says in one line that there is none."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.golden.service import Service
from serving.deciding.shadow import compare
from serving.http.openapi.schemas import SCHEMAS
from serving.rejects.archive import export
from serving.rejects.files import open_files
from serving.rejects.store import RejectStore
from tests.serving.inside import application
from tests.small import calibration_images, encode

IMAGES = calibration_images(30, seed=11)
OUTPUTS = ["accept", "reason", "p_value", "scores"]


@pytest.fixture(scope="module")
def decisions(unlabelled_bundle: Bundle) -> list[Any]:
    return Gate.load(unlabelled_bundle.path, engine="onnxruntime-cpu", threads=1).decide(IMAGES)


def asked(bundle: Bundle, ask: Any, **settings: Any) -> Any:
    """What `ask(client)` returns of the service."""

    async def run() -> Any:
        async with application(bundle, engine="onnxruntime-cpu", **settings) as (client, _):
            return await ask(client)

    return asyncio.run(run())


def test_answers_accept_or_reject(unlabelled_bundle: Bundle, decisions: list[Any]) -> None:
    async def ask(client: Any) -> list[Any]:
        return [(await client.post("/classify", content=encode(image))).json() for image in IMAGES]

    answers = asked(unlabelled_bundle, ask)
    assert {answer["decision"] for answer in answers} == {"accept", "reject"}
    for answer, decision in zip(answers, decisions, strict=True):
        assert answer["score"]["value"] == pytest.approx(decision.score.value, rel=1e-5)
        assert {name: answer[name] for name in ("decision", "is_ood", "reason")} == {
            "decision": decision.decision,
            "is_ood": decision.is_ood,
            "reason": decision.reason,
        }
        assert (answer["label"], answer["class_index"], answer["confidence"]) == (None, None, None)
        assert answer.keys() == SCHEMAS["Decision"]["properties"].keys()
        assert "null" in SCHEMAS["Decision"]["properties"]["class_index"]["type"]


def test_batches_and_queries(unlabelled_bundle: Bundle) -> None:
    async def ask(client: Any) -> tuple[Any, ...]:
        buffer = io.BytesIO()
        np.save(buffer, IMAGES[:3])
        npy = {"content-type": "application/x-npy"}
        batch = await client.post("/classify_batch?top=3", content=buffer.getvalue(), headers=npy)
        one = await client.post("/classify?alpha=0.05&top=2", content=encode(IMAGES[0]))
        return batch.json(), one.json(), (await client.post("/classify?set=0.9", content=encode(IMAGES[0])))

    batch, one, refused = asked(unlabelled_bundle, ask)
    assert [(answer["label"], answer["top"]) for answer in batch["results"]] == [(None, [])] * 3
    assert one["top"] == []
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].endswith("none; the model has no classes")


def test_the_model_tells_that_it_has_no_classes(unlabelled_bundle: Bundle) -> None:
    async def ask(client: Any) -> tuple[Any, Any]:
        return (await client.get("/model")).json(), (await client.get("/openapi.json")).json()

    model, document = asked(unlabelled_bundle, ask)
    assert (model["task"], model["labels"], model["confidence"]) == ("unlabelled", [], None)
    assert model["calibration_histogram"]["classes"] == {}
    assert sum(model["calibration_histogram"]["counts"]) == 99
    assert "task `unlabelled`" in document["components"]["schemas"]["Decision"]["description"]


def test_open_inference(unlabelled_bundle: Bundle, decisions: list[Any]) -> None:
    """The tensors are those that it has; another one is refused by name."""
    name = unlabelled_bundle.manifest.model.name
    tensor = {"name": "images", "datatype": "UINT8", "shape": [4, 16, 16, 3], "data": IMAGES[:4].ravel().tolist()}

    async def ask(client: Any) -> tuple[Any, Any, Any]:
        url = f"/v2/models/{name}"
        wanted = {"inputs": [tensor], "outputs": [{"name": "confidence"}]}
        found = await client.post(f"{url}/infer", json={"inputs": [tensor]})
        return (await client.get(url)).json(), found.json(), await client.post(f"{url}/infer", json=wanted)

    metadata, found, refused = asked(unlabelled_bundle, ask)
    assert [output["name"] for output in metadata["outputs"]] == OUTPUTS
    answers = {output["name"]: output["data"] for output in found["outputs"]}
    assert list(answers) == OUTPUTS
    assert answers["accept"] == [decision.decision == "accept" for decision in decisions[:4]]
    assert answers["p_value"] == pytest.approx([decision.score.p_value for decision in decisions[:4]])
    assert refused.status_code == 400
    assert "there is no 'confidence'; the model has accept, reason, p_value, scores" in refused.json()["error"]


def test_what_listens(unlabelled_bundle: Bundle, decisions: list[Any], tmp_path: Path) -> None:
    """Drift counts by p-values, metrics without a class, rejects without a prediction; of outcomes there are none."""

    async def ask(client: Any) -> tuple[Any, ...]:
        before = (await client.get("/metrics")).text
        for image in IMAGES:
            await client.post("/classify", content=encode(image))
        outcome = await client.post("/outcomes", json={"request_id": "1", "label": None})
        for _ in range(200):
            kept = (await client.get("/rejects")).json()["rejects"]
            if len(kept) == rejected:
                break
            await asyncio.sleep(0.02)
        return before, (await client.get("/metrics")).text, kept, outcome

    rejected = sum(decision.is_ood for decision in decisions)
    before, after, kept, outcome = asked(unlabelled_bundle, ask, rejects=str(tmp_path / "store"))
    name = 'oodgate_decisions_total{decision="reject",label=""}'
    assert counted(after, name) - counted(before, name) == rejected
    assert len(kept) == rejected
    assert {reject["predicted"] for reject in kept} == {""}
    assert {reject["decision"]["class_index"] for reject in kept} == {None}
    assert outcome.status_code == 404
    assert "the model must give one label an image" in outcome.json()["error"]["message"]
    store = RejectStore(open_files(str(tmp_path / "store")))
    assert export(store, tmp_path / "rejects.tar", by_prediction=True) == rejected
    with tarfile.open(tmp_path / "rejects.tar") as tar:
        assert {Path(name).parent.name for name in tar.getnames()} == {"unlabelled"}


def test_drift(unlabelled_bundle: Bundle) -> None:
    """Images like those of the calibration raise no alarm, others do."""

    async def ask(client: Any) -> Any:
        noise = np.random.default_rng(0).integers(0, 40, (200, 16, 16, 3), dtype=np.uint8)
        for batch in np.split(noise, 25):
            buffer = io.BytesIO()
            np.save(buffer, batch)
            await client.post(
                "/classify_batch", content=buffer.getvalue(), headers={"content-type": "application/x-npy"}
            )
        for _ in range(100):
            report = (await client.get("/drift")).json()
            if report["total_images"] == 200:
                break
            await asyncio.sleep(0.1)
        return report

    report = asked(unlabelled_bundle, ask)
    assert report["total_images"] == 200
    assert report["alarm"] is True


def test_a_shadow_of_the_other_kind(unlabelled_bundle: Bundle, shared_bundle: Bundle) -> None:
    """Beside a classifier only the verdict can be compared."""
    pair = [Gate.load(one.path, engine="onnxruntime-cpu", threads=1) for one in (unlabelled_bundle, shared_bundle)]
    both = list(zip(*(gate.decide(IMAGES) for gate in pair), strict=True))
    for served, shadow in both:
        expected = "agree" if served.decision == shadow.decision else "verdict"
        assert compare(served, shadow) == compare(shadow, served) == expected
    assert compare(both[0][0], both[0][0]) == "agree"


def test_a_service_is_replayed_against(unlabelled_bundle: Bundle, decisions: list[Any]) -> None:
    """What `oodgate selftest --url` reads of both interfaces."""
    name, alpha = unlabelled_bundle.manifest.model.name, unlabelled_bundle.manifest.gate
    assert alpha is not None

    class Here(Service):
        def _ask(self, path: str, data: bytes | None = None, headers: Any = None) -> dict[str, Any]:
            async def ask(client: Any) -> Any:
                return (await client.post(path, content=data, headers=headers)).json()

            found: dict[str, Any] = asked(unlabelled_bundle, ask)
            return found

    service = Here("http://oodgate", None, alpha.alpha)
    for answer in (service.classify(encode(IMAGES[0])), service.infer(name, IMAGES[0])):
        assert (answer.class_index, answer.confidence, answer.label) == (None, None, None)
        assert answer.accepted is (decisions[0].decision == "accept")
        np.testing.assert_allclose(answer.scores, list(decisions[0].scores.values()), rtol=1e-5)


def counted(text: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))
