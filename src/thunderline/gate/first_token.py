"""The token of a server's first start: without one, nobody could make the others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from thunderline.core.access import ALL_SCOPES, new_secret, token_text
from thunderline.core.errors import SettingsError
from thunderline.core.ids import TokenId
from thunderline.core.logging import get_logger
from thunderline.link.actor import Actor, ActorKind
from thunderline.link.registry import Registry

log = get_logger(__name__)

_TEXT_MAX: Final = 256

FILE_NAME: Final = "thunderline-admin.token"
SERVER: Final = Actor(kind=ActorKind.OPERATOR, name="server", scopes=ALL_SCOPES)
"""Who made it, in the audit log."""


async def give_first_token(registry: Registry, file: Path) -> Path | None:
    """Where a token with every scope was written now; None where there is a good one of scope `admin` already.

    The file is its owner's alone, and there before the token is good: a crash between leaves a file that the next start
    writes again. Raises: SettingsError naming `admin_token_file` when it cannot be written and no token was ever made;
    else that is logged, as those who run the server have other ways by then.
    """
    if registry.tokens.has_admin():
        return None
    token_id, secret = TokenId(registry.new_id()), new_secret()
    try:
        await asyncio.to_thread(write_token, file, token_text(token_id, secret), replacing=registry.access.is_stale)
    except OSError as error:
        what = "holds a good token; move it away, or name another file" if isinstance(error, FileExistsError) else None
        problem = f"the first token cannot be written: {file} {what or f'({error.strerror}); name another file'}"
        if len(registry.roster.tokens):
            log.error("there is no good admin token; make one with `thunderline token create`", reason=problem)
            return None
        raise SettingsError("admin_token_file", problem, source="admin_token_file") from error
    try:
        await registry.tokens.first_token((token_id, secret), actor=SERVER)
    except BaseException:
        await asyncio.to_thread(file.unlink, missing_ok=True)
        raise
    log.info("first token written", file=str(file), token_id=token_id)
    return file


def write_token(file: Path, text: str, *, replacing: Callable[[str], bool]) -> None:
    """Write a token into a file that only its owner can read, and onto stable storage.

    In the place of one whose text may go (`replacing`). Nothing is left of it where that cannot be done. Raises:
    OSError; FileExistsError where there is anything else by that name, a link to nowhere too.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _is_stale(file, replacing):
        file.unlink()
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


def _is_stale(file: Path, replacing: Callable[[str], bool]) -> bool:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > _TEXT_MAX:
        return False
    return replacing(file.read_text(encoding="ascii", errors="replace").strip())


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
