"""A client of the service in Python: BentoML's, which then also takes images that are no files, and options."""

from __future__ import annotations

import io
import os
from typing import Any

import bentoml
import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.preprocess import encoded

_OPTIONS = ("top", "alpha", "set")


class Client(bentoml.SyncHTTPClient):  # type: ignore[misc]
    """Asks a service: ``Client(url).classify(image=..)`` and ``classify_batch(images=[..])``.

    An image is a path, the bytes of a file, an open file, a PIL image, or an array uint8 [H, W], [H, W, 3] or [H, W, 4] of
    any size: it is brought to the model's size by the service, as a file is. Options of both: ``top``, ``alpha`` and
    ``set``, which ask as in the query of a request.
    """

    def _setup(self) -> None:
        super()._setup()
        self._file_manager.get_file = _Files(self._file_manager.get_file)

    def close(self) -> None:
        """Close the connections, and remove the folder for answers that are files, which BentoML leaves."""
        super().close()
        self._temp_dir.cleanup()

    def _build_request(self, endpoint: Any, args: Any, kwargs: dict[str, Any], headers: Any) -> httpx.Request:
        options = {name: kwargs[name] for name in _OPTIONS if kwargs.get(name) is not None}
        others = {name: value for name, value in kwargs.items() if name not in _OPTIONS}
        request: httpx.Request = super()._build_request(endpoint, args, others, headers)
        request.url = request.url.copy_merge_params(options)
        return request


class _Files:
    """What BentoML's client asks for a part's name, file and content type; it takes paths itself."""

    def __init__(self, of_path: Any) -> None:
        self._of_path = of_path

    def __call__(self, image: Any) -> Any:
        if isinstance(image, bytes | bytearray | memoryview):
            return "image", io.BytesIO(image), None
        if isinstance(image, np.ndarray):
            return "image", io.BytesIO(encoded(_of_array(image))), None
        if isinstance(image, Image.Image):
            return "image", io.BytesIO(encoded(image)), None
        if callable(getattr(image, "read", None)):
            return "image", io.BytesIO(_read(image)), None
        if isinstance(image, str | os.PathLike):
            return self._of_path(image)
        raise TypeError(
            "expected a path, the bytes of a file, an open file, a PIL image or an array uint8 [H, W, 3], found "
            f"{type(image).__name__}"
        )


def _of_array(pixels: npt.NDArray[Any]) -> Image.Image:
    """
    Raises:
        TypeError: no uint8 image.
    """
    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))) or 0 in shape:
        raise TypeError(
            f"expected an array uint8 [H, W], [H, W, 3] or [H, W, 4], found {pixels.dtype} {list(shape)}; several images go "
            "to classify_batch, as a list"
        )
    return Image.fromarray(pixels)


def _read(file: Any) -> bytes:
    """
    Raises:
        TypeError: a file opened as text.
    """
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError("the file is opened as text; open it as 'rb'")
    return content
