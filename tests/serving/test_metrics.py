"""Metrics take numbers and names: they know no room of the service."""

from __future__ import annotations

import ast

from tests.serving.conftest import ROOT


def test_metrics_know_no_room() -> None:
    """Imports that are there for types alone included."""
    tree = ast.parse((ROOT / "serving" / "metrics.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    ours = {name for name in imported if name.partition(".")[0] in ("serving", "runtime")}
    assert ours == {"serving.internals"}
