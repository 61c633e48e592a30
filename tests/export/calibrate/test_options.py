"""The gate's options: what goes with what, and defaults."""

from __future__ import annotations

import argparse

import pytest

from export.calibrate.options import GateOptions, add_gate_options, temperature
from export.exceptions import ExportError

SCORES = ("msp", "energy", "nan")


def parse(*argv: str, as_before: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_gate_options(parser, as_before=as_before)
    return parser.parse_args(argv)


def test_defaults() -> None:
    given = vars(parse(as_before=False))
    assert (given["score"], given["alpha"], given["merge"]) == ("energy", 0.05, "min")
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


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0.1", 0.1), ("1e3", 1000.0)])
def test_temperatures(text: str, value: object) -> None:
    assert temperature(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "warm", ""])
def test_no_temperatures(text: str) -> None:
    with pytest.raises(ExportError, match="--temperature must be positive or auto, found"):
        temperature(text)
