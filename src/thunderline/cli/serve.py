"""`thunderline serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thunderline.core.settings import load_settings, unknown_environ

if TYPE_CHECKING:
    from thunderline.server import Server


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.", show_default="4040")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where records are kept: sqlite:///PATH or postgresql://HOST/NAME.", show_default="user data directory"
        ),
    ] = None,
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth",
            help="Ask callers for a token. A first start writes one into a file.",
            show_default="only loopback is served, to everybody",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate, in PEM: speak TLS.", show_default="no TLS"),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its key, in PEM.", show_default="in the certificate's file"),
    ] = None,
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK",
            help="Where proxies are that speak TLS for this server, e.g. 10.0.0.0/24: only they are answered. "
            "May be repeated.",
            show_default="none",
        ),
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where a first start with --auth writes its token.", show_default="beside the store"
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

    flags = {
        "host": host,
        "port": port,
        "store": store,
        "auth": auth,
        "tls_cert": None if tls_cert is None else str(tls_cert),
        "tls_key": None if tls_key is None else str(tls_key),
        "behind_proxy": behind_proxy or None,
        "admin_token_file": None if admin_token_file is None else str(admin_token_file),
    }
    settings = load_settings(file=config, flags=flags)
    configure_logging(level=settings.log_level, format=settings.log_format)
    for name in unknown_environ():
        get_logger(__name__).warning("not a setting, ignored", variable=name)
    uvloop.run(serve_until_signalled(settings, announce=_announce))


def _announce(server: Server) -> None:
    lines = [f"Thunderline is up: {server.url}", f"Data: {server.registry.store_location}"]
    if server.admin_token_file is not None:
        lines.append(f"A token for the first administrator is in {server.admin_token_file}")
    sys.stdout.write("\n".join([*lines, "Stop it with Ctrl-C."]) + "\n")
    sys.stdout.flush()
