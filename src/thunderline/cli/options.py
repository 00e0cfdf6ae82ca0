"""Options and arguments that several client commands take, checked before anything is asked of a server."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import typer

from thunderline.core.inputs import NodeName
from thunderline.core.settings import server_url


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
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own answer, exactly one JSON document.")]
NodeRef = Annotated[
    str, typer.Argument(metavar="NODE", callback=_check_ref, show_default=False, help="A node's name or id.")
]
