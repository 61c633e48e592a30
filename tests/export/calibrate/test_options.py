"""The gate's options: what goes with what, and defaults."""

from __future__ import annotations

import argparse

import pytest

from export.arguments import add_leakage_option
from export.calibrate.arguments import (
    add_gate_options,
    coverages,
    gate_options,
    max_error,
    print_dropped,
    temperature,
)
from export.calibrate.options import DEFAULT, GateOptions
from export.calibrate.recalibration import AS_BEFORE
from export.exceptions import ExportError
from runtime.manifest import Task
from tests.runtime.test_manifest import FULL, MINIMAL
from train.data import add_reading_options

SCORES = ("msp", "energy", "nan")


def parse(*argv: str, as_before: bool, more: bool = False) -> argparse.Namespace:
    """The gate's options; with `more` those too that commands have beside them."""
    parser = argparse.ArgumentParser()
    add_gate_options(parser, as_before=as_before)
    if more:
        add_leakage_option(parser)
        add_reading_options(parser)
    return parser.parse_args(argv)


def test_defaults() -> None:
    given = vars(parse(as_before=False))
    assert (given["score"], given["alpha"], given["merge"]) == ("default", 0.05, None)
    assert (given["temperature"], given["class_conditional"], given["aux"]) == (None, False, [])
    assert {value for name, value in vars(parse(as_before=True)).items() if name != "aux"} == {None}


@pytest.mark.parametrize(
    ("options", "merges", "chooses_score", "chooses_temperature"),
    [
        (GateOptions("msp"), False, False, False),
        (GateOptions("msp+nan"), True, False, False),
        (GateOptions("auto"), False, True, True),
        (GateOptions("auto", temperature=2.0), False, True, False),
        (GateOptions("energy", temperature="auto"), False, False, True),
        (GateOptions("energy+nan", temperature="auto"), True, False, True),
    ],
    ids=str,
)
def test_what_is_chosen(options: GateOptions, merges: bool, chooses_score: bool, chooses_temperature: bool) -> None:
    options.check(SCORES)
    assert options.merges == merges
    assert options.chooses_score == chooses_score
    assert options.chooses_temperature == chooses_temperature
    assert options.chooses == (chooses_score or chooses_temperature)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GateOptions("softmax"), "unknown score 'softmax'; there are msp, energy, nan, and auto"),
        (GateOptions("msp+softmax"), "unknown score 'softmax'"),
        (GateOptions("msp+"), "unknown score ''"),
        (GateOptions(""), "unknown score ''"),
        (GateOptions("msp+auto"), "unknown score 'auto'"),
        (GateOptions("msp+msp"), "merges a score with itself"),
        (GateOptions("msp", select="nan"), "--select goes with --max-error"),
        (GateOptions("msp", select="softmax", max_error=0.1), "--select softmax: unknown score; there are msp, energy"),
        (GateOptions("msp", confidence=0.9), "--confidence goes with --guarantee pac or --max-error"),
        (GateOptions("msp", merge="min"), "--merge goes with --score A+B"),
        (GateOptions("auto", merge="harmonic"), "--merge goes with --score A+B"),
        (GateOptions("msp", confidence=0.0), "--confidence must be between 0 and 1, found 0"),
        (GateOptions("msp", aux=("a.tar",)), "--aux goes with --score auto or --temperature auto"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(options: GateOptions, message: str) -> None:
    with pytest.raises(ExportError, match=message.replace("+", r"\+")):
        options.check(SCORES)


def test_a_temperature_needs_an_energy() -> None:
    with pytest.raises(ExportError, match="energy score, which this graph does not have"):
        GateOptions("auto").check(("msp",))


@pytest.mark.parametrize(
    ("given", "task", "expected"),
    [
        (GateOptions("default"), "multiclass", "energy"),
        (GateOptions("default"), "multilabel", "joint_energy"),
        (GateOptions("default"), "unlabelled", "nan"),
        (GateOptions("default", fit="good.tar"), "unlabelled", "auto"),
        (GateOptions("ssd"), "unlabelled", "ssd"),
        (GateOptions("msp"), "multilabel", "msp"),
    ],
)
def test_the_default_score_is_the_task_s(given: GateOptions, task: Task, expected: str) -> None:
    assert given.for_task(task).score == expected


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0.1", 0.1), ("1e3", 1000.0)])
def test_temperatures(text: str, value: object) -> None:
    assert temperature(text) == value


def test_promises_of_labels_are_shares_or_none() -> None:
    assert [max_error(text) for text in ("0.02", "none")] == [0.02, "none"]
    assert [coverages(text) for text in ("0.95,0.9,0.9", "none")] == [(0.9, 0.95), ()]
    assert gate_options(parse("--max-error", "0.1", "--prediction-sets", "0.9", as_before=False, more=True)) == (
        GateOptions("default", max_error=0.1, prediction_sets=(0.9,))
    )
    assert not GateOptions("energy").promises_labels
    assert GateOptions("energy", max_error=0.1).promises_labels
    assert GateOptions("energy", prediction_sets=(0.9,)).promises_labels


@pytest.mark.parametrize("text", ["0", "1", "-0.1", "nan", "few", "", "0.9,"])
def test_no_promises(text: str) -> None:
    with pytest.raises(ExportError, match="--prediction-sets must be between 0 and 1, or none, found"):
        coverages(text)
    if "," not in text:
        with pytest.raises(ExportError, match="--max-error must be between 0 and 1, or none, found"):
            max_error(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "warm", ""])
