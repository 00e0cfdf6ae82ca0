"""From an error to what the caller is told: one table, total over `ThunderlineError`, and problem+json around it.

Source: RFC 9457 (problem details), RFC 9110 (status codes), RFC 6750 (what a refused token is told).
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, MethodNotAllowedException, ValidationException

from thunderline.core import errors
from thunderline.core.errors import InvalidInput, ThunderlineError
from thunderline.core.logging import get_logger
from thunderline.gate.methods import allow

log = get_logger(__name__)

PROBLEM_TYPE: Final = "application/problem+json"
CHALLENGE: Final = 'Bearer realm="thunderline"'
_HUNG_UP: Final = "client disconnected prematurely"

HTTP_STATUS: Final[dict[type[ThunderlineError], HTTPStatus]] = {
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MalformedBody: HTTPStatus.BAD_REQUEST,
    errors.IdempotencyKeyRefused: HTTPStatus.BAD_REQUEST,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Refused: HTTPStatus.FORBIDDEN,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.HostRefused: HTTPStatus.MISDIRECTED_REQUEST,
    errors.WrongContentType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    errors.NotDone: HTTPStatus.FAILED_DEPENDENCY,
    errors.CursorGone: HTTPStatus.GONE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NameInUse: HTTPStatus.CONFLICT,
    errors.IdempotencyKeyInUse: HTTPStatus.CONFLICT,
    errors.NoHello: HTTPStatus.REQUEST_TIMEOUT,
    errors.OutcomeUnknown: HTTPStatus.SERVICE_UNAVAILABLE,
    # Content that passed our checks but not the store's: still the caller's content, and nothing was written.
    errors.ContentRejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.StoreFault: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.WatchCut: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.WatchStalled: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UndeclaredEvent: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""By class; a class that is not here has the status of its nearest ancestor that is."""


CLOSE_CODE: Final[dict[type[ThunderlineError], int]] = {
    errors.MalformedBody: 1007,
    errors.BodyTooLarge: 1009,
    errors.ProtocolViolation: 1002,
    errors.ShuttingDown: 1012,
    errors.Overloaded: 1013,
    errors.StoreUnavailable: 1013,
}
"""With what code a link is closed for an error; one whose class, by itself or an ancestor, is not here: 4000 and its
HTTP status. Source: RFC 6455 section 7.4, and the IANA registry of close codes for 1012 and 1013."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error. `code` is the word for machines; `field` names the part of the request at fault."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    field: str | None = None
    retry_after_s: float | None = None


def http_status(kind: type[ThunderlineError]) -> HTTPStatus:
    """The status of an error class. Raises: KeyError when the table has a hole, which a test rules out."""
    for ancestor in kind.__mro__:
        if (status := HTTP_STATUS.get(ancestor)) is not None:
            return status
    raise KeyError(kind)


def close_code(kind: type[ThunderlineError]) -> int:
    """The WebSocket close code of an error class."""
    for ancestor in kind.__mro__:
        if (code := CLOSE_CODE.get(ancestor)) is not None:
            return code
    return 4000 + http_status(kind)


def problem_of(error: ThunderlineError) -> Problem:
    """What the caller is told of `error`."""
    status = http_status(type(error))
    return Problem(
        type=f"urn:thunderline:problem:{error.code}",
        title=status.phrase,
        status=status,
        detail=str(error),
        code=error.code,
        retryable=error.retryable,
        field=getattr(error, "field", None),
        retry_after_s=getattr(error, "retry_after_s", None),
    )


def plain_problem(status: HTTPStatus, detail: str, *, code: str | None = None) -> Problem:
    """What the caller is told where no error of ours stands behind the status; `code` is the status' own by default."""
    return Problem(
        type="about:blank",
        title=status.phrase,
        status=status,
        detail=detail,
        code=code or status.name.lower(),
        retryable=False,
    )


def problem_headers(problem: Problem) -> list[tuple[str, str]]:
    """The headers that go with a problem; `Retry-After` in whole seconds, rounded up."""
    headers = []
    if problem.retry_after_s is not None:
        headers.append(("retry-after", str(math.ceil(problem.retry_after_s))))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        # Whoever sent no token is told no error: RFC 6750, section 3.1.
        shown_none = problem.code == errors.Unauthenticated.code
        headers.append(("www-authenticate", CHALLENGE if shown_none else f'{CHALLENGE}, error="invalid_token"'))
    elif problem.code == errors.NotPermitted.code:
        headers.append(("www-authenticate", f'{CHALLENGE}, error="insufficient_scope"'))
    return headers


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to whatever a handler raised. What we did not raise on purpose is a bug: logged, and told as 500."""
    answered = _answer(_to_problem(error, f"{request.method} {request.url.path}"))
    if isinstance(error, MethodNotAllowedException):
        known = (error.headers or {}).get("allow", "")
        answered.headers["allow"] = allow(filter(None, known.split(", ")), request.scope["path"])
    return answered


def _to_problem(error: Exception, where: str) -> Problem:
    if isinstance(error, ThunderlineError):
        return problem_of(error)
    if isinstance(error, ValidationException):
        return problem_of(_invalid_parameter(error))
    if isinstance(error, HTTPException) and error.status_code < 500:
        status = HTTPStatus(error.status_code)
        return plain_problem(status, f"{where}: {status.phrase.lower()}; the routes are listed at /docs")
    if isinstance(error, InternalServerException) and error.detail == _HUNG_UP:
        # The framework's word for a client that went away in the middle of its body: nobody reads this answer.
        log.debug("client hung up", request=where)
        return plain_problem(HTTPStatus.BAD_REQUEST, "the client went away before the end of the body")
    log.error("request failed", request=where, exc_info=error)
    return plain_problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "this is a bug of the server; its log has the details",
        code="internal_error",
    )


def _invalid_parameter(error: ValidationException) -> InvalidInput:
    found = error.extra if isinstance(error.extra, list) else []
    for item in found:
        if isinstance(item, dict) and "key" in item:
            text = str(item.get("message", "cannot be used"))
            return InvalidInput(str(item["key"]), text[:1].lower() + text[1:])
    return InvalidInput("query", error.detail)


def _answer(problem: Problem) -> Response[bytes]:
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_TYPE,
        headers=dict(problem_headers(problem)),
    )
