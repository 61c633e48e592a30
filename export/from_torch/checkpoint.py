"""A checkpoint of ``python -m train``, whose header says everything."""

from __future__ import annotations

from pathlib import Path

from export.from_torch.classifier import TorchClassifier
from train import checkpoint


def from_checkpoint(path: Path) -> TorchClassifier:
    """Read a checkpoint of ours.

    Raises:
        CheckpointError: not such a checkpoint.
    """
    loaded = checkpoint.load(path)
    header = loaded.header
    return TorchClassifier(
        module=loaded.model(),
        arch=header.arch,
        method=header.method,
        task=header.task,
        labels=header.labels,
        input=header.input,
        training={"hyperparameters": header.hyperparameters, "sources": header.sources, "metrics": header.metrics},
        data=header.data,
    )
