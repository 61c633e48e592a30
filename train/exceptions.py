"""The errors a user of the training commands can meet.

OodgateError
├── DataError           a data set that can't be read
├── CheckpointError     a checkpoint that can't be read or does not fit
├── ModelError          a network, weights or description of others that can't be used
└── TrainingError       settings that can't train, or a loss that is no longer finite
"""

from __future__ import annotations

from runtime.exceptions import OodgateError


class DataError(OodgateError):
    """A source of images is missing, empty or damaged."""


class CheckpointError(OodgateError):
    """A checkpoint is not one of ours, damaged, or of another model."""


class ModelError(OodgateError):
    """Somebody else's network, its weights or what is said of them can't be read, or don't fit each other."""


class TrainingError(OodgateError):
    """Training can't start, or can't go on."""
