"""Every error that speaking to a server raises.

    ClientError                 (a ThunderlineError)
    ├── ServerUnreachable       nothing answers there: nothing was changed
    ├── ServerUntrusted         what answers there cannot show that it is the server: nothing was sent
    ├── AnswerLost              asked, but not answered: a change may or may not have been made
    ├── NotThunderline          what answers does not speak our API, or another version of it
    └── ServerRefused           the server said no (RFC 9457)
        ├── InvalidRequest          what was sent cannot be used; `field` says where
        │   └── KeyReused               the idempotency key stands for another request
        ├── Unauthorized            a token is needed, or this one is not good, or no longer
        ├── Forbidden               it is good, but not for this
        ├── NotFound                no such node; a node that gets this registers again
        ├── Conflict                well-formed, but not in the present state
        │   ├── PreconditionFailed      the node is not, or no longer, as `if_match` says
        │   └── BatchRefused            a batch that is done whole or not at all; `results` say why
        ├── ListAgain               the log cannot continue from this cursor
        └── ServerUnavailable       not now; `retry_after_s` says when

A refusal without a class of its own is a plain `ServerRefused`; its `code` is that of `core/errors.py`, whatever its
class. An argument that could not even be sent raises `InvalidInput`, as it does from an embedded registry.
"""

from __future__ import annotations

from typing import Final

import msgspec

from thunderline.client.answers import ItemProblem
from thunderline.core.errors import ThunderlineError


class ClientError(ThunderlineError):
    """The root of what speaking to a server raises."""

    code = "client_error"


class ServerUnreachable(ClientError):
    """Nothing answers at the URL, and nothing was changed. `reason` None: the connection was refused."""

    code = "server_unreachable"
    retryable = True

    def __init__(self, url: str, *, reason: str | None = None) -> None:
        super().__init__(f"no server answers at {url} ({reason or 'connection refused'})")
        self.url = url
        self.reason = reason


class ServerUntrusted(ClientError):
    """What answers at the URL cannot show by its certificate that it is the server; nothing was sent to it."""

    code = "server_untrusted"

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(
            f"what answers at {url} is not trusted ({reason}); give the PEM file of its authority as `ca`, or in "
            "THUNDERLINE_CA"
        )
        self.url = url
        self.reason = reason


class AnswerLost(ClientError):
    """The server was asked, but its answer did not come: look before repeating a change that must happen once."""

    code = "answer_lost"

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(f"{url} did not answer ({reason}); a change may or may not have been made")
        self.url = url
        self.reason = reason


class NotThunderline(ClientError):
    """What answers there does not speak our API, or another version of it."""

    code = "not_thunderline"

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(f"{url} does not answer as a Thunderline server of this version ({reason}); check the URL")
        self.url = url
        self.reason = reason


class ItemOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item of a batch was not done; of one that is not at fault, `status` is 424."""

    index: int
    status: int
    problem: ItemProblem


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a refusal. Source: RFC 9457, with our members `code`, `retryable`, `field` and `retry_after_s`."""

    detail: str
    status: int
    code: str
    retryable: bool = False
    field: str | None = None
    retry_after_s: float | None = None
    results: list[ItemOutcome] = []


class ServerRefused(ClientError):
    """The server said no; `detail` says why in words, `code` for machines."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.code = problem.code
        self.status = problem.status
        self.detail = problem.detail
        self.retryable = problem.retryable
        self.field = problem.field
        """The part of the request that is at fault; None where it is not one part."""
        self.retry_after_s = problem.retry_after_s
        """When the same call may go through; None where the server does not say."""


class InvalidRequest(ServerRefused):
    """What was sent cannot be used; nothing was changed."""


class Unauthorized(ServerRefused):
    """The server has to know who asks: it was sent no token, or one that it does not know, or that is good no more."""


class Forbidden(ServerRefused):
    """The server knows who asks, and does not let them do this."""


class NotFound(ServerRefused):
    """The server knows nothing of this name; a node that gets this registers again."""


class Conflict(ServerRefused):
    """The request does not fit the present state; nothing was changed."""


class KeyReused(InvalidRequest):
    """The idempotency key was used for another request before; nothing was changed."""


class PreconditionFailed(Conflict):
    """The node is not, or no longer, as `if_match` says: read it again, decide anew. Nothing was changed."""


class BatchRefused(Conflict):
    """Items of a batch that is done whole or not at all cannot be done; nothing was changed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.results = problem.results
        """What became of each item, in order."""


class ListAgain(ServerRefused):
    """The log cannot continue from this cursor: list again, and watch from the list's own cursor."""


class ServerUnavailable(ServerRefused):
    """Not now. Nothing was changed, unless `code` is `outcome_unknown`: then look before repeating the call."""


_CLASSES: Final[dict[int, type[ServerRefused]]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: ListAgain,
    412: PreconditionFailed,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: ServerUnavailable,
    503: ServerUnavailable,
}


_BY_CODE: Final[dict[str, type[ServerRefused]]] = {
    "idempotency_key_reused": KeyReused,
    "batch_refused": BatchRefused,
}


def refusal(problem: Problem) -> ServerRefused:
    """The error for a problem that a server answered with, by its code or else its status."""
    kind = _BY_CODE.get(problem.code) or _CLASSES.get(problem.status, ServerRefused)
    return kind(problem)
