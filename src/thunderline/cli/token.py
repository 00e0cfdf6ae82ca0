"""`thunderline token`: who may do what.

A new token's text is told once. It is all that goes to standard output, so that `> FILE` keeps it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from thunderline.cli.desk import ConfigOption, Desk, StoreOption
from thunderline.cli.failures import CommandFailed
from thunderline.cli.figures import ago, rfc3339
from thunderline.cli.options import AsJson, Ca, NamedServer, TokenFile
from thunderline.cli.screen import note, on_terminal, open_console, plain, write_json, write_line, write_rows
from thunderline.core.access import PREFIX, Scope
from thunderline.core.clock import SystemClock
from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import NewToken, NodeName, ReissueInput, read_mapping

if TYPE_CHECKING:
    from thunderline.gate.access_bodies import IssuedBody, ShownToken
    from thunderline.gate.control_messages import DeskRequest, TokensAnswer

Wanted = TypeVar("Wanted", NewToken, ReissueInput)
Keep: TypeAlias = Callable[[str], None]

_PIPED_COLUMNS: Final = (
    *("ID", "KIND", "NAME", "SCOPES", "JOIN.NAMES", "JOIN.ROLE", "JOIN.DOMAIN", "JOIN.USES_LEFT"),
    *("CREATED_AT", "CREATED_BY", "EXPIRES_AT", "REVOKED_AT"),
)
_LIFETIME: Final = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_OPTIONS: Final = {
    "name": "NAME",
    "scopes": "--scope",
    "expires_in_s": "--expires",
    "join.names": "--join",
    "join.role": "--role",
    "join.domain": "--domain",
    "join.uses": "--uses",
}

token = typer.Typer(name="token", help="Create, list and revoke tokens.", no_args_is_help=True)


class FileTaken(CommandFailed):
    """The token's file cannot be made; no token was, either."""


def _read_lifetime(text: str | None) -> int | None:
    if text is None:
        return None
    found = _LIFETIME.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no lifetime; it should look like 90s, 15m, 12h, 30d or 4w")
    return int(found[1]) * _UNITS[found[2]]


Expires = Annotated[
    str | None,
    typer.Option(
        metavar="LIFETIME",
        callback=_read_lifetime,
        show_default="never",
        help="For how long it is good: 90s, 15m, 12h, 30d, 4w.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        show_default="standard output",
        help="A new file for its text, which only its owner can read.",
    ),
]


@token.command()
def create(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="What to call it.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            show_default=False,
            help="What it is good for; repeatable. read: to look. node: to register nodes and speak for any. operator: "
            "to change the cluster, read and node included. admin: all, tokens and the audit log included.",
        ),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            show_default=False,
            help="Instead of a scope: machines become nodes by it whose names match, e.g. 'worker-*'.",
        ),
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="With --join: the role that they get.", show_default="any but controller")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="With --join: the domain that they get.", show_default="any")
    ] = None,
    uses: Annotated[int | None, typer.Option(help="With --join: for how many.", show_default="any number")] = None,
    expires: Expires = None,
    out: Out = None,
    server: NamedServer,
    token_file: TokenFile = None,
    ca: Ca = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: AsJson = False,
) -> None:
    """Create a token, and print its text, this once.

    With --scope it is for a person or a program. With --join it is for machines that are to become nodes: each shows
    it once, and is given a credential of its own.
    """
    from thunderline.gate.control_messages import IssuedAnswer, TokenCreateRequest

    if join is None and (role, domain, uses) != (None, None, None):
        raise typer.BadParameter("are for tokens with --join", param_hint="--role, --domain, --uses")
    terms = None if join is None else {"names": join, "role": role, "domain": domain, "uses": uses}
    given = {"name": name, "scopes": scope or None, "join": terms, "expires_in_s": expires}
    wanted = _read(given, NewToken)
    desk = Desk(server=server, token_file=token_file, ca=ca, store=store, config=config)
    with _kept(out) as keep:
        issued = desk.ask(TokenCreateRequest(wanted), IssuedAnswer).body
        keep(issued.text)
    _tell(issued, out, as_json)


def reissue(
    *,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", show_default=False, help="The node's name; it need not be registered yet."),
    ],
    expires: Expires = None,
    out: Out = None,
    server: NamedServer,
    token_file: TokenFile = None,
    ca: Ca = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: AsJson = False,
) -> None:
    """Give a node a new credential, and print it, this once.

    The credential that it had is good no more, and links that it opened end.
    """
    from thunderline.gate.control_messages import IssuedAnswer, ReissueRequest

    try:
        msgspec.convert(name, NodeName)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"{name!r} cannot be a node's name", param_hint="NAME") from error
    wanted = _read({"expires_in_s": expires}, ReissueInput)
    desk = Desk(server=server, token_file=token_file, ca=ca, store=store, config=config)
    with _kept(out) as keep:
        issued = desk.ask(ReissueRequest(node=name, wanted=wanted), IssuedAnswer).body
        keep(issued.text)
    _tell(issued, out, as_json)


@token.command("list")
def list_tokens(
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that were revoked, too.")] = False,
    server: NamedServer,
    token_file: TokenFile = None,
    ca: Ca = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: AsJson = False,
) -> None:
    """List tokens, join tokens and the credentials of nodes, the oldest first.

    In a pipe the list is tab-separated; its first line names the columns, which are fields of the API.
    """
    from thunderline.gate.control_messages import TokenListRequest, TokensAnswer

    def then(answer: TokensAnswer) -> DeskRequest | None:
        cursor = answer.body.next_cursor
        return None if cursor is None else TokenListRequest(revoked=every, after=cursor)

    desk = Desk(server=server, token_file=token_file, ca=ca, store=store, config=config)
    pages = desk.collect(TokenListRequest(revoked=every), TokensAnswer, then)
    found = [each for page in pages for each in page.body.tokens]
    if as_json:
        write_json(msgspec.json.encode({"tokens": found}))
    elif not on_terminal():
        write_rows(_PIPED_COLUMNS, map(_row, found))
    elif found:
        _show(found)
    if not found:
        note("there are no tokens; 'thunderline token create NAME --scope read' creates one")


