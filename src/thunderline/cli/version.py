"""`thunderline version`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

import thunderline
from thunderline.cli.failures import RemoteError
from thunderline.cli.options import AsJson, Ca, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import note, write_json, write_line
from thunderline.client.answers import Health

ANSWER_TIMEOUT_S: Final = 2.0
"""Short: the server's version is an extra here."""


def version(*, server: Server, token_file: TokenFile = None, ca: Ca = None, as_json: AsJson = False) -> None:
    """Print this program's version, and the server's.

    Where no server answers that is said, and is no error.
    """
    found, problem = _ask(server, token_file, ca)
    if as_json:
        told = {"url": server, "version": found, "problem": problem}
        write_json(msgspec.json.encode({"client": thunderline.__version__, "server": told}))
        return
    write_line(f"thunderline {thunderline.__version__}")
    write_line(f"server {found} at {server}" if problem is None else f"server unknown: {problem}")


def _ask(server: str, token_file: Path | None, ca: Path | None) -> tuple[str | None, str | None]:
    """The server's version, or why it is not known."""
    try:
        with Remote(server, token_file=token_file, ca=ca, warn=note, answer_timeout_s=ANSWER_TIMEOUT_S) as remote:
            return remote.get("/healthz", Health).version, None
    except RemoteError as error:
        return None, str(error)