def test_no_temperatures(text: str) -> None:
    with pytest.raises(ExportError, match="--temperature must be positive or auto, found"):
        temperature(text)


def test_what_a_changed_gate_does_not_take_goes() -> None:
    before = GateOptions("msp+nan", merge="fisher", guarantee="pac", confidence=0.9)
    assert before.changed({"alpha": 0.1}) == GateOptions(
        "msp+nan", 0.1, merge="fisher", guarantee="pac", confidence=0.9
    )
    assert before.changed({"guarantee": "marginal"}) == GateOptions("msp+nan", merge="fisher")
    assert before.changed({"score": "msp"}) == GateOptions("msp", guarantee="pac", confidence=0.9)
    bounded = GateOptions("msp+nan", max_error=0.35, select="msp+nan")
    assert bounded.changed({"max_error": "none"}) == GateOptions("msp+nan")
    assert bounded.changed({"score": "msp"}) == GateOptions("msp", max_error=0.35)
    assert bounded.changed({"alpha": 0.1}) == GateOptions("msp+nan", 0.1, max_error=0.35, select="msp+nan")
    single = GateOptions("msp", max_error=0.35, select="msp", confidence=0.9)
    assert single.changed({"score": "nan"}) == GateOptions("nan", max_error=0.35, select="msp", confidence=0.9)
    assert single.changed({"max_error": "none"}) == GateOptions("msp")
    with pytest.raises(ExportError, match="--select goes with"):
        single.changed({"max_error": "none", "select": "msp"}).check(SCORES)
    with pytest.raises(ExportError, match="--merge goes with"):
        before.changed({"score": "msp", "merge": "fisher"}).check(SCORES)


def test_a_gate_that_is_dropped_is_said_as_one_asks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_dropped(MINIMAL)
    print_dropped(FULL)
    given, rest = capsys.readouterr().out.removeprefix("the gate before: ").split("; ")
    assert given == (
        "--score energy --alpha 0.1 --class-conditional --guarantee pac --confidence 0.9 --max-error 0.02 --select msp "
        "--prediction-sets 0.9,0.95"
    )
    assert rest == "name it again, or --calibration keeps it\n"
    parsed = vars(parse(*given.split(), as_before=True))
    named = {name: parsed[name] for name in AS_BEFORE if parsed[name] is not None}
    assert GateOptions(DEFAULT).changed(named) == GateOptions.of(FULL)
