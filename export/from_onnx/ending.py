"""What a file does behind its logits: softmax, rounding, the choice of a class; found, and undone by leaving it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from export.exceptions import ExportError
from export.from_onnx.surgery.network import Network, attributes

Array = npt.NDArray[np.float64]

_SHAPING = {"Identity", "Flatten", "Squeeze", "Unsqueeze", "Reshape", "Dropout"}
_ROUNDING = {"Cast", "QuantizeLinear", "DequantizeLinear", "Clip", "LabelEncoder"}


@dataclass(frozen=True)
class Ending:
    """From logits to an output.

    Attributes:
        output: of the file.
        logits: the tensor that has them.
        steps: what is done to them, in order; keys of :data:`STEPS`.
    """

    output: str
    logits: str
    steps: tuple[str, ...] = ()

    def apply(self, logits: Array) -> Array:
        """What the file should answer for logits (N, K), before it is rounded."""
        for step in self.steps:
            logits = STEPS[step](logits)
        return logits


def find(network: Network, output: str) -> Ending:
    """Walk from an output of the file to its logits.

    An ending is left out as far as the last activation, or as its shape is changed alone; a rounding to 8 bits
    of the logits themselves is theirs.
    """
    logits, steps = output, list[str]()
    name, pending = output, list[str]()
    while (node := network.producers.get(name)) is not None and (found := _behind(network, node, name)) is not None:
        kind, name = found
        if kind:
            pending.append(kind)
        if kind in _ACTIVATIONS or (node.op_type in _SHAPING and len(pending) == len(steps) and logits in node.output):
            logits, steps = name, list(pending)
    return Ending(output, logits, tuple(reversed(steps)))


def choose(network: Network, wanted: str | None, classes: int | None) -> str:
    """The output whose logits are meant: the one wanted, or the only one that can be.

    Args:
        network: with all its outputs.
        wanted: by ``--output``: an output, or any tensor inside.
        classes: the number of labels, if it is known.

    Raises:
        ExportError: none or several can be.
    """
    outputs = {output.name: output for output in network.model.graph.output}
    listed = ", ".join(f"{name} {_shown(output)}" for name, output in outputs.items())
    if wanted is not None:
        if wanted not in outputs and wanted not in network.producers:
            raise ExportError(f"--output {wanted}: there is no such tensor; the outputs are {listed}")
        return wanted
    if len(outputs) == 1:
        return str(next(iter(outputs)))
    scores = [name for name, output in outputs.items() if _may_be_scores(output)]
    fitting = [name for name in scores if classes is not None and _width(outputs[name]) == classes]
    for names in (fitting, scores):
        if len(names) == 1:
            return str(names[0])
    raise ExportError(f"it has several outputs; say with --output which are the logits: {listed}")


def _behind(network: Network, node: onnx.NodeProto, output: str) -> tuple[str, str] | None:
    """What a node does to logits, by its key in :data:`STEPS` or an empty text, and the tensor that it does it to."""
    kind = node.op_type
    if kind in _SIMPLE or kind in _SHAPING or kind in _ROUNDING:
        return _SIMPLE.get(kind, ""), node.input[0]
    if kind == "TopK":
        return ("largest" if output == node.output[0] else "class"), node.input[0]
    if kind == "Normalizer" and attributes(node).get("norm", b"MAX") == b"L1":
        return "share", node.input[0]
    if kind == "Gather" and network.constant(node.input[0]) is not None:
        return "label", node.input[1]
    if kind == "Div":
        return _divided_exponentials(network, node)
    if kind == "Concat" and len(node.input) == 2:
        complement = network.producers.get(node.input[0])
        if complement is not None and complement.op_type == "Sub" and list(complement.input)[1:] == [node.input[1]]:
            return "complement", node.input[1]
    return None


def _divided_exponentials(network: Network, node: onnx.NodeProto) -> tuple[str, str] | None:
    """A softmax in parts: exp(f) / sum exp(f), f perhaps without its maximum."""
    above, below = (network.producers.get(name) for name in node.input)
    if above is None or below is None or above.op_type != "Exp" or below.op_type != "ReduceSum":
        return None
    if below.input[0] != node.input[0]:
        return None
    shifted = network.producers.get(above.input[0])
    if shifted is not None and shifted.op_type == "Sub":
        largest = network.producers.get(shifted.input[1])
        if largest is not None and largest.op_type == "ReduceMax" and largest.input[0] == shifted.input[0]:
            return "softmax", shifted.input[0]
    return "softmax", above.input[0]


def _may_be_scores(output: onnx.ValueInfoProto) -> bool:
    if output.type.WhichOneof("value") == "sequence_type":
        return True  # of a dictionary an image, by ZipMap
    kind = output.type.tensor_type
    return kind.elem_type in _FLOATS and not (kind.HasField("shape") and len(kind.shape.dim) > 4)


def _width(output: onnx.ValueInfoProto) -> int | None:
    """The number of values an image, as far as it is said."""
    sizes = [dim.dim_value for dim in output.type.tensor_type.shape.dim[1:]]
    return int(np.prod(sizes)) if sizes and all(sizes) else None


def _shown(output: onnx.ValueInfoProto) -> str:
    if output.type.WhichOneof("value") != "tensor_type":
        return "(dictionaries)"
    return (
        "[" + ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in output.type.tensor_type.shape.dim) + "]"
    )


def softmax(logits: Array) -> Array:
    """Probabilities (N, K) of logits (N, K)."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def describe(steps: Sequence[str]) -> str:
    """What was left out, in words; empty where nothing was."""
    return ", then ".join(_WORDS.get(step, step) for step in steps if step not in ("dictionary", "label"))


STEPS: dict[str, Callable[[Array], Array]] = {
    "softmax": softmax,
    "log_softmax": lambda f: np.log(softmax(f)),
    "sigmoid": lambda f: np.asarray(1 / (1 + np.exp(-f))),
    "log": lambda p: np.log(p),
    "exp": lambda f: np.exp(f),
    "share": lambda p: np.asarray(p / p.sum(axis=1, keepdims=True)),
    "complement": lambda p: np.concatenate([1 - p, p], axis=1),
    "dictionary": lambda p: p,
    "largest": lambda p: -np.sort(-p, axis=1),
    "class": lambda p: np.asarray(p.argmax(axis=1)[:, None], dtype=np.float64),
    "label": lambda p: p,
}
_SIMPLE = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid", "Log": "log", "Exp": "exp"}
_SIMPLE |= {"ZipMap": "dictionary", "ArgMax": "class"}
# What the logits must be taken in front of.
_ACTIVATIONS = {"softmax", "log_softmax", "sigmoid", "class", "largest", "dictionary"}
_WORDS = {"log_softmax": "log-softmax", "share": "division by the sum", "class": "the choice of a class"}
_WORDS |= {"complement": "the probability of the other class", "largest": "sorting"}
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