@token.command()
def revoke(
    *,
    ref: Annotated[
        str,
        typer.Argument(
            metavar="TOKEN",
            show_default=False,
            help="A token's name or id; or a node's name, whose credential is then meant.",
        ),
    ],
    server: NamedServer,
    token_file: TokenFile = None,
    ca: Ca = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token. What is open by it ends within seconds; one that is revoked already stays so."""
    from thunderline.gate.control_messages import TokenAnswer, TokenRevokeRequest

    _check_ref(ref)
    desk = Desk(server=server, token_file=token_file, ca=ca, store=store, config=config)
    revoked = desk.ask(TokenRevokeRequest(ref), TokenAnswer).body
    if as_json:
        write_json(msgspec.json.encode(revoked))
        return
    write_line(f"revoked: {_kind(revoked.token)} {revoked.token.name}")


def _check_ref(ref: str) -> None:
    if ref.startswith(PREFIX):
        # It would become part of a URL, and of an error: it is a secret.
        raise typer.BadParameter("should be the token's name or id, not its text", param_hint="TOKEN")
    try:
        msgspec.convert(ref, NodeName)  # an id has the form of a name, too
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"{ref[:255]!r} is no name and no id", param_hint="TOKEN") from error


def _read(given: Mapping[str, object], kind: type[Wanted]) -> Wanted:
    try:
        return read_mapping(given, kind)
    except InvalidInput as error:
        option = _OPTIONS.get(error.field)
        if error.field == "scopes" and not given.get("scopes") and given.get("join") is None:
            raise typer.BadParameter("is required, or --join: they say what it is for", param_hint="--scope") from error
        if error.field == "scopes" and given.get("join") is not None:
            raise typer.BadParameter("is for tokens without --join", param_hint="--scope") from error
        raise typer.BadParameter(error.problem if option else str(error), param_hint=option) from error


@contextmanager
def _kept(out: Path | None) -> Iterator[Keep]:
    """A block that has a file for a token's text, before there is a token; without the token, none is left."""
    if out is None:
        yield lambda text: None
        return
    try:
        opened = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileTaken(f"{out} cannot be made: {error.strerror}; no token was created") from error
    kept = False

    def keep(text: str) -> None:
        nonlocal kept
        try:
            written.write(f"{text}\n")
            written.flush()
            os.fsync(written.fileno())
        except OSError as error:
            raise CommandFailed(
                f"the token was created, but {out} cannot be written: {error.strerror}; revoke it, and create another"
            ) from error
        kept = True

    with open(opened, "w", encoding="ascii") as written:
        try:
            yield keep
        finally:
            if not kept:
                out.unlink(missing_ok=True)


def _tell(issued: IssuedBody, out: Path | None, as_json: bool) -> None:
    shown = issued.token
    where = "" if out is None else f" Its text is in {out}."
    if as_json:
        write_json(msgspec.json.encode(issued if out is None else {"token": shown}))
        return
    if out is None:
        write_line(issued.text)
        where = " Its text is told this once: keep it in a file that nobody else can read."
    until = "until it is revoked" if shown.expires_at is None else f"until {rfc3339(shown.expires_at)}"
    note(f"{_kind(shown)} {shown.name} is good {until}.{where}")


def _kind(shown: ShownToken) -> str:
    return {"token": "token", "join": "join token", "credential": "credential of"}[shown.kind]


def _row(shown: ShownToken) -> Sequence[object]:
    join = shown.join
    return (
        *(shown.id, shown.kind, shown.name, ",".join(shown.scopes)),
        *((None, None, None, None) if join is None else (join.names, join.role, join.domain, join.uses_left)),
        *(rfc3339(shown.created_at), shown.created_by, rfc3339(shown.expires_at), rfc3339(shown.revoked_at)),
    )


def _show(found: Sequence[ShownToken]) -> None:
    now = SystemClock().now()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("NAME", "KIND", "GOOD FOR", "STATE", "CREATED", "BY"):
        table.add_column(heading, overflow="fold")
    for each in found:
        table.add_row(
            plain(each.name),
            plain(each.kind),
            plain(_purpose(each)),
            _state(each, now),
            plain(ago(each.created_at, now)),
            plain(each.created_by),
        )
    open_console().print(table)


def _purpose(shown: ShownToken) -> str:
    if shown.join is None:
        return ", ".join(shown.scopes) or "itself"
    join = shown.join
    uses = "" if join.uses_left is None else f"{join.uses_left} more of "
    limits = ", ".join(part for part in (join.role, join.domain) if part is not None)
    return f"{uses}{join.names}{f' ({limits})' if limits else ''}"


def _state(shown: ShownToken, now: datetime) -> Text:
    if shown.revoked_at is not None:
        return Text(f"revoked {ago(shown.revoked_at, now)}", style="dim")
    if shown.expires_at is None:
        return Text("good", style="green")
    if shown.expires_at <= now:
        return Text(f"expired {ago(shown.expires_at, now)}", style="yellow")
    return Text(f"good for {ago(now, shown.expires_at).removesuffix(' ago')}", style="green")
