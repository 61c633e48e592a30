"""Long messages of torch's exporters as one line: the operation, where in the model it stands, and what to try."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch

_OVERLOAD = re.compile(r"OpOverload\(op='([^']+)'")
_LOCATION = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
_TORCH = str(Path(torch.__file__).parent)
_NO_OPERATION = "ONNX has no such operation: compute it by others, or export to ONNX by yourself and give that file"
_NO_CDIST = (
    "torch.cdist takes another way from 26 images on, and ONNX has none: write such distances of features f and prototypes w "
    "as (f.square().sum(1, keepdim=True) + w.square().sum(1) - 2 * (f @ w.T)).clamp(min=0).sqrt()"
)
_ADVICE = (
    ("[0] <= 25", _NO_CDIST),
    ("_cdist_forward", _NO_CDIST),
    ("data-dependent", "a branch or a shape depends on the pixels: compute both sides and choose by torch.where"),
    ("Constraints violated", "let every size follow the batch: x.flatten(1) and x.size(0), not a number"),
    ("specialized", "let every size follow the batch: x.flatten(1) and x.size(0), not a number"),
    ("No ONNX function", _NO_OPERATION),
    ("No decompositions", _NO_OPERATION),
)


def reason(error: BaseException) -> str:
    """One line of what went wrong, in which operation, at which line of the model's code, and what to try."""
    innermost = _innermost(error)
    text = str(innermost) or type(innermost).__name__
    everything = f"{text}\n{error}"
    parts = [" ".join(text.strip().partition("\n")[0].split())[:200]]
    if (operation := _OVERLOAD.search(everything)) and operation.group(1) not in parts[0]:
        parts.append(f"in {operation.group(1)}")
    if place := _place(innermost, everything):
        parts.append(f"at {place}")
    advice = next((advice for sign, advice in _ADVICE if sign in everything), None)
    return "; ".join(filter(None, (" ".join(parts), advice)))


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _place(error: BaseException, text: str) -> str | None:
    """The last line of code that is not torch's: of the message, or of the traceback."""
    frames = [(file, int(line), name) for file, line, name in _LOCATION.findall(text)]
    frames += [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    foreign = [
        (file, line, name)
        for file, line, name in frames
        if not file.startswith((_TORCH, str(Path(__file__).parents[2]), "<")) and "/onnx" not in file
    ]
    if not foreign:
        return None
    file, line, name = foreign[-1]
    return f"{Path(file).name}:{line} in {name}"
