"""The Grafana dashboard asks for series that the service has."""

from __future__ import annotations

import json
import re

from prometheus_client import REGISTRY

from serving.metrics import metrics
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
