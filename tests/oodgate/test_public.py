"""The facade: the runtime's public surface under the product's name, frozen there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import oodgate
import runtime
from oodgate import beside

ROOT = Path(__file__).resolve().parents[2]


OTHERS = ["InputSpec", "calibrate", "evaluate", "export", "Client"]  # what makes a bundle, and asks a service


def test_the_surface_is_the_runtimes_and_what_is_done_with_a_bundle() -> None:
    assert oodgate.__all__ == [*runtime.__all__, *OTHERS]


@pytest.mark.parametrize("name", runtime.__all__)
def test_a_name_is_the_runtimes_own(name: str) -> None:
    assert getattr(oodgate, name) is getattr(runtime, name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
@pytest.mark.parametrize("name", OTHERS)
def test_the_others_are_there(name: str) -> None:
    assert getattr(oodgate, name).__name__ == name


def test_a_module_of_a_users_own_is_not_taken_for_ours(tmp_path: Path) -> None:
    for name in ("train", "export"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py was imported')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, "-c", "import oodgate; print(oodgate.export.__module__)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "export.facade\n", done.stderr


def test_a_module_of_a_users_own_that_is_imported_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = ModuleType("train")
    theirs.__file__ = str(tmp_path / "train.py")
    monkeypatch.setitem(sys.modules, "train", theirs)
    with pytest.raises(
        ImportError, match=r"train\.py is imported as train, the name of a package of oodgate: rename it"
    ):
        beside.check()


def test_version() -> None:
    assert oodgate.__version__ == runtime.__version__


def test_the_citation_is_of_this_version() -> None:
    citation = ROOT / "CITATION.cff"
    assert f"\nversion: {runtime.__version__}\n" in citation.read_text(encoding="utf-8")


def test_names_are_listed_before_they_are_loaded() -> None:
    assert {*runtime.__all__, "__version__"} <= set(dir(oodgate))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'oodgate' has no attribute 'gate'"):
        oodgate.gate  # type: ignore[attr-defined]  # noqa: B018
