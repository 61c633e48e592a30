"""Imports run one way: serving -> runtime, export -> train -> runtime; what must stay light does, and torch in its place."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.bundle import Bundle

ROOT = Path(__file__).resolve().parents[1]
ALLOWED: dict[str, set[str]] = {
    "runtime": set(),
    "train": {"runtime"},
    "export": {"runtime", "train"},
    "serving": {"runtime"},
    "oodgate": {"runtime", "export", "serving"},  # when they are asked for
}
EDGE_DEPENDENCIES = {"numpy", "PIL", "onnxruntime"}
HEAVY = {"torch", "onnx", "bentoml", "sklearn", "scipy"}
MODULES = [str(file.relative_to(ROOT)) for name in ALLOWED for file in sorted((ROOT / name).rglob("*.py"))]
RUNTIME = [module for module in MODULES if module.startswith("runtime/")]


def imported(source: str, package: str) -> set[str]:
    """Top-level names of all that a module of `package` imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else (node.module or "").partition(".")[0])
    return names


def imports_of(module: str) -> set[str]:
    return imported((ROOT / module).read_text(encoding="utf-8"), Path(module).parts[0])


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import a", {"a"}),
        ("import a.b as c, d", {"a", "d"}),
        ("from a.b import c", {"a"}),
        ("from . import c", {"here"}),
        ("from .b import c", {"here"}),
        ("def f():\n    if True:\n        from a import b", {"a"}),
        ("x = 'import a'", set()),
    ],
)
def test_every_form_of_import_is_found(statement: str, found: set[str]) -> None:
    assert imported(statement, "here") == found


def test_every_package_is_looked_at() -> None:
    assert {f"{package}/__init__.py" for package in ALLOWED} <= {*MODULES}


def test_imports_run_one_way() -> None:
    upwards = {
        module: others
        for module in MODULES
        if (others := imports_of(module) & ALLOWED.keys() - {(own := Path(module).parts[0])} - ALLOWED[own])
    }
    assert upwards == {}


def test_the_runtime_needs_its_three_dependencies_alone() -> None:
    known = {"runtime", *EDGE_DEPENDENCIES, *sys.stdlib_module_names}
    assert {module: others for module in RUNTIME if (others := imports_of(module) - known)} == {}


def test_only_an_engine_imports_its_backend() -> None:
    others = [module for module in RUNTIME if not module.startswith("runtime/engines/")]
    assert [module for module in others if "onnxruntime" in imports_of(module)] == []


def test_only_export_from_torch_imports_torch() -> None:
    others = [module for module in MODULES if module.startswith(("export/", "train/data/"))]
    those = [module for module in others if "torch" in imports_of(module)]
    assert those
    assert all(module.startswith("export/from_torch/") for module in those)


def loaded_by(statement: str, **environment: str) -> set[str]:
    """Top-level modules in `sys.modules` of a new process after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    loaded = loaded_by("import runtime")
    assert "runtime" in loaded
    assert not loaded & HEAVY


def test_importing_the_facade_loads_none_of_what_it_hands_over_to() -> None:
    loaded = loaded_by("import oodgate")
    assert "oodgate" in loaded
    assert not loaded & {*HEAVY, *EDGE_DEPENDENCIES, *(ALLOWED.keys() - {"oodgate"})}


def test_the_facade_imports_the_standard_library_alone_at_its_top() -> None:
    for module in (module for module in MODULES if module.startswith("oodgate/")):
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        at_top = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
        assert imported(at_top, "oodgate") <= {"oodgate", *sys.stdlib_module_names}


def test_importing_the_service_loads_nothing_of_training(shared_bundle: Bundle) -> None:
    pytest.importorskip("bentoml")
    loaded = loaded_by("import serving.service", OODGATE_BUNDLE=str(shared_bundle.path))
    assert "serving" in loaded
    assert not loaded & (HEAVY - {"bentoml"})
