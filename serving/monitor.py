"""Decisions logged by ``bentoml.monitor``, for use offline; never an image."""

from __future__ import annotations

import bentoml

from serving.deciding.served import Decided


def log_decision(decided: Decided) -> None:
    """One record: the verdict, the predicted class, every score and the request's id."""
    decision = decided.decision
    with bentoml.monitor("oodgate") as monitor:
        monitor.log(decided.request_id, "request", "feature", "categorical")
        monitor.log(decision.model.sha256, "model", "feature", "categorical")
        monitor.log(decision.decision, "decision", "prediction", "categorical")
        monitor.log(decision.class_index, "class_index", "prediction", "categorical")
        monitor.log(decision.confidence, "confidence", "prediction", "numerical")
        monitor.log(decision.score.p_value, "p_value", "prediction", "numerical")
        for name, value in decision.scores.items():
            monitor.log(value, f"score_{name}", "prediction", "numerical")
