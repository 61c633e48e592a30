"""The Dockerfile, without Docker: linted, its pins compared with the project's, and what it copies imported."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def pins(file: Path) -> dict[str, str]:
    """Versions by normalised name."""
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    split = [line.partition("==") for line in lines if line]
    return {re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower(): version for name, _, version in split}


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_requirement_is_pinned_to_the_project_s_constraint() -> None:
    constraints = pins(ROOT / "constraints.txt")
    required = pins(DEPLOY / "requirements.txt")
    assert all(required.values())
    assert required == {name: constraints[name] for name in required}


def test_the_service_s_dependencies_are_all_there() -> None:
    """By the metadata of what is installed here, extras and markers left to pip."""
    from importlib.metadata import requires

    required = pins(DEPLOY / "requirements.txt").keys()
    for line in requires("oodgate") or []:
        requirement, _, marker = line.partition(";")
        if "extra ==" not in marker or "'serving'" in marker.replace('"', "'"):
            name = re.match(r"[\w.-]+", requirement)
            assert name
            assert re.sub(r"[-_.]+", "-", name[0]).lower() in required


def test_cuda_replaces_the_engine_with_the_same_version() -> None:
    cuda, cpu = pins(DEPLOY / "requirements-cuda.txt"), pins(DEPLOY / "requirements.txt")
    assert cuda["onnxruntime-gpu"] == cpu["onnxruntime"]
    assert all(cuda.values())
    assert not cuda.keys() & cpu.keys()


def test_openvino_is_added_at_the_version_that_is_tested() -> None:
    added, constraints = pins(DEPLOY / "requirements-openvino.txt"), pins(ROOT / "constraints.txt")
    assert added == {name: constraints[name] for name in ("openvino", "openvino-telemetry")}
    assert not added.keys() & pins(DEPLOY / "requirements.txt").keys()


def test_what_is_copied_is_a_service(tmp_path: Path) -> None:
    """The copies of the last stages, and no other file of the repository."""
    stage = DOCKERFILE[DOCKERFILE.index("AS service") :]
    for line in re.findall(r"^COPY (?!--from)(.+)$", stage, re.MULTILINE):
        *sources, target = line.replace("${BUNDLE}", "bundles/cifar10").split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    variables = dict(re.findall(r"(\w+)=(\S+)", stage[stage.index("ENV") : stage.index("USER")]))
    bundle = variables["OODGATE_BUNDLE"].replace("/app", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", "import serving.service; print(serving.service.__file__)"],
        cwd=tmp_path,
        env={"OODGATE_BUNDLE": bundle, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "serving" / "service.py")


def test_nothing_runs_as_root() -> None:
    service = DOCKERFILE[DOCKERFILE.index("AS service") :]
    assert re.findall(r"^USER (.+)$", service, re.MULTILINE) == ["10001"]


def test_the_build_sees_what_it_copies() -> None:
    """The ignore file lets in what the Dockerfile copies."""
    allowed = {
        line[1:].partition("/")[0] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if "!" in line
    }
    copied = [
        source for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    ]
    assert {source.replace("${BUNDLE}", "bundles").partition("/")[0] for source in copied} <= allowed
