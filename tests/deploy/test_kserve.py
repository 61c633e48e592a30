"""The manifests for KServe: its own fields by what its CRDs say of them, the containers by Kubernetes' schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.settings import Settings

yaml = pytest.importorskip("yaml")
jsonschema = pytest.importorskip("jsonschema")

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kserve"
FILES = ("oodgate", "triton")

TEXT: dict[str, Any] = {"type": "string"}
ANY: dict[str, Any] = {}  # Kubernetes' own, validated as parts of a pod


def of(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


# What KServe's CRDs of August 2026 say of the fields that are used here; any other field is refused.
FORMAT = of(["name"], name=TEXT, version=TEXT)
SUPPORTED = of(
    ["name"], name=TEXT, version=TEXT, autoSelect={"type": "boolean"}, priority={"type": "integer", "minimum": 1}
)
SPECS = {
    "ServingRuntime": of(
        ["containers"],
        annotations={"type": "object", "additionalProperties": TEXT},
        containers=ANY,
        multiModel={"type": "boolean"},
        protocolVersions=many({"enum": ["v1", "v2", "grpc-v2"]}),
        supportedModelFormats=many(SUPPORTED),
        volumes=ANY,
    ),
    "InferenceService": of(
        ["predictor"],
        predictor=of(
            [],
            minReplicas={"type": "integer"},
            model=of([], modelFormat=FORMAT, protocolVersion=TEXT, runtime=TEXT, storageUri=TEXT),
        ),
    ),
}
VERSIONS = {"ServingRuntime": "serving.kserve.io/v1alpha1", "InferenceService": "serving.kserve.io/v1beta1"}


def documents(name: str) -> dict[str, Any]:
    """The resources of a file by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())}


def container(name: str) -> dict[str, Any]:
    (found,) = documents(name)["ServingRuntime"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("name", FILES)
def test_what_is_kserve_s_own(name: str) -> None:
    found = documents(name)
    assert found.keys() == SPECS.keys()
    for kind, document in found.items():
        assert document["apiVersion"] == VERSIONS[kind]
        jsonschema.validate(document["spec"], SPECS[kind])


@pytest.mark.parametrize("name", FILES)
def test_what_is_kubernetes_own(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    spec = documents(name)["ServingRuntime"]["spec"]
    pod = {"containers": spec["containers"], "volumes": spec.get("volumes", [])}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "oodgate"}, "spec": pod}
    validate.validate(document, "1.30", strict=True)


@pytest.mark.parametrize("name", FILES)
def test_the_service_asks_for_the_runtime(name: str) -> None:
    found = documents(name)
    runtime, model = found["ServingRuntime"], found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    formats = [(one["name"], one["version"]) for one in runtime["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert container(name)["name"] == "kserve-container"  # as KServe has to find it


def test_the_settings_are_the_service_s() -> None:
    environment = {variable["name"]: variable["value"] for variable in container("oodgate")["env"]}
    assert environment["OODGATE_BUNDLE"] == "/mnt/models"
    Settings.from_environment(environment)


def test_the_pod_is_that_of_deploy_kubernetes() -> None:
    """Image, probes' paths, mounts and security of the Deployment."""
    deployment = yaml.safe_load((FOLDER.parent / "kubernetes" / "base" / "deployment.yaml").read_text())
    (other,) = deployment["spec"]["template"]["spec"]["containers"]
    found = container("oodgate")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert found[probe]["httpGet"] == {"path": other[probe]["httpGet"]["path"], "port": 3000}
    assert [mount["mountPath"] for mount in found["volumeMounts"]] == [m["mountPath"] for m in other["volumeMounts"]]
    assert found["resources"] == other["resources"]
    assert found["securityContext"].items() >= other["securityContext"].items()
