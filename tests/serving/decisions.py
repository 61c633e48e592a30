"""Whether two decisions are the same."""

from __future__ import annotations

from typing import Any

import pytest


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal, but for the last bits of numbers, which depend on an image's place in its batch."""
    close = {
        "confidence": pytest.approx(expected["confidence"], rel=1e-5),
        "score": {**expected["score"], "value": pytest.approx(expected["score"]["value"], rel=1e-5)},
        "scores": pytest.approx(expected["scores"], rel=1e-5),
    }
    assert found == {**expected, **close}
