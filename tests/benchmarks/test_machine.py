"""Figures of several machines on one page."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import machine, train_speed
from benchmarks.stages import __main__ as stages


def test_a_machine_s_figures_replace_its_own_alone(tmp_path: Path) -> None:
    file = tmp_path / "page.json"
    machine.beside(file, "one", {"value": 1})
    machine.beside(file, "two", {"value": 2})
    assert machine.beside(file, "one", {"value": 3}) == {"two": {"value": 2}, "one": {"value": 3}}
    assert json.loads(file.read_text()) == {"two": {"value": 2}, "one": {"value": 3}}


def test_pages_say_what_their_documents_hold() -> None:
    for module in (train_speed, stages):
        known = json.loads(module.REPORT.with_suffix(".json").read_text())
        assert module.REPORT.read_text() == module.report(known)
