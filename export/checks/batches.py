"""An image's answer must be its own: the same in every batch, and the same when it is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.classifier import Activations
from export.exceptions import ExportError

Run = Callable[[npt.NDArray[np.uint8]], Activations]
Constants = Mapping[str, onnx.TensorProto]

_BATCH = 8
_NAMES = ("logits", "penultimate activations")
_SHARE = 1e-3  # of the outputs' range
_ROUNDING = 1e-5  # of their largest magnitude: what sums in another order may differ by


def check_batches(
    run: Run, images: npt.NDArray[np.uint8], name: str, model: onnx.ModelProto, share: float = _SHARE
) -> None:
    """Compare the outputs of some images in batches of 1, 2 and 8, beside other neighbours, and once more.

    Args:
        run: images uint8 [N, H, W, 3] -> logits (N, K), penultimate (N, D).
        images: at least one.
        name: what messages call it that runs.
        model: its graph, in which the layers are looked for that may be the cause.
        share: of the outputs' range, what rounding in its layers may move an answer by.

    Raises:
        ExportError: outputs that depend on the other images of their batch or on chance, or a batch size that fails.
    """
    whole = np.resize(images[:_BATCH], (_BATCH, *images.shape[1:]))
    expected = _outputs(run, whole, name)
    again = _outputs(run, whole, name)
    for what, difference in zip(_NAMES, _differences(expected, again, _BATCH, share), strict=True):
        if difference:
            raise ExportError(
                f"{name}: its {what} differ by up to {difference:.2g} when the same images are run again: "
                f"{_cause(model) or 'dropout left on, or a state that changes'}; an export needs one answer an image"
            )
    for title, batch, rows in _neighbourhoods(whole):
        found = _outputs(run, batch, name)
        for what, difference in zip(_NAMES, _differences(expected, found, rows, share), strict=True):
            if difference:
                raise ExportError(
                    f"{name}: its answer to an image depends on the other images of the batch: {title}, the {what} differ by "
                    f"up to {difference:.2g}: {_cause(model) or 'statistics of the batch'}; an export needs one answer an "
                    "image"
                )


def _neighbourhoods(whole: npt.NDArray[np.uint8]) -> Iterator[tuple[str, npt.NDArray[np.uint8], int]]:
    """Batches that begin as `whole` does, and with how many of its images."""
    yield "alone", whole[:1], 1
    yield "beside one other", whole[:2], 2
    strangers = np.concatenate([whole[:1], 255 - whole[1:]])
    strangers[1::2] = 255
    yield "beside others than before", strangers, 1


def _outputs(run: Run, images: npt.NDArray[np.uint8], name: str) -> Activations:
    count = f"a batch of {len(images)} image{'s' if len(images) > 1 else ''}"
    try:
        outputs = run(images)
    except Exception as error:  # a foreign model may raise anything
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{name} fails on {count}: {reason or type(error).__name__}") from error
    for what, part in zip(_NAMES, outputs, strict=True):
        if part.ndim == 0 or len(part) != len(images) or (part.ndim < 2 and what != "logits"):
            raise ExportError(
                f"{name}: of {count} the {what} have the shape {list(part.shape)}, which should begin with {len(images)}; "
                "a squeeze() without a dimension drops the batch's: write squeeze(-1) or flatten(1)"
            )
    return outputs


def _differences(expected: Activations, found: Activations, rows: int, share: float) -> list[float]:
    """The largest difference of each output in the first rows, 0 where rounding explains it."""
    differences = []
    for one, other in zip(expected, found, strict=True):
        if not one.size:  # the logits of a model without classes
            differences.append(0.0)
            continue
        difference = float(np.abs(one[:rows].astype(np.float64) - other[:rows]).max())
        allowed = share * float(np.ptp(one)) + _ROUNDING * float(np.abs(one).max())
        differences.append(0.0 if difference <= allowed else difference)
    return differences


def _cause(model: onnx.ModelProto) -> str | None:
    """The layer of a graph that mixes the images of a batch, or draws at random, in words."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for find in (_batch_normalisation, _random, _reduction):
        for node in model.graph.node:
            if cause := find(node, constants):
                return cause
    return None


def _batch_normalisation(node: onnx.NodeProto, constants: Constants) -> str | None:
    if node.op_type != "BatchNormalization":
        return None
    if node.input[3] in constants and not _attributes(node).get("training_mode"):
        return None
    layer = node.input[1].removesuffix(".weight").removeprefix("classifier.").removeprefix("classifier.")
    return f"batch normalisation without running statistics, or left in training, at {layer}"


def _random(node: onnx.NodeProto, constants: Constants) -> str | None:
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
        return "dropout left on" if numpy_helper.to_array(constants[node.input[2]]).all() else None
    if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial"):
        return f"it draws at random ({node.op_type})"
    return None


def _reduction(node: onnx.NodeProto, constants: Constants) -> str | None:
    if not node.op_type.startswith("Reduce"):
        return None
    axes = _attributes(node).get("axes", ())
    if len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]])
    return f"a statistic of the whole batch ({node.op_type}, {node.name})" if 0 in np.ravel(axes) else None


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
