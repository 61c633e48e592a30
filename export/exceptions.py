"""The errors a user of the export commands can meet.

OodgateError
└── ExportError         a model that can't become a bundle, or an evaluation that can't be made
    └── NotApplicable   a detector that means nothing for this model
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime.exceptions import OodgateError
from train.exceptions import ModelError


class ExportError(OodgateError):
    """The model, its weights or the options don't give a bundle."""


class NotApplicable(ExportError):
    """The detector means nothing here: for these last layers, so few classes or images, or features of this sign."""


@contextmanager
def as_export_errors() -> Iterator[None]:
    """Within this context, or a function that it decorates, a ModelError is an ExportError that says the same."""
    try:
        yield
    except ModelError as error:
        raise ExportError(str(error)) from error
