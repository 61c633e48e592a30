"""The model card and the files beside it."""

from __future__ import annotations

import json
from dataclasses import replace

from export.report.card import card, documents
from export.report.guarantee import gate_text
from tests.export.figures import EVALUATION, HEADER, MANIFEST, ROWS, markdown_tables


def test_card() -> None:
    text = card(MANIFEST, EVALUATION)
    assert text.startswith("# mine\n")
    assert gate_text(MANIFEST) in text
    assert ".png" not in text
    facts, figures = markdown_tables(text)
    assert ["architecture", "resnet20, 272,474 parameters, 64 penultimate features"] in facts
    assert ["labels", "cat, dog, ship"] in facts
    assert ["training method", "logitnorm"] in facts
    assert ["precision", "fp32"] in facts
    assert "## Precision" not in text
    assert figures == [HEADER, *ROWS]
    provenance = text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(provenance) == MANIFEST.provenance


def test_card_says_what_the_network_learned_from() -> None:
    (facts,) = markdown_tables(card(MANIFEST, None))
    assert not [row for row in facts if row[0] in ("trained on", "auxiliary outliers", "fine-tuned from")]
    sources = {"data": "train.tar", "aux": ["a.tar", "b.tar"], "init": {"method": "logitnorm", "epochs": 24.0}}
    (facts,) = markdown_tables(card(replace(MANIFEST, provenance={"training": {"sources": sources}}), None))
    assert ["trained on", "train.tar"] in facts
    assert ["auxiliary outliers", "a.tar, b.tar"] in facts
    assert ["fine-tuned from", "logitnorm, 24 epochs"] in facts


def test_card_says_what_the_export_found() -> None:
    assert "## Found by the export" not in card(MANIFEST, None)
    accuracy = {
        "measure": "accuracy",
        "value": 0.915,
        "interval": [0.88, 0.94],
        "images": 200,
        "classes": 3,
        "chance": 1 / 3,
    }
    checks = {"undone": ["softmax"], "accuracy": accuracy, "warnings": ["something is off"]}
    text = card(replace(MANIFEST, provenance={"checks": checks}), None)
    assert text.split("## Found by the export\n\n")[1].split("\n\n")[0].splitlines() == [
        "- softmax taken off the model's outputs, to have logits",
        "- accuracy 91.5 % (88.0 to 94.0 % with 95 % confidence) on 200 labelled calibration images of 3 classes, of the "
        "fp32 file when it was exported",
        "- warning: something is off",
    ]


def test_card_says_beside_the_gate_what_is_unusual_in_its_calibration() -> None:
    text = card(replace(MANIFEST, provenance={"gate": {"warnings": ["all grey", "few values"]}}), None)
    gate = text.partition("## Gate\n\n")[2].partition("\n\n##")[0]
    assert gate == f"{gate_text(MANIFEST, markdown=True)}\n\n- warning: all grey\n- warning: few values"


def test_card_without_an_evaluation() -> None:
    text = card(MANIFEST, None)
    assert "## Evaluation" not in text
    assert "histogram" not in text
    assert gate_text(MANIFEST) in text


def test_card_of_many_labels_counts_them() -> None:
    (facts,) = markdown_tables(card(replace(MANIFEST, labels=tuple(map(str, range(1000)))), None))
    assert ["labels", "1000"] in facts


def test_card_shows_its_pictures() -> None:
    assert "![ROC curve of the gate's score against each OOD set](roc.png)" in card(MANIFEST, EVALUATION, ["roc.png"])


def test_documents() -> None:
    assert list(documents(MANIFEST)) == ["card.md"]
    files = documents(MANIFEST, EVALUATION, {"roc.png": b"png"})
    assert sorted(files) == ["card.md", "evaluation.json", "roc.png"]
    assert json.loads(files["evaluation.json"]) == json.loads(json.dumps(EVALUATION.to_dict()))
    assert files["card.md"].decode() == card(MANIFEST, EVALUATION, ["roc.png"])
