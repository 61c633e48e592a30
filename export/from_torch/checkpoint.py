"""A checkpoint of ``python -m train``, whose header says everything."""

from __future__ import annotations

from pathlib import Path

from export.exceptions import ExportError
from export.from_torch.classifier import TorchClassifier
from train import checkpoint
from train.models.projection import WithProjection


def from_checkpoint(path: Path, penultimate: str | None = None) -> TorchClassifier:
    """Read a checkpoint of ours.

    Args:
        path: of the file.
        penultimate: ``backbone``: the features that a projection head reads, in place of its hidden layer.

    Raises:
        CheckpointError: not such a checkpoint.
        ExportError: activations that it does not have.
    """
    loaded = checkpoint.load(path)
    header, module = loaded.header, loaded.model()
    remarks: tuple[str, ...] = ()
    if penultimate is not None:
        if penultimate != "backbone" or not isinstance(module, WithProjection):
            raise ExportError(
                f"--penultimate {penultimate}: of a checkpoint of ours it may be `backbone`, where its architecture ends in "
                f"+nan; this one is a {header.arch}"
            )
        module.exposed = "backbone"
        remarks = ("penultimate activations: the features that the projection head reads, not its hidden layer",)
    return TorchClassifier(
        module=module,
        arch=header.arch,
        method=header.method,
        task=header.task,
        labels=header.labels,
        input=header.input,
        training={"hyperparameters": header.hyperparameters, "sources": header.sources, "metrics": header.metrics},
        data=header.data,
        remarks=remarks,
    )
