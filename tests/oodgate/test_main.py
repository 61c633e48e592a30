"""The command `oodgate`: a map of the work, and a way to each module's own command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oodgate.__main__ import COMMANDS, main, overview
from runtime.bundle import Bundle
from runtime.manifest import Manifest
from tests import images
from tests.oodgate.folders import hostile

ROOT = Path(__file__).resolve().parents[2]
_LATER = ["pipeline", "tensorrt", "run", "score", "selftest", "export-triton", "serve"]
ORDER = ["train", "export", "calibrate", "fit", "convert", "evaluate", "parity", *_LATER]


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command changes in its process is put back."""
    monkeypatch.setattr(sys, "argv", ["oodgate"])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


WITHOUT = """
import runpy, sys

class Missing:
    def find_spec(self, name, *_):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv[0], missing = "oodgate", sys.argv.pop(1)
runpy.run_module("oodgate", run_name="__main__")
"""


def oodgate(*arguments: str, cwd: Path = ROOT, without: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m oodgate`, from `cwd`, where the module `without` is not installed."""
    run = ["-c", WITHOUT, without, *arguments] if without else ["-m", "oodgate", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *run], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_commands_are_in_the_order_of_the_work() -> None:
    assert list(COMMANDS) == ORDER


def test_the_overview_is_one_screen_that_names_every_command() -> None:
    lines = overview().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    listed = [line.split()[0] for line in lines if line.startswith("  ") and "oodgate" not in line]
    assert listed == ORDER


def test_the_overviews_example_is_a_path_of_five_commands() -> None:
    example = [line.split()[1] for line in overview().splitlines() if line.startswith("  oodgate ")]
    assert example == ["train", "export", "calibrate", "evaluate", "serve"]


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == overview()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import runtime

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"oodgate {runtime.__version__}\n"


@pytest.mark.parametrize("name", ORDER)
def test_a_commands_help_is_called_by_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: oodgate {name} ")
    assert f"Example: oodgate {name} " in printed


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("calib", "calibrate"), ("server", "serve")])
def test_an_unknown_command_is_answered_with_the_nearest(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed, "--help"]) == 2
    assert capsys.readouterr().err == f"error: no command {typed!r}, did you mean {meant!r}? See oodgate --help\n"


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        ("train", "torch", "train"),
        ("export", "torch", "export"),
        ("calibrate", "onnx", "calibrate"),
        ("score", "pyarrow", "batch"),
        ("serve", "uvicorn", "serving"),
    ],
)
def test_a_missing_extra_is_one_line(name: str, missing: str, extra: str) -> None:
    arguments = ("--checkpoint", "any", "--out", "any") if name == "export" else ("bundles/any",)
    done = oodgate(name, *arguments, without=missing)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: oodgate {name} needs {missing}, which is not installed: pip install 'oodgate[{extra}]'\n"
    )


def test_a_users_error_is_one_line(tmp_path: Path) -> None:
    done = oodgate("run", str(tmp_path / "none"), "photo.jpg")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_with_modules_of_our_names(tmp_path: Path, shared_bundle: Bundle) -> None:
    folder = hostile(tmp_path)
    (folder / "photo.jpg").write_bytes(images.photo())
    done = oodgate("run", str(shared_bundle.path), "photo.jpg", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert '"decision"' in done.stdout
    assert oodgate("export", "--help", cwd=folder).returncode == 0


def test_a_model_of_a_users_own_train_py(tmp_path: Path) -> None:
    """Whose modules import one another, by names that are our packages' too."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").touch()
    (tmp_path / "runtime" / "layers.py").write_text(
        "from torch import nn\n\n"
        "def head(width, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(width, classes))\n"
    )
    (tmp_path / "export.py").write_text("raise RuntimeError('export.py of the user was imported')\n")
    (tmp_path / "train.py").write_text(
        "import runtime.layers\n\ndef make_model(classes):\n    return runtime.layers.head(48, classes)\n"
    )
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    says = ("--labels", "names.txt", "--size", "4", "--resize-to", "4", "--mean", "0.5", "--std", "0.5")
    done = oodgate("export", "--model", "train:make_model(2)", *says, "--out", "bundle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.from_json((tmp_path / "bundle" / "manifest.json").read_text())
    assert (manifest.model.arch, manifest.model.features, manifest.labels) == (
        "train:make_model(2)",
        48,
        ("cat", "dog"),
    )
