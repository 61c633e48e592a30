"""The exported file: assembling graph, head and manifest, and sealing a manifest into the graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from export import head
from export.from_torch.backbone import Backbone, to_onnx
from export.from_torch.classifier import Classifier
from export.graph import set_metadata
from runtime import rule
from runtime.manifest import Manifest, ModelSpec


def assemble(
    classifier: Classifier, name: str, score_parameters: Mapping[str, Mapping[str, float]]
) -> tuple[onnx.ModelProto, Manifest]:
    """The graph with its score head, and its manifest, not yet calibrated.

    Args:
        classifier: what to export.
        name: what decisions call the model.
        score_parameters: keyword arguments of a score, such as ``{"energy": {"temperature": 0.1}}``.

    Raises:
        ExportError: torch.export can't trace the model.
    """
    model = to_onnx(Backbone(classifier.module, classifier.input), classifier.input)
    shapes = {output.name: output.type.tensor_type.shape for output in model.graph.output}
    head.attach(model, score_parameters)
    manifest = Manifest(
        model=ModelSpec(
            name=name,
            arch=classifier.arch,
            method=classifier.method,
            parameters=sum(parameter.numel() for parameter in classifier.module.parameters()),
            features=shapes[head.PENULTIMATE].dim[1].dim_value,
        ),
        task=classifier.task,
        labels=classifier.labels,
        input=classifier.input,
        scores=tuple(head.SCORES),
        score_parameters={key: dict(value) for key, value in score_parameters.items()},
    )
    return model, manifest


def seal(model: onnx.ModelProto, manifest: Manifest) -> bytes:
    """The bytes of model.onnx with the manifest's gate as its default and the manifest in its metadata."""
    if gate := manifest.gate:
        own = rule.thresholds(manifest.labels, gate) if gate.class_conditional else None
        head.set_gate(model, manifest.scores.index(gate.score), gate.threshold, own)
    set_metadata(model, manifest.embedded.to_json())
    return bytes(model.SerializeToString())
