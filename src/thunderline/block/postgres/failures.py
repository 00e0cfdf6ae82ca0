"""What went wrong between us and PostgreSQL, told as errors of ours."""

from __future__ import annotations

from typing import Final

import asyncpg

from thunderline.core.errors import ContentRejected, StoreUnavailable

DRIVER_ERRORS: Final = (
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    *(OSError, TimeoutError, EOFError),
)
"""All that the driver raises."""

_CONTENT: Final = ("22", "23", "54")
"""Classes of errors that are about what was to be written: data, integrity, limits of the engine.
Source: PostgreSQL, appendix A."""

_MAY_HAVE_HAPPENED: Final = ("08", "57", "58", "XX")
"""Classes in which a commit can have been carried out: the connection, an operator, the system, the server itself."""

WRONG_DATABASE: Final = {
    "28": "check the user and its password in the store's URL, and the server's pg_hba.conf",
    "3D": "create that database with ENCODING 'UTF8', or correct its name in the store's URL",
    "42501": "grant this role CONNECT on the database",
}
"""Refusals at connecting that no later try mends by itself, and what does."""


def told(error: BaseException) -> StoreUnavailable | ContentRejected:
    """The error of ours for one of the driver, raised by a statement that was not a commit."""
    if isinstance(error, asyncpg.PostgresError):
        state = _state(error)
        return ContentRejected(describe(error)) if state.startswith(_CONTENT) else StoreUnavailable(describe(error))
    if isinstance(error, asyncpg.DataError | ValueError | OverflowError):  # what the driver cannot encode
        return ContentRejected(str(error))
    return StoreUnavailable(describe(error))


def is_settled(error: BaseException) -> bool:
    """Whether a commit that ended so has written nothing."""
    return isinstance(error, asyncpg.PostgresError) and not _state(error).startswith(_MAY_HAVE_HAPPENED)


def is_about(error: BaseException, *states: str) -> bool:
    """Whether the server said so, with one of these states or classes of them."""
    return isinstance(error, asyncpg.PostgresError) and _state(error).startswith(states)


def describe(error: BaseException) -> str:
    """The engine's own words for an error; never the address with which it was reached, which may hold a secret."""
    if isinstance(error, TimeoutError) and not str(error):
        return "PostgreSQL did not answer in time"
    if isinstance(error, asyncpg.PostgresError):
        detail = getattr(error, "detail", None)
        return f"{_state(error)} {error}" + (f" ({detail})" if detail else "")
    return str(error) or type(error).__name__


def _state(error: asyncpg.PostgresError) -> str:
    return str(getattr(error, "sqlstate", None) or "XX000")
