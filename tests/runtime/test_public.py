"""The public surface, frozen: a change here is a change for users."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest

import runtime
from runtime import exceptions

PUBLIC = [
    "Bundle",
    "BundleError",
    "BundleNotFound",
    "CalibrationError",
    "Decision",
    "EmptyImage",
    "EngineError",
    "FileDamaged",
    "Gate",
    "GateScore",
    "GraphMismatch",
    "ImageError",
    "ImageTooLarge",
    "Limits",
    "Manifest",
    "ManifestInvalid",
    "ModelRef",
    "NotAnImage",
    "NotCalibrated",
    "OodgateError",
    "SelectionScore",
    "UndecodableImage",
    "UnknownOperatingPoint",
    "UnsupportedImage",
]

TREE = {
    "OodgateError": "Exception",
    "ImageError": "OodgateError",
    "EmptyImage": "ImageError",
    "NotAnImage": "ImageError",
    "UnsupportedImage": "ImageError",
    "UndecodableImage": "ImageError",
    "ImageTooLarge": "ImageError",
    "BundleError": "OodgateError",
    "BundleNotFound": "BundleError",
    "ManifestInvalid": "BundleError",
    "FileDamaged": "BundleError",
    "GraphMismatch": "BundleError",
    "NotCalibrated": "BundleError",
    "CalibrationError": "OodgateError",
    "UnknownOperatingPoint": "OodgateError",
    "EngineError": "OodgateError",
}

CODES = {
    "EmptyImage": "empty_image",
    "NotAnImage": "not_an_image",
    "UnsupportedImage": "unsupported_image",
    "UndecodableImage": "undecodable_image",
    "ImageTooLarge": "image_too_large",
}


def _errors() -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and value.__module__ == exceptions.__name__
    }


def test_public_names_are_frozen() -> None:
    assert runtime.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_a_documented_class(name: str) -> None:
    public = getattr(runtime, name)
    assert inspect.isclass(public)
    assert public.__doc__


def test_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]|rc)?\d*", runtime.__version__)


def test_errors_form_the_tree() -> None:
    assert {name: error.__base__.__name__ for name, error in _errors().items()} == TREE


def test_every_error_is_public() -> None:
    assert set(_errors()) <= set(PUBLIC)


def test_the_docstring_draws_the_tree() -> None:
    assert re.findall(r"^[│├└─ ]*([A-Z]\w+)", exceptions.__doc__ or "", re.MULTILINE)[1:] == list(TREE)


def test_codes_of_image_errors_are_frozen() -> None:
    codes = {name: error.code for name, error in _errors().items() if exceptions.ImageError in error.__bases__}
    assert codes == CODES


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "Decision",
            [
                *("decision", "label", "class_index", "confidence", "score", "scores", "model", "labels"),
                *("probabilities", "selection", "uncertain", "set_thresholds"),
            ],
        ),
        ("GateScore", ["name", "value", "threshold", "p_value"]),
        ("SelectionScore", ["name", "value", "threshold"]),
        ("ModelRef", ["name", "sha256"]),
        ("Limits", ["max_bytes", "max_pixels"]),
        ("Bundle", ["path", "manifest", "model"]),
    ],
)
def test_fields_are_frozen(name: str, fields: list[str]) -> None:
    assert [field.name for field in dataclasses.fields(getattr(runtime, name))] == fields


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("load", ["path", "engine", "threads", "cache", "limits", "alpha"]),
        ("decide", ["self", "images", "alpha"]),
        ("preprocess", ["self", "data"]),
        ("warm_up", ["self"]),
    ],
)
def test_parameters_of_the_gate_are_frozen(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(runtime.Gate, method)).parameters) == parameters
