"""The HTTP contract, against a real `bentoml serve`: every answer is what the library says in process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import MODEL, Bundle
from serving.http.app import PAGE
from serving.settings import Settings
from tests import images
from tests.serving.decisions import assert_same
from tests.small import LABELS, calibration_images, encode


@pytest.fixture(scope="module")
def gate(shared_bundle: Bundle) -> Gate:
    return Gate.load(shared_bundle.path, threads=1)


def test_multipart_and_raw_body_give_the_library_s_decision(client: httpx.Client, gate: Gate) -> None:
    for image in calibration_images(20, seed=4):
        data = encode(image)
        expected = gate.decide([data])[0].to_dict()
        assert client.post("/classify", files={"image": data}).json() == expected
        assert client.post("/classify", content=data).json() == expected


def test_the_decision_has_the_contract_s_fields(client: httpx.Client, shared_bundle: Bundle) -> None:
    body = client.post("/classify", files={"image": images.photo()}).json()
    assert list(body) == [
        "decision", "reason", "is_ood", "label", "class_index", "confidence", "score", "scores", "model"
    ]  # fmt: skip
    assert list(body["score"]) == ["name", "value", "threshold", "p_value"]
    assert set(body["scores"]) == {"msp", "max_logit", "energy", "joint_energy", "nan", "feature_norm"}
    assert body["model"] == {"name": "small", "sha256": shared_bundle.manifest.files[MODEL].sha256}


def test_both_verdicts_occur_and_label_goes_with_accept(client: httpx.Client) -> None:
    bodies = [client.post("/classify", content=encode(image)).json() for image in calibration_images(99)]
    assert {body["decision"] for body in bodies} == {"accept", "reject"}
    for body in bodies:
        accepted = body["score"]["value"] >= body["score"]["threshold"]
        assert body["decision"] == ("accept" if accepted else "reject")
        assert body["is_ood"] is not accepted
        assert body["label"] == (LABELS[body["class_index"]] if accepted else None)


def test_batch_keeps_the_order_and_gives_a_bad_image_its_own_error(client: httpx.Client, gate: Gate) -> None:
    good = [encode(image) for image in calibration_images(4, seed=5)]
    parts = [("images", data) for data in (good[0], good[1], b"no image", good[2], good[3])]
    response = client.post("/classify_batch", files=parts)
    assert response.status_code == 200
    results = response.json()["results"]
    assert results[2]["error"]["code"] == "not_an_image"
    del results[2]
    expected = [decision.to_dict() for decision in gate.decide(good)]
    for result, decision in zip(results, expected, strict=True):
        assert_same(result, decision)


def test_a_batch_of_bad_images_only(client: httpx.Client) -> None:
    body = client.post("/classify_batch", files=[("images", b"x"), ("images", b"y")]).json()
    assert [result["error"]["code"] for result in body["results"]] == ["not_an_image"] * 2


def test_model_is_the_manifest_s_public_part(client: httpx.Client, shared_bundle: Bundle) -> None:
    body = client.get("/model").json()
    manifest = shared_bundle.manifest
    assert manifest.gate is not None
    assert body["labels"] == list(LABELS)
    assert body["gate"]["threshold"] == manifest.gate.threshold
    assert body["sha256"] == manifest.files[MODEL].sha256
    assert (body["engine"], body["engine_precision"]) == ("onnxruntime-cpu", "fp32")
    assert body["tuning"] == {
        "engine_threads": 1,
        "engine_calls": max(1, Settings().decode_threads // 2),
        "max_batch": 16,
        "batch_wait_ms": 0,
        "chosen_by": "settings",
    }
    assert "calibration" not in body
    assert "provenance" not in body


def test_bentoml_s_client_works(server: tuple[str, object], tmp_path: Path, gate: Gate) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(images.photo())
    script = (
        "import bentoml, json, sys\n"
        "with bentoml.SyncHTTPClient(sys.argv[1]) as client:\n"
        "    print(json.dumps(client.classify(image=sys.argv[2])))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, server[0], photo], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout or "null") == gate.decide([photo])[0].to_dict(), done.stderr


def test_probes_and_metrics(client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200
    before = _metrics(client)
    client.post("/classify", content=encode(calibration_images(1)[0]))
    client.post("/classify", content=b"no image")
    after = _metrics(client)

    def grew(start: str) -> float:
        return sum(value - before.get(name, 0.0) for name, value in after.items() if name.startswith(start))

    assert grew("oodgate_decisions_total{") == 1
    assert grew("oodgate_score_count{") == 1
    assert grew('oodgate_requests_total{route="/classify",status="200"}') == 1
    assert grew('oodgate_requests_total{route="/classify",status="415"}') == 1
    assert grew('oodgate_errors_total{code="not_an_image"}') == 1
    assert grew('oodgate_request_seconds_count{route="/classify"}') == 2


def test_the_page_and_its_files(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("page.css", "page.js", "rejects.js", "samples.json"):
        assert client.get(f"/page/{name}").status_code == 200
    for sample in client.get("/page/samples.json").json():
        data = client.get(f"/page/samples/{sample['file']}").content
        assert client.post("/classify", content=data).json()["decision"] in ("accept", "reject")


def test_the_page_asks_nothing_of_other_hosts(client: httpx.Client) -> None:
    for path in ("/", "/rejects.html", *(f"/page/{file.name}" for file in PAGE.glob("*.*s"))):
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert client.get(path).headers["content-security-policy"].startswith("default-src 'self'")
        assert client.get(path).headers["cache-control"] == "no-cache"


def test_a_bad_bundle_ends_the_command_with_one_line(tmp_path: Path) -> None:
    from tests.serving.conftest import serve

    with pytest.raises(RuntimeError) as caught, serve(OODGATE_BUNDLE=str(tmp_path)):
        pass
    assert f"{tmp_path}/manifest.json: not found" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_concurrent_requests_get_their_own_answers(server: tuple[str, subprocess.Popen[bytes]], gate: Gate) -> None:
    """Good requests in flight are not harmed by bad ones beside them."""
    from concurrent.futures import ThreadPoolExecutor

    good = [encode(image) for image in calibration_images(60, seed=6)]
    expected = [decision.to_dict() for data in good for decision in gate.decide([data])]
    bodies = [data for pair in zip(good, [b"bad"] * 60, strict=True) for data in pair]
    with httpx.Client(base_url=server[0], timeout=30) as shared, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda data: shared.post("/classify", content=data), bodies))
    for answer, decision in zip(answers[::2], expected, strict=True):
        assert_same(answer.json(), decision)
    assert {answer.status_code for answer in answers[1::2]} == {415}
    assert np.mean([answer["decision"] == "accept" for answer in expected]) > 0.5


def _metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
