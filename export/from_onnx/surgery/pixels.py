"""From uint8 RGB images to what a foreign graph takes: as nodes in front of it, and once more in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.manifest import InputSpec

Layout = Literal["nchw", "nhwc"]

IMAGES = "images"
PREFIX = "pixels/"  # of the names of what is put in front
# Pillow's L: (19595 R + 38470 G + 7471 B + 2^15) >> 16, whole numbers that float32 holds.
_GREY, _HALF, _WHOLE = (19595.0, 38470.0, 7471.0), 2.0**15, 2.0**16


@dataclass(frozen=True)
class Pixels:
    """What a graph takes.

    Attributes:
        spec: size, normalisation and channels.
        tensor: the graph's input.
        dtype: of its elements, as ONNX counts them; whole numbers are the pixels as they are.
        layout: where the channels stand.
        flat: whether an image is one row of numbers.
    """

    spec: InputSpec
    tensor: str
    dtype: int
    layout: Layout = "nchw"
    flat: bool = False

    @property
    def whole(self) -> bool:
        """Whether the graph takes pixels as they are, and normalises them itself."""
        return self.dtype in WHOLE_NUMBERS

    def array(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Images uint8 [N, H, W, 3] as the graph takes them."""
        x: npt.NDArray[Any] = images
        scale, shift = self._affine()
        if self.spec.channels == "grey":
            x = (images @ np.asarray(_GREY) + _HALF)[..., None] // _WHOLE
            scale, shift = scale[:1], shift[:1]
        if not self.whole:
            x = x.astype(np.float32) * scale + shift  # to the last bit as the nodes do: 8 bits round what follows
        if self.spec.channels == "bgr":
            x = x[..., ::-1]
        if self.layout == "nchw":
            x = x.transpose(0, 3, 1, 2)
        if self.flat:
            x = x.reshape(len(x), -1)
        return np.ascontiguousarray(x.astype(helper.tensor_dtype_to_np_dtype(self.dtype)))

    def put_in_front(self, graph: onnx.GraphProto) -> None:
        """Make ``images`` uint8 [N, H, W, 3] the input of a graph, in place."""
        builder = _Builder()
        last = self._nodes(builder)
        if last == IMAGES:
            for node in graph.node:
                for i, name in enumerate(node.input):
                    node.input[i] = IMAGES if name == self.tensor else name
        else:
            builder.nodes[-1].output[0] = self.tensor
        nodes = [*builder.nodes, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node)]
        del graph.node[:], graph.input[:]
        graph.node.extend(nodes)
        graph.initializer.extend(builder.constants)
        shape = ("N", self.spec.height, self.spec.width, 3)
        graph.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, shape))

    def _affine(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(x / 255 - mean) / std as a multiplication and an addition, of R, G and B."""
        mean, std = np.asarray(self.spec.mean), np.asarray(self.spec.std)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def _nodes(self, g: _Builder) -> str:
        scale, shift = self._affine()
        x = IMAGES
        if not self.whole or self.spec.channels == "grey":
            x = g.add("Cast", x, to=TensorProto.FLOAT)
        if self.spec.channels == "bgr":
            x = g.add("Gather", x, np.array([2, 1, 0]), axis=3)
            scale, shift = scale[::-1], shift[::-1]
        if self.spec.channels == "grey":
            x = g.add("MatMul", x, np.array(_GREY, np.float32)[:, None])
            x = g.add("Floor", g.add("Div", g.add("Add", x, np.float32(_HALF)), np.float32(_WHOLE)))
            scale, shift = scale[:1], shift[:1]
        if not self.whole:
            x = x if (scale == 1).all() else g.add("Mul", x, scale)
            x = g.add("Add", x, shift) if shift.any() else x
        if self.layout == "nchw":
            x = g.add("Transpose", x, perm=[0, 3, 1, 2])
        if self.flat:
            x = g.add("Flatten", x, axis=1)
        at_hand = TensorProto.UINT8 if self.whole and self.spec.channels != "grey" else TensorProto.FLOAT
        return x if self.dtype == at_hand else g.add("Cast", x, to=self.dtype)


class _Builder:
    """Nodes one behind the other, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, x: str, constant: Any = None, **attributes: Any) -> str:
        name, inputs = f"{PREFIX}{kind}_{len(self.nodes)}", [x]
        if constant is not None:
            inputs.append(f"{name}/constant")
            self.constants.append(numpy_helper.from_array(np.asarray(constant), inputs[1]))
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name


WHOLE_NUMBERS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)
