"""Arrays in numpy's .npy format, read without ever trusting the sender: no pickle, no other type, no surprise in size."""

from __future__ import annotations

import io
from typing import cast

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

MAX_HEADER = 4096  # numpy itself writes 128 bytes for such an array


def parse(data: bytes, shape: tuple[int, int, int], max_images: int) -> npt.NDArray[np.uint8]:
    """The images of an .npy file, a read-only view of `data`.

    Args:
        data: the file's bytes.
        shape: (height, width, 3) that every image must have.
        max_images: bound on their number.

    Returns:
        uint8 [N, height, width, 3], 1 <= N <= max_images.

    Raises:
        ValueError: anything else.
    """
    expected = (
        f"expected a C-ordered uint8 array [1..{max_images}, {', '.join(map(str, shape))}] as numpy.save writes it"
    )
    file = io.BytesIO(data[:MAX_HEADER])
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        found, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except Exception as error:  # the header is a Python literal, whose parser may raise anything
        raise ValueError(f"{expected}; the .npy header can't be read ({type(error).__name__})") from error
    wanted = len(found) == 4 and found[1:] == shape and 1 <= found[0] <= max_images
    if not wanted or dtype != np.uint8 or fortran:
        raise ValueError(f"{expected}; found {dtype} {list(found)}{' in Fortran order' if fortran else ''}")
    pixels = np.frombuffer(data, np.uint8, offset=file.tell())
    if pixels.size != np.prod(found):
        raise ValueError(f"{expected}; {list(found)} has {int(np.prod(found)):,} bytes, found {pixels.size:,}")
    return cast("npt.NDArray[np.uint8]", pixels.reshape(found))
