"""What benchmarks.gpu needs on a GPU machine that has torch, onnx and CUDA but neither a network nor a runtime for its GPU.

    python -m benchmarks.gpu_kit pack KIT                 # here, with a network
    python3 gpu_kit.py unpack KIT --to DIR                # there: the file lies in KIT, and needs Python's own library alone

`pack` fetches the wheels for the other machine's Python, adds this project's tracked files, and writes all of it as parts of
at most 60 MB, which pass where a larger file does not, with an index of sizes and SHA-256. `unpack` verifies and joins the
parts, and makes an environment that sees the packages of the Python that runs it, with the kit's in front.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

WHEELS = Path(__file__).resolve().parent / "gpu" / "wheels.txt"
PART = 60_000_000
INDEX, SOURCE = "index.json", "source.tar"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")


class KitError(Exception):
    """A kit can't be packed or unpacked."""


def pack(kit: Path, files: Sequence[Path], python: str, size: int = PART) -> dict[str, Any]:
    """Write files as parts with an index, and this module beside them.

    Args:
        kit: folder to make.
        files: wheels, and :data:`SOURCE`.
        python: the version that the wheels are for, such as ``3.12``.
        size: most bytes of a part.

    Returns:
        the index.
    """
    kit.mkdir(parents=True, exist_ok=True)
    for old in kit.glob("part-*"):
        old.unlink()
    parts = [_written(kit / f"part-{number:02}", data) for number, data in enumerate(_pieces(files, size))]
    index = {"python": python, "files": [_entry(file.name, file.read_bytes()) for file in files], "parts": parts}
    (kit / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    shutil.copyfile(__file__, kit / Path(__file__).name)
    return index


def unpack(kit: Path, to: Path) -> Path:
    """Verify and join the parts, and make an environment of them: `to`/env, and the project in `to`/source.

    Returns:
        the environment's Python.

    Raises:
        KitError: no index, a part that is missing or damaged, another Python than the kit is for, or a wheel that can't be
            installed.
    """
    index = _index(kit)
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found != index["python"]:
        raise KitError(f"{kit} is for Python {index['python']}, and this is {found}; pack it with --python {found}")
    verify(kit, index)
    to = to.resolve()
    joined = to / "wheels"
    joined.mkdir(parents=True, exist_ok=True)
    _join(kit, index, joined)
    python = _environment(to / "env")
    _install(python, sorted(joined.glob("*.whl")))
    if (joined / SOURCE).exists():
        with tarfile.open(joined / SOURCE) as archive:
            archive.extractall(to / "source", filter="data")
    return python


def verify(kit: Path, index: dict[str, Any]) -> None:
    """Check every part's size and hash.

    Raises:
        KitError: naming all parts that are missing, or the first that is damaged.
    """
    if missing := [part["name"] for part in index["parts"] if not (kit / part["name"]).exists()]:
        raise KitError(f"{kit} lacks {', '.join(missing)} of {len(index['parts'])} parts; copy them there too")
    for part in index["parts"]:
        data = (kit / part["name"]).read_bytes()
        if _entry(part["name"], data) != part:
            raise KitError(
                f"{kit / part['name']} is damaged: expected {part['size']} bytes of SHA-256 {part['sha256'][:12]}…, found "
                f"{len(data)} of {hashlib.sha256(data).hexdigest()[:12]}…; copy it again"
            )


def fetch(wheels: Path, python: str, into: Path) -> list[Path]:
    """Download the wheels of a requirements file for another Python, none of what they need: that is there, or in the file.

    Raises:
        KitError: pip finds or gets one not.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(into)]
    command += [option for platform in _PLATFORMS for option in ("--platform", platform)]
    _run([*command, "--requirement", str(wheels)], "the wheels can't be fetched")
    return sorted(into.glob("*.whl"))


def source(root: Path, file: Path) -> Path:
    """The project's tracked files, as they are committed, as a tar file."""
    _run(["git", "-C", str(root), "archive", "--output", str(file), "HEAD"], "the project can't be packed")
    return file


def _pieces(files: Iterable[Path], size: int) -> Iterator[bytes]:
    """The bytes of all files one after the other, `size` at a time."""
    held = b""
    for file in files:
        held += file.read_bytes()
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _written(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    return _entry(path.name, data)


def _entry(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _index(kit: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((kit / INDEX).read_text())
    except (OSError, ValueError) as error:
        raise KitError(
            f"{kit} is no kit: expected {INDEX} there ({error}); copy the whole folder that pack made"
        ) from None
    return index


def _join(kit: Path, index: dict[str, Any], into: Path) -> None:
    stream = b"".join((kit / part["name"]).read_bytes() for part in index["parts"])
    start = 0
    for file in index["files"]:
        data = stream[start : (start := start + file["size"])]
        if _entry(file["name"], data) != file:
            raise KitError(f"{file['name']} is not what was packed, though all parts are; pack the kit again")
        (into / file["name"]).write_bytes(data)


def _environment(path: Path) -> Path:
    """A virtual environment in which this Python's packages are seen, behind its own; its Python."""
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(path)
    own = path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    seen = [folder for folder in dict.fromkeys([*site.getsitepackages(), *sys.path]) if Path(folder).is_dir()]
    packages = [folder for folder in seen if Path(folder).name in ("site-packages", "dist-packages")]
    (own / "seen.pth").write_text("\n".join(packages) + "\n")
    for folder in packages:  # where ONNX Runtime looks for CUDA and cuDNN: beside itself
        if (Path(folder) / "nvidia").is_dir() and not (own / "nvidia").exists():
            (own / "nvidia").symlink_to(Path(folder) / "nvidia")
    return path / "bin" / "python"


def _install(python: Path, wheels: Sequence[Path]) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-compile", "--ignore-installed", *map(str, wheels)]
    _run(command, "the wheels can't be installed")


def _run(command: Sequence[str], problem: str) -> None:
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gives no reason"]
        raise KitError(f"{problem}: {lines[-1].strip()}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu_kit", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="fetch what is missing there, and split it")
    packing.add_argument("kit", type=Path)
    packing.add_argument("--python", default="3.12", help="version there (default: %(default)s)")
    packing.add_argument(
        "--wheels", type=Path, default=WHEELS, metavar="FILE", help="requirements (default: benchmarks/gpu/wheels.txt)"
    )
    packing.add_argument("--part", type=int, default=PART, help="most bytes of a part (default: %(default)s)")
    unpacking = commands.add_parser("unpack", help="verify, join and install")
    unpacking.add_argument("kit", type=Path)
    unpacking.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="where the environment and the project go"
    )
    args = parser.parse_args(argv)
    try:
        if args.command == "pack":
            with tempfile.TemporaryDirectory() as folder:
                root = Path(__file__).resolve().parent.parent
                files = [source(root, Path(folder) / SOURCE), *fetch(args.wheels, args.python, Path(folder))]
                index = pack(args.kit, files, args.python, args.part)
            sizes = ", ".join(f"{part['size'] / 1e6:.0f}" for part in index["parts"])
            print(f"{args.kit}: {len(index['files'])} files in {len(index['parts'])} parts of {sizes} MB")
        else:
            python = unpack(args.kit, args.to)
            print(f"cd {python.parents[2] / 'source'} && {python} -m benchmarks.gpu")
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
