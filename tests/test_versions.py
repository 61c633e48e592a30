"""The versions that are tried are those that pyproject.toml allows, and no check can be switched off by -O."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("oodgate", "runtime", "train", "export", "serving")


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    return [
        Requirement(text)
        for text in [*PROJECT["dependencies"], *(text for extra in extras for text in optional[extra])]
    ]


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_oldest_versions_are_the_lowest_that_are_allowed() -> None:
    lowest = {}
    for requirement in requirements("serving", "calibrate"):
        (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
        lowest[requirement.name] = tuple(map(int, bound.split(".")))
    oldest = {name: tuple(map(int, version.split("."))) for name, version in pinned("constraints-oldest.txt").items()}
    assert oldest.keys() == lowest.keys()
    for name, version in oldest.items():
        assert version[: len(lowest[name])] == lowest[name]
        assert not any(version[len(lowest[name]) :])


def test_what_ci_installs_is_allowed() -> None:
    versions = {name.lower().replace("_", "-"): version for name, version in pinned("constraints.txt").items()}
    for requirement in requirements("serving", "calibrate"):
        assert requirement.specifier.contains(versions[requirement.name]), requirement


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_checked_by_an_assert(package: str) -> None:
    """``python -O`` would leave it out."""
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert not found
