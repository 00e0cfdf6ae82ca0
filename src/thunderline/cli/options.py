"""Options and arguments that several client commands take, checked before anything is asked of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer

from thunderline.core.inputs import NodeName
from thunderline.core.settings import named_server, server_url


def _check_url(url: str) -> str:
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise typer.BadParameter(f"{url!r} is no server's address; it should look like http://127.0.0.1:4040")
    if parts.username is not None or parts.password is not None:
        # Not repeated: it would stand in whatever keeps this message.
        raise typer.BadParameter("the server's address must hold no user and no password")
    if parts.query or parts.fragment or whole.endswith(("?", "#")):
        raise typer.BadParameter(f"{url!r} must end with the path: a server's address has no query and no fragment")
    return whole.rstrip("/")


def _check_named_url(url: str | None) -> str | None:
    return None if url is None else _check_url(url)


def _check_ref(ref: str) -> str:
    try:
        msgspec.convert(ref, NodeName)  # an id has the form of a name, too
    except msgspec.ValidationError as error:
        raise typer.BadParameter(
            f"{ref!r} cannot be a node's name: letters, digits and . _ @ : - only, a letter or digit first"
        ) from error
    return ref


def check_node(ref: str | None) -> str | None:
    """`ref`, if a node can have it as its name or id. Raises: typer.BadParameter."""
    return None if ref is None else _check_ref(ref)


def check_group(ref: str | None) -> str | None:
    """`ref`, if a group can have it as its name or id. Raises: typer.BadParameter."""
    try:
        return None if ref is None else msgspec.convert(ref, NodeName)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(
            f"{ref!r} cannot be a group's name: letters, digits and . _ @ : - only, a letter or digit first"
        ) from error


Server = Annotated[
    str,
    typer.Option(
        metavar="URL",
        default_factory=server_url,
        show_default="http://127.0.0.1:4040",
        callback=_check_url,
        help="The server to ask. THUNDERLINE_SERVER sets it for every command.",
    ),
]
NamedServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        default_factory=named_server,
        show_default="the database's own",
        callback=_check_named_url,
        help="The server to ask over HTTP, with a token of scope admin. Otherwise the one that holds the database on "
        "this machine is asked, and where none does, the database itself.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="The file with the token to show. THUNDERLINE_TOKEN_FILE sets it for every command.",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        show_default="the system's",
        help="The authorities to trust, in PEM. THUNDERLINE_CA sets it for every command.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own answer, exactly one JSON document.")]
NodeRef = Annotated[
    str, typer.Argument(metavar="NODE", callback=_check_ref, show_default=False, help="A node's name or id.")
]
