from __future__ import annotations

import io
import pickle

import numpy as np
import numpy.typing as npt
import pytest

from serving.http.requests.body import parse_npy
from tests.small import calibration_images

SHAPE = (16, 16, 3)


def saved(array: npt.NDArray[np.generic], **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


GOOD = saved(calibration_images(3))


def test_an_array_as_numpy_writes_it() -> None:
    np.testing.assert_array_equal(parse_npy(GOOD, SHAPE, 3), calibration_images(3))


def test_the_second_version_of_the_format() -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, calibration_images(3), version=(2, 0))
    np.testing.assert_array_equal(parse_npy(buffer.getvalue(), SHAPE, 3), calibration_images(3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header can't be read"),
        (b"\x93NUMPY", "header can't be read"),
        (GOOD[:60], "header can't be read"),
        (GOOD[:-1], "found 2,303"),
        (GOOD + b"x", "found 2,305"),
        (saved(np.zeros((1, 16, 16, 3))), "found float64"),
        (saved(np.zeros((4, 16, 16, 3), np.uint8)), r"found uint8 \[4, 16, 16, 3\]"),
        (saved(np.zeros((0, 16, 16, 3), np.uint8)), r"found uint8 \[0, 16, 16, 3\]"),
        (saved(np.zeros((16, 16, 3), np.uint8)), r"found uint8 \[16, 16, 3\]"),
        (saved(np.zeros((1, 8, 16, 3), np.uint8)), r"\[1, 8, 16, 3\]"),
        (saved(np.asfortranarray(calibration_images(2))), "Fortran"),
        (saved(np.array([{}], dtype=object), allow_pickle=True), "found object"),
        (pickle.dumps(calibration_images(1)), "header can't be read"),
        (GOOD.replace(b"(3, 16", b"(-3,16"), r"found uint8 \[-3"),
        (GOOD.replace(b"(3, 16", b"(3**9,"), "header can't be read"),
        (GOOD.replace(b"'|u1'", b"'O'  "), "found object"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 200_000, "header can't be read"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "header can't be read"),
    ],
)
def test_anything_else_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_npy(data, SHAPE, 3)
