"""The decision as a JSON object."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from runtime.decision import Decision, GateScore, ModelRef, SelectionScore
from runtime.exceptions import UnknownOperatingPoint

ACCEPTED = Decision(
    decision="accept",
    label="cat",
    class_index=3,
    confidence=0.97,
    score=GateScore("energy", 9.1, 4.2, 0.83),
    scores={"msp": 0.97, "energy": 9.1},
    model=ModelRef("name", "ab" * 32),
)
REJECTED = dataclasses.replace(ACCEPTED, decision="reject", label=None)


def test_an_accepted_image_is_the_object_of_the_design() -> None:
    assert ACCEPTED.to_dict() == {
        "decision": "accept",
        "reason": None,
        "is_ood": False,
        "label": "cat",
        "class_index": 3,
        "confidence": 0.97,
        "score": {"name": "energy", "value": 9.1, "threshold": 4.2, "p_value": 0.83},
        "scores": {"msp": 0.97, "energy": 9.1},
        "model": {"name": "name", "sha256": "ab" * 32},
    }


def test_fields_come_in_the_order_of_the_design() -> None:
    multilabel = dataclasses.replace(ACCEPTED, labels=("cat",))
    assert list(multilabel.to_dict()) == [
        "decision",
        "reason",
        "is_ood",
        "label",
        "class_index",
        "confidence",
        "score",
        "scores",
        "labels",
        "model",
    ]


def test_a_rejected_image_has_no_label_and_keeps_what_the_classifier_said() -> None:
    document = REJECTED.to_dict()
    assert (document["decision"], document["is_ood"], document["label"]) == ("reject", True, None)
    assert (document["class_index"], document["confidence"]) == (3, 0.97)


@pytest.mark.parametrize(("decision", "is_ood"), [(ACCEPTED, False), (REJECTED, True)])
def test_is_ood_is_the_rejection(decision: Decision, is_ood: bool) -> None:
    assert decision.is_ood is is_ood


def test_what_is_known_and_uncertain_is_rejected_and_not_ood() -> None:
    uncertain = dataclasses.replace(REJECTED, selection=SelectionScore("confidence", 0.5, 0.75), uncertain=True)
    document = uncertain.to_dict()
    assert (document["decision"], document["reason"], document["is_ood"]) == ("reject", "uncertain", False)
    assert document["selection"] == {"name": "confidence", "value": 0.5, "threshold": 0.75}
    assert (REJECTED.reason, ACCEPTED.reason) == ("ood", None)
    assert "selection" not in REJECTED.to_dict()


def test_a_label_set_has_what_is_probable_enough_and_the_likeliest_anyway() -> None:
    decision = dataclasses.replace(
        ACCEPTED,
        probabilities=np.array([0.2, 0.1, 0.4, 0.3]),
        set_thresholds={0.5: 0.41, 0.8: 0.3, 0.95: 0.15, 0.99: 0.0},
    )
    assert decision.label_set(0.5) == [(2, 0.4)]
    assert decision.label_set(0.8) == [(2, 0.4), (3, 0.3)]
    assert decision.label_set(0.95) == [(2, 0.4), (3, 0.3), (0, 0.2)]
    assert [k for k, _ in decision.label_set(0.99)] == [2, 3, 0, 1]
    assert dataclasses.replace(decision, decision="reject").label_set(0.8) == []
    with pytest.raises(
        UnknownOperatingPoint, match=r"no label sets of coverage 0.9; stored: 0.5, 0.8, 0.95, 0.99\. Calibrate"
    ):
        decision.label_set(0.9)
    with pytest.raises(UnknownOperatingPoint, match="stored: none"):
        ACCEPTED.label_set(0.9)


@pytest.mark.parametrize("labels", [(), ("cat",), ("cat", "dog")])
def test_labels_of_a_multilabel_model_are_a_list(labels: tuple[str, ...]) -> None:
    assert dataclasses.replace(ACCEPTED, labels=labels).to_dict()["labels"] == list(labels)


def test_other_models_have_no_labels() -> None:
    assert "labels" not in ACCEPTED.to_dict()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_null(number: float) -> None:
    decision = dataclasses.replace(
        REJECTED, confidence=number, score=GateScore("energy", number, 4.2, 0.01), scores={"msp": number, "energy": 1.0}
    )
    document = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert document["confidence"] is None
    assert document["score"]["value"] is None
    assert document["scores"] == {"msp": None, "energy": 1.0}


def test_a_decision_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ACCEPTED.decision = "reject"  # type: ignore[misc]
