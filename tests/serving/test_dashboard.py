"""The Grafana dashboard and the alarms ask for series that the service has, and each alarm is explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import yaml
from prometheus_client import REGISTRY

from serving.metrics import metrics
from serving.outcomes.bound import upper
from tests.serving.conftest import ROOT


def test_every_series_of_the_dashboard_exists() -> None:
    metrics()
    known = {"oodgate_score"}  # registered nowhere, so that each gate may have its own buckets
    known |= {family.name for family in REGISTRY.collect()}
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
    asked = set()
    for panel in dashboard["panels"]:
        assert panel["targets"]
        for target in panel["targets"]:
            asked |= set(re.findall(r"\boodgate_\w+", target["expr"]))
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} == {
        name for name in known if name.startswith("oodgate_")
    }


def test_every_alarm_asks_for_series_that_exist_and_is_explained() -> None:
    metrics()
    known = {family.name for family in REGISTRY.collect()}
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    (group,) = yaml.safe_load(rules)["groups"]
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in re.findall(r"\boodgate_\w+", rules)} <= known
    manual = (ROOT / "docs" / "operations.md").read_text()
    assert re.findall(r"^\| `(Oodgate\w+)`", manual, re.MULTILINE) == [rule["alert"] for rule in group["rules"]]


def test_alarms_hear_of_the_first_event_of_a_process() -> None:
    """All series that they ask for by a label's value are there from the beginning: one that is born at 1 did not rise."""
    code = "from serving.metrics import exposition, metrics; metrics(); print(exposition().decode())"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    asked = {
        f'{name}{{{label}="{value}"}}'
        for name, label, values in re.findall(r'(oodgate_\w+_total)\{(code|reason|outcome)!?=~?"([\w|]+)"\}', rules)
        for value in values.split("|")
    }
    others = {f'oodgate_rejects_total{{outcome="{value}"}}' for value in ("dropped", "failed")}
    assert len(asked) == 11
    assert asked | others <= {line.removesuffix(" 0.0") for line in shown.splitlines() if line.endswith(" 0.0")}


def test_an_alarm_looks_at_the_bound_on_the_error_of_accepted_answers() -> None:
    """Once labels of one pod are many enough for the bound to say something: with none it is 1."""
    (group,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]
    (rule,) = (rule for rule in group["rules"] if "oodgate_outcomes_error_upper" in rule["expr"])
    assert re.fullmatch(
        r"max\(oodgate_outcomes_error_upper > ([0-9.]+) and oodgate_outcomes_answers >= (\d+)\)", rule["expr"]
    )
    threshold, answers = (float(number) for number in re.findall(r">=? ([0-9.]+)", rule["expr"]))
    assert upper(0, 0) > threshold  # why the number of answers is asked for
    assert (
        upper(round(answers * threshold / 2), round(answers))
        < threshold
        < upper(round(answers * threshold), round(answers))
    )
