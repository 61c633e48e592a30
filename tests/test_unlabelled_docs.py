"""docs/unlabelled.md: its commands run as they are written, on drawn images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import Bundle
from tests.commands import oodgate
from tests.small import encode

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "unlabelled.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line) for language, text in BLOCKS if language == "bash" for line in text.splitlines()]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stripes are good, noise is not."""
    rng = np.random.default_rng(0)
    for folder, count in (("good", 160), ("held", 80), ("other", 40)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            _, x = np.mgrid[:32, :32]
            wave = np.sin(rng.uniform(0.4, 0.6) * x + rng.uniform(0, 6)) * rng.uniform(40, 80, 3)[:, None, None]
            striped = 128 + wave.transpose(1, 2, 0) + rng.normal(0, 6, (32, 32, 3))
            image = rng.integers(0, 256, (32, 32, 3)) if folder == "other" else striped
            (tmp_path / folder / f"{i:03}.png").write_bytes(encode(image.clip(0, 255).astype(np.uint8)))
    (text,) = (text for language, text in BLOCKS if language == "python")
    (tmp_path / "extractor.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_commands_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for name, *arguments in COMMANDS:
        assert name == "oodgate"
        oodgate(*arguments)
        printed.append(capsys.readouterr().out)
    known, unknown = printed[2].splitlines()
    assert '"decision": "accept"' in known
    assert '"decision": "reject"' in unknown
    assert "OOD other: 40 images, 100.00" in printed[1]
    assert Bundle.load(workplace / "bundles" / "good").manifest.scores[-2:] == ("knn", "mahalanobis++")
    assert Bundle.load(workplace / "bundles" / "moco").manifest.model.method == "moco"
