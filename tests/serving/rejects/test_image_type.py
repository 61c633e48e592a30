from __future__ import annotations

import pytest

from runtime.preprocess import FORMATS, SUFFIXES
from serving.rejects.image_type import media_type_of, suffix_of
from tests.small import calibration_images, encode


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_that_the_runtime_takes(format_: str) -> None:
    data = encode(calibration_images(1)[0], format_)
    assert suffix_of(data) in SUFFIXES
    assert media_type_of(data) == f"image/{format_.lower()}"


@pytest.mark.parametrize("data", [b"", b"RIFF\0\0\0\0WAVE", b"<svg/>", b"<html>", b"MZ", b"\xff\xd8"])
def test_anything_else(data: bytes) -> None:
    assert (suffix_of(data), media_type_of(data)) == (".bin", "application/octet-stream")
