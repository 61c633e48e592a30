"""The Ray job and its image, without one: pods by Kubernetes' schemas, fields by KubeRay's, the command by its parser."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.engines.selection import GPU_ENGINES
from tests.deploy.test_image import DEPLOY, DOCKERFILE, ROOT, pins
from tests.deploy.test_kubernetes import rendered

yaml = pytest.importorskip("yaml")
pytest.importorskip("pyarrow")
score = pytest.importorskip("serving.batch.__main__")

# Of ray.io/v1, as written down in KubeRay's rayjob_types.go and raycluster_types.go; those that are used.
JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", *HEAD}
STAGE = DOCKERFILE[DOCKERFILE.index("AS ray") : DOCKERFILE.index("AS service")]


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "kubernetes" / "score" / "job.yaml").read_text()))


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_fields_are_those_of_kuberay(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() == JOB
    assert job["spec"]["rayClusterSpec"].keys() == CLUSTER
    head, *workers = groups(job)
    assert head.keys() == HEAD
    assert all(group.keys() == WORKERS for group in workers)
    for group in groups(job):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_pods_are_valid_and_nobody_is_root(job: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for group in groups(job):
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        validate.validate({**pod, "metadata": {"name": "pod", **pod["metadata"]}}, "1.30", strict=True)
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        resources = container["resources"]
        assert resources["limits"].items() <= resources["requests"].items()


def test_the_image_of_every_pod_is_the_kustomization_s() -> None:
    (found,) = rendered("score")
    images = {container["image"] for group in groups(found) for container in group["template"]["spec"]["containers"]}
    assert images == {"registry.example.com/oodgate:0.1.0-ray"}


def test_the_command_is_one(job: dict[str, Any]) -> None:
    python, option, module, command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (python, option, module, command) == ("python", "-m", "oodgate", "score")
    options = score._options(score._parser().parse_args(arguments))
    assert (options.engine, str(options.bundle)) == ("ray", "/app/bundle")
    assert options.backend != "auto"
    head, *workers = groups(job)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert any("nvidia.com/gpu" in str(group) for group in workers) == (options.backend in GPU_ENGINES)


def test_versions_are_those_that_are_tested(job: dict[str, Any]) -> None:
    constraints, required = pins(ROOT / "constraints.txt"), pins(DEPLOY / "requirements-ray.txt")
    (tag,) = re.findall(r"^FROM rayproject/ray:([\d.]+)-py311 AS ray$", DOCKERFILE, re.MULTILINE)
    assert tag == constraints["ray"] == job["spec"]["rayClusterSpec"]["rayVersion"]
    assert required == {name: constraints["fsspec" if name == "s3fs" else name] for name in required}


def test_what_is_copied_scores(tmp_path: Path) -> None:
    """The copies of the stage, and no other file of the repository."""
    for line in re.findall(r"^COPY (.+)$", STAGE, re.MULTILINE):
        source, target = line.replace("${BUNDLE}", "bundles/cifar10").split()
        if target.startswith("./"):
            shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    samples = ROOT / "serving" / "page" / "samples"
    command = [
        sys.executable,
        "-m",
        "oodgate",
        "score",
        samples,
        "--bundle",
        tmp_path / "bundle",
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run(
        [*command, "--backend", "onnxruntime-cpu"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(list(samples.glob('*.png')))} images: " in done.stdout


def test_nothing_of_the_image_is_done_as_root() -> None:
    assert not re.findall(r"^USER", STAGE, re.MULTILINE)  # Ray's own image has a user
