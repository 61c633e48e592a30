"""The manifests, without a cluster: rendered, validated against Kubernetes' schemas, and compared with the service."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.settings import Settings

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
BASE = FOLDER / "base"


def documents() -> list[dict[str, Any]]:
    """The base's resources as they are written."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [yaml.safe_load((BASE / name).read_text()) for name in names]


def resource(kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents() if document["kind"] == kind)
    return found


def container() -> dict[str, Any]:
    (found,) = resource("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def rendered(overlay: str) -> list[dict[str, Any]]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("overlay", ["base", "cuda"])
def test_rendered_manifests_are_valid(overlay: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    resources = rendered(overlay)
    kinds = {"ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert {document["kind"] for document in resources} == kinds
    for document in resources:
        validate.validate(document, "1.30", strict=True)


@pytest.mark.parametrize("overlay", ["base", "cuda"])
def test_rendered_selectors_meet_the_pods(overlay: str) -> None:
    by_kind = {document["kind"]: document for document in rendered(overlay)}
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        by_kind["Deployment"]["spec"]["selector"]["matchLabels"],
        by_kind["Service"]["spec"]["selector"],
        by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels.items()


def test_a_gpu_pod_asks_for_a_gpu() -> None:
    (deployment,) = (document for document in rendered("cuda") if document["kind"] == "Deployment")
    (pod,) = deployment["spec"]["template"]["spec"]["containers"]
    assert pod["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["image"].endswith("-cuda")


def test_the_settings_are_the_service_s() -> None:
    lines = (BASE / "settings.env").read_text().split()
    Settings.from_environment(dict(line.split("=", 1) for line in lines))


def test_probes_and_port() -> None:
    found = container()
    assert found["ports"] == [{"name": "http", "containerPort": 3000}]
    paths = {name: found[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert resource("Service")["spec"]["ports"][0]["targetPort"] == "http"


def test_the_autoscaler_scales_the_deployment_on_the_queue() -> None:
    spec = resource("HorizontalPodAutoscaler")["spec"]
    deployment = resource("Deployment")
    assert spec["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert spec["metrics"][0]["pods"]["metric"]["name"].startswith("oodgate_queue")
    assert "replicas" not in deployment["spec"]  # the autoscaler's alone


def test_a_pod_may_write_only_what_is_mounted() -> None:
    security = container()["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert resource("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert [mount["mountPath"] for mount in container()["volumeMounts"]] == ["/tmp", "/run/oodgate"]


def test_a_request_in_flight_outlives_termination() -> None:
    spec = resource("Deployment")["spec"]["template"]["spec"]
    sleep = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= 60 + sleep
