"""The errors a user of the export commands can meet.

OodgateError
└── ExportError         a model that can't become a bundle, or an evaluation that can't be made
    └── NotApplicable   a detector that means nothing for this model
"""

from __future__ import annotations

from runtime.exceptions import OodgateError


class ExportError(OodgateError):
    """The model, its weights or the options don't give a bundle."""


class NotApplicable(ExportError):
    """The detector means nothing here: for these last layers, so few classes or images, or features of this sign."""
