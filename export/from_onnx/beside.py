"""What lies beside an ONNX file: ``config.json`` and ``preprocessor_config.json``, as optimum writes them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from train.descriptions import transformers
from train.descriptions.description import Description
from train.exceptions import ModelError

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"


def described(path: Path) -> Description:
    """Labels, task and input of a model of transformers, by the files beside its ``model.onnx``, or above ``onnx/``.

    Where one says what can't be expressed, that is a remark, and the options have to say it.
    """
    folders = [path.parent, *([path.parent.parent] if path.parent.name == "onnx" else [])]
    folder = next((each for each in folders if "model_type" in _read(each / _CONFIG)), None)
    if folder is None:
        return Description()
    found = Description()
    settings = _read(folder / _PROCESSOR)
    try:
        found = transformers.of_config(_read(folder / _CONFIG))
        found = found.over(transformers.of_processor(settings)) if settings else found
    except ModelError as error:
        found = dataclasses.replace(found, remarks=(*found.remarks, str(error)))
    return found


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; none where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
