"""`thunderline serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from thunderline.core.settings import load_settings, unknown_environ


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.", show_default="4040")] = None,
    store: Annotated[
        str | None, typer.Option(help="Where records are kept: sqlite:///PATH.", show_default="user data directory")
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
    uvloop.run(serve_until_signalled(settings, announce=_announce))


def _announce(url: str, data: str) -> None:
    sys.stdout.write(f"Thunderline is up: {url}\nData: {data}\nStop it with Ctrl-C.\n")
    sys.stdout.flush()
