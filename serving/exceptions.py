"""What can go wrong in the service.

OodgateError                    the runtime's: an operator can mend it, and commands end with its one line
├── SettingsError               an environment variable that can't be used
├── BatchError                  scoring a whole source
│   ├── SourceUnusable          no such source, nothing in it, or it can't be listed
│   ├── OutputUnusable          the place can't be written, or holds what is not of this job
│   ├── WorkersFailed           what scores can't be started, or has failed
│   └── NoDiscoveryGuarantee    p-values from which no false discovery rate follows
└── RejectsError                a store of rejected images
    ├── StoreUnusable           no such place, or one that can't be read or written
    └── RejectNotFound          no such id
RequestError                    a request that can't be answered, with the answer's status and code
└── ProtocolError               it does not keep to the Open Inference Protocol, or to the model's signature
Expired                         an image whose deadline passed before the engine had it
ClientGone                      nobody waits for the answer
"""

from __future__ import annotations

from runtime.exceptions import OodgateError


class SettingsError(OodgateError):
    """An environment variable that can't be used."""


class BatchError(OodgateError):
    """Base of what can go wrong when a whole source is scored."""


class SourceUnusable(BatchError):
    """There is no such source, nothing in it, or it can't be listed."""


class OutputUnusable(BatchError):
    """The place can't be written, or holds what is not of this job."""


class WorkersFailed(BatchError):
    """What scores can't be started, or has failed."""


class NoDiscoveryGuarantee(BatchError):
    """The p-values are not all valid, so that no false discovery rate can be promised."""


class RejectsError(OodgateError):
    """Base of the reject store's errors."""


class StoreUnusable(RejectsError):
    """The place can't be read or written."""


class RejectNotFound(RejectsError):
    """No rejected image has this id, or no longer."""


class RequestError(Exception):
    """A request that can't be answered, for a reason beyond its images.

    Args:
        status, code, message: of the answer.
        headers: what the answer has beside its body.
    """

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ProtocolError(RequestError):
    """A request that does not keep to the Open Inference Protocol, or to the model's signature."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "bad_inference_request", message)


class Expired(Exception):
    """A job whose deadline passed before the engine had it."""


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


TOO_MANY_REQUESTS = RequestError(
    429, "too_many_requests", "too many requests are in progress; try again in a moment", retry_after="1"
)
OVERLOADED = RequestError(503, "overloaded", "too many images are waiting; try again in a moment", retry_after="1")
TOO_MANY_CONNECTIONS = RequestError(
    503, "too_many_connections", "too many connections; try again in a moment", retry_after="1", connection="close"
)
