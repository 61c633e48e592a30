"""The facade: the runtime's public surface under the product's name, frozen there."""

from __future__ import annotations

from pathlib import Path

import pytest

import oodgate
import runtime


def test_the_surface_is_the_runtimes() -> None:
    assert oodgate.__all__ == runtime.__all__


@pytest.mark.parametrize("name", runtime.__all__)
def test_a_name_is_the_runtimes_own(name: str) -> None:
    assert getattr(oodgate, name) is getattr(runtime, name)


def test_version() -> None:
    assert oodgate.__version__ == runtime.__version__


def test_the_citation_is_of_this_version() -> None:
    citation = Path(__file__).resolve().parents[2] / "CITATION.cff"
    assert f"\nversion: {runtime.__version__}\n" in citation.read_text(encoding="utf-8")


def test_names_are_listed_before_they_are_loaded() -> None:
    assert {*runtime.__all__, "__version__"} <= set(dir(oodgate))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'oodgate' has no attribute 'gate'"):
        oodgate.gate  # type: ignore[attr-defined]  # noqa: B018
