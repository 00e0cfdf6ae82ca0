"""The token of a server's first start: without one, nobody could make the others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from thunderline.core.access import ALL_SCOPES
from thunderline.core.errors import SettingsError
from thunderline.core.logging import get_logger
from thunderline.link.actor import Actor, ActorKind
from thunderline.link.registry import Registry

log = get_logger(__name__)

FILE_NAME: Final = "thunderline-admin.token"
SERVER: Final = Actor(kind=ActorKind.OPERATOR, name="server", scopes=ALL_SCOPES)
"""Who made it, in the audit log."""


async def give_first_token(registry: Registry, file: Path) -> Path | None:
    """Where a token with every scope was written now; None where there is a good one of scope `admin` already.

    The file is new, and its owner's alone. Raises: SettingsError naming `admin_token_file` when it cannot be written;
    the token is revoked then.
    """
    issued = await registry.tokens.first_token(actor=SERVER)
    if issued is None:
        return None
    try:
        await asyncio.to_thread(write_token, file, issued.text)
    except OSError as error:
        await registry.tokens.revoke(issued.token.id, actor=SERVER)
        what = "exists already; move it away, or name another file" if isinstance(error, FileExistsError) else None
        raise SettingsError(
            "admin_token_file",
            f"the first token cannot be written: {file} {what or f'({error.strerror}); name another file'}",
            source="admin_token_file",
        ) from error
    log.info("first token written", file=str(file), token_id=issued.token.id)
    return file


def write_token(file: Path, text: str) -> None:
    """Write a token into a new file that only its owner can read, and onto stable storage.

    Nothing is left of it where that cannot be done. Raises: OSError; FileExistsError where there is anything by that
    name, a link to nowhere too.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(opened, "w", encoding="ascii") as written:
            written.write(f"{text}\n")
            written.flush()
            os.fsync(written.fileno())
        _sync(file.parent)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
