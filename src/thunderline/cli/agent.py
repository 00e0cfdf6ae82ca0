"""`thunderline agent`."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from thunderline.cli.failures import CommandFailed
from thunderline.cli.options import Ca, Server, TokenFile
from thunderline.cli.screen import note, write_if_read
from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import PEERS_MAX, HeartbeatInput, read_mapping

if TYPE_CHECKING:
    from thunderline.agent.agent import Agent
    from thunderline.agent.peers import Peer
    from thunderline.client.link import Link

EXIT_ENDED: Final = 3
"""The registry ended the link for good. A supervisor must not start the agent again: it would fight for the name."""

_OPTIONS: Final = {
    "url": "--server",
    "name": "--name",
    "role": "--role",
    "domain": "--domain",
    "interval_s": "--interval",
    "labels": "--label",
    "meta": "--meta",
    "capabilities": "--capability",
    "peers": "--peer",
    "token_file": "--token-file",
    "credential_file": "--credential-file",
    "ca": "--ca",
}


class AgentFailed(CommandFailed):
    """The agent could not become a node."""

    code = "agent_failed"


def agent(
    *,
    server: Server,
    name: Annotated[
        str | None,
        typer.Option(help="The node's name, unique in the cluster.", show_default="this machine's host name"),
    ] = None,
    role: Annotated[str | None, typer.Option(help="Its role, e.g. worker or gateway.", show_default="worker")] = None,
    domain: Annotated[str | None, typer.Option(help="Its domain.", show_default="thunderlink")] = None,
    interval: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Time between beats of a new node.", show_default="the server's"),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; may be repeated.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An entry of its meta, as text; may be repeated.")
    ] = None,
    capability: Annotated[
        list[str] | None, typer.Option(metavar="KEY[=VALUE]", help="Something it can do; may be repeated.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT", help="A node whose distance is measured; may be repeated."),
    ] = None,
    token_file: TokenFile = None,
    credential_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="user data directory",
            help="Where the node keeps its credential, once it has joined with the token.",
        ),
    ] = None,
    ca: Ca = None,
) -> None:
    """Make this machine a node, with its load, memory and peers.

    It runs until SIGTERM or Ctrl-C. It may start before the server does, lives through its restarts, and delivers
    what it measured meanwhile. Exit codes: 0 after a goodbye, 2 for wrong options, 3 when the registry ended the link
    for good, e.g. because another process took over the name; a supervisor should not start it again after that.
    """
    # Imported here: the other commands need none of it.
    from thunderline.agent.agent import Agent, AgentOptions, run_until_signalled
    from thunderline.client.credential import default_credential_file
    from thunderline.client.errors import ClientError
    from thunderline.client.link_errors import LinkEnded, LinkUnauthorized
    from thunderline.core.host import host_name
    from thunderline.core.logging import configure_logging

    name = host_name() if name is None else name
    kept_in = default_credential_file(server, name) if credential_file is None else credential_file
    options = AgentOptions(
        server=server,
        name=name,
        role=role,
        domain=domain,
        interval_s=interval,
        labels=_pairs(label, "--label"),
        meta=_pairs(meta, "--meta"),
        capabilities=_capabilities(capability),
        peers=_peers(peer),
        token_file=token_file,
        credential_file=kept_in,
        ca=ca,
    )
    made = _made(Agent, options)
    configure_logging()
    try:
        asyncio.run(run_until_signalled(made, announce=_announce))
    except LinkUnauthorized as error:
        note(f"{name} is not let in by {server} ({error.code}): {error}")
        if kept_in.exists():
            note(f"It showed the credential in {kept_in}; put another there: thunderline node reissue {name}")
        raise typer.Exit(EXIT_ENDED) from error
    except LinkEnded as error:
        note(f"{made.link.name} is no longer linked to {server} ({error.code}): {error}")
        raise typer.Exit(EXIT_ENDED) from error
    except ClientError as error:
        raise AgentFailed(str(error)) from error


def _made(kind: type[Agent], options: object) -> Agent:
    try:
        return kind(options)  # type: ignore[arg-type]  # the module of the type is imported late
    except InvalidInput as error:
        _refuse(error)


def _announce(link: Link) -> None:
    # Whether anybody reads this is no matter of the node's.
    write_if_read([f"{link.name} is linked as node {link.node_id}.", "Stop it with Ctrl-C."])


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    if not given:
        return None
    pairs: dict[str, str] = {}
    for text in given:
        key, found, value = text.partition("=")
        if not found or not key:
            raise typer.BadParameter(f"{text!r} should look like KEY=VALUE", param_hint=option)
        _refuse_second(key, pairs, option)
        pairs[key] = value
    return pairs


def _capabilities(given: Sequence[str] | None) -> dict[str, dict[str, object]] | None:
    if not given:
        return None
    found: dict[str, dict[str, object]] = {}
    for text in given:
        key, named, value = text.partition("=")
        if not key:
            raise typer.BadParameter(f"{text!r} should look like KEY or KEY=VALUE", param_hint="--capability")
        _refuse_second(key, found, "--capability")
        found[key] = {"value": value} if named else {}
    return found


def _peers(given: Sequence[str] | None) -> dict[str, Peer]:
    from thunderline.agent.peers import Peer

    peers: dict[str, Peer] = {}
    for text in given or ():
        name, _, where = text.partition("=")
        host, _, port = where.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not name or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            raise typer.BadParameter(
                f"{text!r} should look like NAME=HOST:PORT, e.g. worker-2=10.0.0.7:22", param_hint="--peer"
            )
        _refuse_second(name, peers, "--peer")
        peers[name] = Peer(host, int(port))
    if len(peers) > PEERS_MAX:
        raise typer.BadParameter(f"{len(peers)} are more than the {PEERS_MAX} that a beat holds", param_hint="--peer")
    try:
        read_mapping({"peers": dict.fromkeys(peers)}, HeartbeatInput)
    except InvalidInput as error:
        _refuse(error)
    return peers


def _refuse_second(key: str, given: Container[str], option: str) -> None:
    if key in given:
        raise typer.BadParameter(f"{key!r} is given twice", param_hint=option)


def _refuse(error: InvalidInput) -> NoReturn:
    option = _OPTIONS.get(error.field.partition(".")[0].partition("[")[0])
    raise typer.BadParameter(error.problem if option else str(error), param_hint=option) from error
