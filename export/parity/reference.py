"""A classifier as an engine: its own logits and activations, with the scores and the gate of a bundle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.classifier import Classifier
from export.exceptions import ExportError
from export.graph.building import LOGITS, PENULTIMATE, prune, remove_node
from export.graph.session import run, session
from runtime.bundle import Signature
from runtime.engines.interface import Outputs
from runtime.manifest import Manifest


class ReferenceEngine:
    """Runs on what the classifier runs on, the CPU.

    Args:
        classifier: what to run.
        model: the graph of a bundle, of which everything behind ``logits`` and ``penultimate`` is run.
        manifest: the bundle's.
        signature: the bundle's graph's.

    Raises:
        ExportError: the classifier has another number of penultimate activations than the bundle.
    """

    batches: tuple[int, ...] = ()

    def __init__(
        self, classifier: Classifier, model: onnx.ModelProto, manifest: Manifest, signature: Signature
    ) -> None:
        self.signature = signature
        self.name = classifier.framework
        self._classifier = classifier
        spec = manifest.input
        _, penultimate = classifier.run(np.zeros((1, spec.height, spec.width, 3), np.uint8))
        if penultimate.shape[1] != manifest.model.features:
            raise ExportError(
                f"expected {manifest.model.features} penultimate activations, as {manifest.model.name} has, found "
                f"{penultimate.shape[1]}: the checkpoint is of another network"
            )
        self._head = session(_head(model, len(manifest.labels), manifest.model.features))

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        logits, activations = self._classifier.run(images)
        feeds = {LOGITS: logits, PENULTIMATE: activations} if logits.shape[1] else {PENULTIMATE: activations}
        scores, accept = run(self._head, ["scores", "accept"], {"images": images, **feeds})
        return Outputs(logits, scores, accept, activations if penultimate else None)


def _head(model: onnx.ModelProto, labels: int, features: int) -> onnx.ModelProto:
    """A graph of what is behind ``logits``, if there are labels, and ``penultimate``, which become its inputs."""
    head = onnx.ModelProto()
    head.CopyFrom(model)
    for name, size in ((LOGITS, labels), (PENULTIMATE, features)) if labels else ((PENULTIMATE, features),):
        remove_node(head, name)
        head.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size)))
    kept = [output for output in head.graph.output if output.name not in (LOGITS, PENULTIMATE)]
    del head.graph.output[:]
    head.graph.output.extend(kept)
    prune(head)
    return head
