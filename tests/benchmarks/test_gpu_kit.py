"""The kit for GPU machines: split, verified and joined; what is missing, damaged or for another Python is named."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks import gpu_kit
from benchmarks.gpu_kit import KitError, main, pack, unpack
from benchmarks.paths import ROOT

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.9"


def wheel(folder: Path, name: str, version: str, module: str) -> Path:
    """A wheel of one module that says its version."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", f"VERSION = {version!r}\n" + "# made up\n" * 5000)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The project, a wheel of something new, and one in place of a module that is installed here."""
    tar = tmp_path / gpu_kit.SOURCE
    with tarfile.open(tar, "w") as archive:
        for name in ("benchmarks", "export", "runtime", "serving", "train"):
            archive.add(ROOT / name, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
    return [
        tar,
        wheel(tmp_path, "made_up_gpu", "1.0", "made_up_gpu"),
        wheel(tmp_path, "tqdm_gpu", "99.0", "tqdm_of_gpu"),
    ]


@pytest.fixture
def kit(tmp_path: Path, files: list[Path]) -> Path:
    pack(tmp_path / "kit", files, PYTHON, 500_000)
    return tmp_path / "kit"


def test_parts_are_small_and_hold_all_bytes_in_order(kit: Path, files: list[Path]) -> None:
    index = json.loads((kit / gpu_kit.INDEX).read_text())
    parts = [(kit / part["name"]).read_bytes() for part in index["parts"]]
    assert len(parts) > 2
    assert all(len(part) == 500_000 for part in parts[:-1])
    assert 0 < len(parts[-1]) <= 500_000
    assert b"".join(parts) == b"".join(file.read_bytes() for file in files)
    assert [file["name"] for file in index["files"]] == [file.name for file in files]


def test_packing_again_leaves_no_part_of_the_last_kit(kit: Path, files: list[Path]) -> None:
    index = pack(kit, files[1:2], PYTHON)
    assert sorted(path.name for path in kit.glob("part-*")) == [part["name"] for part in index["parts"]] == ["part-00"]


def test_unpacked_the_benchmark_runs_on_the_cpu(kit: Path, tmp_path: Path) -> None:
    """By the file in the kit alone, in an environment that sees this one's packages behind its own."""
    alone = [sys.executable, "-I", str(kit / "gpu_kit.py"), "unpack", str(kit), "--to", str(tmp_path / "there")]
    printed = subprocess.run(alone, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    python = tmp_path / "there" / "env" / "bin" / "python"
    assert printed == f"cd {tmp_path / 'there' / 'source'} && {python} -m benchmarks.gpu\n"
    code = "import made_up_gpu, benchmarks, numpy; print(made_up_gpu.VERSION, benchmarks.__file__)"
    source = tmp_path / "there" / "source"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=source).stdout
    assert found.split() == ["1.0", str(source / "benchmarks" / "__init__.py")]
    small = ["--cpu", "--arch", "resnet20", "--batch", "1", "--seconds", "0", "--steps", "torch", "--precision", "fp32"]
    command = [str(python), "-m", "benchmarks.gpu", *small, "--out", str(tmp_path / "out")]
    subprocess.run(command, capture_output=True, check=True, cwd=source)
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["model"], row["engine"], row["batch"]) == ("resnet20", "torch", 1)


def test_the_kits_packages_come_before_those_that_are_there(tmp_path: Path) -> None:
    pack(tmp_path / "kit", [wheel(tmp_path, "tqdm", "99.0", "tqdm")], PYTHON)
    python = unpack(tmp_path / "kit", tmp_path / "there")
    code = "import tqdm, numpy; print(tqdm.VERSION)"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout == "99.0\n"


def test_missing_parts_are_all_named(kit: Path, tmp_path: Path) -> None:
    for name in ("part-00", "part-02"):
        (kit / name).unlink()
    with pytest.raises(KitError, match=r"lacks part-00, part-02 of \d+ parts; copy them there too"):
        unpack(kit, tmp_path / "there")


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_part_is_named(kit: Path, tmp_path: Path, cut: bool) -> None:
    part = kit / "part-01"
    data = bytearray(part.read_bytes())
    data[1000] ^= 1
    part.write_bytes(part.read_bytes()[:-1] if cut else data)
    with pytest.raises(
        KitError, match=r"part-01 is damaged: expected 500000 bytes of SHA-256 \w+…, found .* copy it again"
    ):
        unpack(kit, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_another_python_is_refused(tmp_path: Path, files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    pack(tmp_path / "kit", files[1:], OTHER)
    assert main(["unpack", str(tmp_path / "kit"), "--to", str(tmp_path / "there")]) == 1
    error = capsys.readouterr().err
    assert (
        error
        == f"error: {tmp_path / 'kit'} is for Python {OTHER}, and this is {PYTHON}; pack it with --python {PYTHON}\n"
    )


def test_what_is_no_kit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"is no kit: expected index\.json there"):
        unpack(tmp_path, tmp_path / "there")


def test_a_wheel_that_cannot_be_installed_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no zip file")
    pack(tmp_path / "kit", [broken], PYTHON)
    with pytest.raises(KitError, match=r"the wheels can't be installed: .*broken"):
        unpack(tmp_path / "kit", tmp_path / "there")


def test_pack_fetches_what_the_requirements_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path, "made_up_gpu", "1.0", "made_up_gpu")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu_kit, "source", lambda _, file: file.write_bytes(b"a project") and file)
    wanted = tmp_path / "wheels.txt"
    wanted.write_text("made-up-gpu==1.0\n")
    assert main(["pack", str(tmp_path / "kit"), "--wheels", str(wanted), "--part", "10000"]) == 0
    assert "2 files in " in capsys.readouterr().out
    wanted.write_text("absent==1.0\n")
    assert main(["pack", str(tmp_path / "kit"), "--wheels", str(wanted)]) == 1
    assert "error: the wheels can't be fetched: " in capsys.readouterr().err
