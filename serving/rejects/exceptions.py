"""What can be wrong with a reject store.

RejectsError                    base; an OodgateError, so that commands end with one line
├── StoreUnusable               no such place, or one that can't be read or written
└── RejectNotFound              no such id
"""

from __future__ import annotations

from runtime.exceptions import OodgateError


class RejectsError(OodgateError):
    """Base of this package's errors."""


class StoreUnusable(RejectsError):
    """The place can't be read or written."""


class RejectNotFound(RejectsError):
    """No rejected image has this id, or no longer."""
