"""`thunderline serve`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from thunderline.core.settings import load_settings, unknown_environ

_OPEN_FILES: Final = 65_536
"""More than the links that a server holds by default, with files and connections of other kinds."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.", show_default="4040")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where records are kept: sqlite:///PATH or postgresql://HOST/NAME.", show_default="user data directory"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; see docs/configuration.md.")] = None,
) -> None:
    """Run the registry until SIGTERM or Ctrl-C.

    Settings come from the file, then THUNDERLINE_* variables, then these options; the later wins. Exit codes: 0 after
    a clean stop, 2 when it cannot start as asked, e.g. because another process owns the database.
    """
    # Imported here: the client commands start in half the time without the server's libraries.
    import uvloop

    from thunderline.core.logging import configure_logging, get_logger
    from thunderline.server import serve_until_signalled

    settings = load_settings(file=config, flags={"host": host, "port": port, "store": store})
    configure_logging(level=settings.log_level, format=settings.log_format)
    for name in unknown_environ():
        get_logger(__name__).warning("not a setting, ignored", variable=name)
    _raise_open_files()
    uvloop.run(serve_until_signalled(settings, announce=_announce))


def _raise_open_files() -> None:
    """Let the process have as many open files as it may: each link takes one, and the usual limit is 1,024."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if now == resource.RLIM_INFINITY or now >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _announce(url: str, data: str) -> None:
    sys.stdout.write(f"Thunderline is up: {url}\nData: {data}\nStop it with Ctrl-C.\n")
    sys.stdout.flush()
