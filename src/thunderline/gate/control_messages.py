"""What a server and the command line of its machine say to each other over the control socket.

One connection is one request: a line of JSON, answered by any number of `progress` lines and one that is the last. Both
sides ignore fields that they do not know. A request that a server does not know gets `failed` with `unknown_request`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from thunderline.block.upkeep import Backup, DatabaseStatus
from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import NewToken, NodeName, ReissueInput
from thunderline.gate.access_bodies import AuditBody, IssuedBody, TokenBody, TokensBody

M = TypeVar("M")

LINE_MAX_BYTES: Final = 65_536
PATH_MAX_BYTES: Final = 100
"""Bytes of a socket's path that every system takes; a longer one is reached another way. Source: unix(7)."""
KEEP_ALIVE_S: Final = 2.0
"""A server that works says so at least this often."""
PAGE_MAX: Final = 25
"""Tokens, or entries of the audit log, in one answer: each takes two names of 255 characters, a pattern and times."""


class StatusRequest(msgspec.Struct, frozen=True, tag="status"):
    """How does the database stand?"""


class BackupRequest(msgspec.Struct, frozen=True, kw_only=True, tag="backup"):
    """Copy the database into `file`, an absolute path.

    `directory` is what the asking process sees as the file's directory (device, inode): a server that sees another one
    there, e.g. because its unit has a /tmp of its own, would write where nobody looks.
    """

    file: str
    overwrite: bool
    directory: tuple[int, int]


class TokenCreateRequest(msgspec.Struct, frozen=True, tag="token_create"):
    """Create a token. A server that does not know all that is asked of it creates none."""

    token: NewToken


class ReissueRequest(msgspec.Struct, frozen=True, tag="reissue"):
    """Give the node of that name a new credential."""

    node: NodeName
    wanted: ReissueInput


class TokenRevokeRequest(msgspec.Struct, frozen=True, tag="token_revoke"):
    """Revoke the token with this id or name, or the node's credential."""

    ref: str


class TokenListRequest(msgspec.Struct, frozen=True, kw_only=True, tag="token_list"):
    """Which tokens are there? At most `limit`, and never more than `PAGE_MAX`, beyond the id `after`."""

    revoked: bool = False
    after: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] = PAGE_MAX


class AuditRequest(msgspec.Struct, frozen=True, kw_only=True, tag="audit"):
    """What does the audit log say? The newest `limit` entries, and never more than `PAGE_MAX`, before `before`."""

    before: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] = PAGE_MAX


DeskRequest: TypeAlias = TokenCreateRequest | ReissueRequest | TokenRevokeRequest | TokenListRequest | AuditRequest
"""What is asked of the registry; the others are about its database."""
Request: TypeAlias = StatusRequest | BackupRequest | DeskRequest


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """The work goes on: `done` of `total` of this step, in units of the step's own."""

    step: str
    done: int
    total: int


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """The answer to StatusRequest."""

    status: DatabaseStatus


class BackupAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="backup"):
    """The answer to BackupRequest: the backup is durable."""

    backup: Backup


class IssuedAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="issued"):
    """The answer to TokenCreateRequest and ReissueRequest."""

    body: IssuedBody


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="token"):
    """The answer to TokenRevokeRequest."""

    body: TokenBody


class TokensAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="tokens"):
    """The answer to TokenListRequest."""

    body: TokensBody


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="audit"):
    """The answer to AuditRequest."""

    body: AuditBody


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """It was not done; `code` and `message` are those of the error."""

    code: str
    message: str


DeskAnswer: TypeAlias = IssuedAnswer | TokenAnswer | TokensAnswer | AuditAnswer
Answer: TypeAlias = Progress | StatusAnswer | BackupAnswer | DeskAnswer | Failed

_ENCODER: Final = msgspec.json.Encoder()


def write_line(message: Request | Answer) -> bytes:
    """`message` as it travels."""
    return _ENCODER.encode(message) + b"\n"


def read_request(line: bytes) -> Request:
    """The request of one line. Raises: InvalidInput."""
    try:
        request: Request = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("request", str(error)) from error
    return request


def read_answer(line: bytes) -> Answer:
    """The answer of one line. Raises: InvalidInput."""
    try:
        answer: Answer = msgspec.json.decode(line, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("answer", str(error)) from error
    return answer


def identify(directory: Path) -> tuple[int, int]:
    """What tells a directory from every other on this machine. Raises: OSError."""
    found = directory.stat()
    return found.st_dev, found.st_ino


def is_short(path: Path) -> bool:
    """Whether a socket can be bound or reached under this path as it is."""
    return len(os.fsencode(path)) <= PATH_MAX_BYTES
