"""`thunderline node`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from thunderline.cli.answers import PlainNodeAnswer
from thunderline.cli.figures import ago, mebibytes, milliseconds, moment, percent
from thunderline.cli.lookup import looking_up
from thunderline.cli.marks import flapping_reason, left_on_purpose, status_text
from thunderline.cli.options import AsJson, Ca, NodeRef, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import (
    cell,
    clean,
    escape_json,
    note,
    on_terminal,
    open_console,
    plain,
    write_json,
    write_rows,
)
from thunderline.client.answers import NodeAnswer, PresentNode
from thunderline.client.calls import node_path
from thunderline.core.records import Heartbeat, LinkSession

HEARTBEATS_SHOWN: Final = 5
_ALL: Final = (("load", "sessions,heartbeats"),)
_FIGURES: Final = frozenset({"SEQ", "CPU", "MEM", "LATENCY"})

Fields = Sequence[tuple[str, Text]]


def node(*, ref: NodeRef, server: Server, token_file: TokenFile = None, ca: Ca = None, as_json: AsJson = False) -> None:
    """Show one node in full, with its sessions and heartbeats.

    Sessions are the open ones, heartbeats the latest. In a pipe each field is one line: its path in the API's answer,
    a tab, its value. With --json: the API's answer.
    """
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote, looking_up(remote, ref):
        if as_json:
            write_json(bytes(remote.get(node_path(ref), msgspec.Raw, _ALL)))
        elif on_terminal():
            answer = remote.get(node_path(ref), NodeAnswer, _ALL)
            _show(answer, remote.now)
        else:
            write_rows(("FIELD", "VALUE"), _piped_rows(remote.get(node_path(ref), PlainNodeAnswer, _ALL)))


def _piped_rows(answer: PlainNodeAnswer) -> Iterator[tuple[str, object]]:
    yield from _leaves("", answer.node)
    yield from _leaves("sessions", answer.sessions)
    yield from _leaves("heartbeats", answer.heartbeats[-HEARTBEATS_SHOWN:])


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Every value inside `value` under its path: keys and positions, joined by dots."""
    if isinstance(value, list):
        value = {str(at): item for at, item in enumerate(value)}
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, item)
    elif value in (None, {}):
        yield path, None
    elif isinstance(value, str):
        yield path, value
    else:
        yield path, msgspec.json.encode(value).decode()


def _show(answer: NodeAnswer, now: datetime) -> None:
    console, shown = open_console(), answer.node
    console.print(Text(cell(shown.name), style="bold"))
    _show_fields(console, "Status", _status_fields(shown, now))
    _show_fields(console, "Identity", _identity_fields(shown))
    _show_fields(console, "Presence", _presence_fields(shown, now))
    _show_fields(console, "Record", _record_fields(shown, now))
    _show_fields(console, "Labels", [(key, plain(value)) for key, value in sorted(shown.labels.items())])
    _show_fields(
        console,
        "Capabilities",
        [
            (key, plain(f"{item.value or 'yes'}{'' if item.enabled else ' (switched off)'}"))
            for key, item in sorted(shown.capabilities.items())
        ],
    )
    if shown.meta:
        _show_heading(console, "Meta")
        text = msgspec.json.format(msgspec.json.encode(shown.meta), indent=2).decode()
        console.print(Padding(Text(escape_json(text), overflow="fold"), (0, 0, 0, 2)))
    _show_sessions(console, answer.sessions, now)
    _show_heartbeats(console, answer.heartbeats, now)


def _status(shown: PresentNode) -> Text:
    return status_text(shown.status, left=left_on_purpose(shown))


def _status_fields(shown: PresentNode, now: datetime) -> Fields:
    fields = [
        ("status", Text.assemble(_status(shown), ": ", cell(flapping_reason(shown)))),
        ("since", plain(moment(shown.status_since, now))),
        ("observed", plain(f"{shown.observed_status}: {shown.observed_reason}")),
    ]
    override = shown.override
    if override is None:
        return [*fields, ("override", plain(None))]
    in_effect = "" if override.status is shown.status else f", which does not show over {shown.observed_status}"
    until = (
        f"'thunderline lift {shown.name}' lifts it" if override.expires_at is None else moment(override.expires_at, now)
    )
    return [
        *fields,
        ("override", plain(f"{override.status}: {override.reason}{in_effect}")),
        ("  by", plain(override.by)),
        ("  at", plain(moment(override.at, now))),
        ("  until", plain(until)),
    ]


def _identity_fields(shown: PresentNode) -> Fields:
    values = {
        "id": shown.id,
        "role": shown.role,
        "domain": shown.domain,
        "cluster type": shown.cluster_type,
        "groups": ", ".join(shown.groups),
        "address": shown.address,
        "peer id": shown.peer_id,
        "did": shown.did,
        "instance": shown.instance,
        "incarnation": shown.incarnation,
    }
    return [(name, plain(value)) for name, value in values.items()]


def _presence_fields(shown: PresentNode, now: datetime) -> Fields:
    presence = shown.presence
    return [
        ("last seen", plain(moment(presence.last_seen_at, now))),
        ("last heartbeat", plain(moment(presence.last_heartbeat_at, now))),
        ("heartbeat interval", plain(f"{shown.heartbeat_interval_ms / 1000:g} s")),
        ("open sessions", plain(presence.sessions)),
        ("owner", plain(presence.owner)),
    ]


def _record_fields(shown: PresentNode, now: datetime) -> Fields:
    return [
        ("registered", plain(moment(shown.inserted_at, now))),
        ("updated", plain(moment(shown.updated_at, now))),
        ("revision", plain(shown.revision)),
    ]


def _show_sessions(console: Console, sessions: Sequence[LinkSession], now: datetime) -> None:
    rows = [
        (
            plain(session.session_id),
            plain("registry" if session.remote_node_id is None else session.remote_node_id),
            plain(session.session_type),
            plain(session.connection_type),
            plain(session.status),
            plain(milliseconds(session.latency_ms)),
            plain(ago(session.last_activity_at, now)),
        )
        for session in sessions
    ]
    _show_rows(
        console, "Open sessions", ("SESSION", "REMOTE", "TYPE", "CONNECTION", "STATUS", "LATENCY", "ACTIVE"), rows
    )


def _show_heartbeats(console: Console, heartbeats: Sequence[Heartbeat], now: datetime) -> None:
    rows = [
        (
            plain(f"{beat.at:%H:%M:%S} ({ago(beat.at, now)})"),
            plain(beat.status),
            plain(beat.seq),
            plain(percent(beat.cpu_load)),
            plain(mebibytes(beat.mem_used_mb)),
            plain(milliseconds(beat.latency_ms)),
            plain(_reached(beat)),
        )
        for beat in reversed(heartbeats[-HEARTBEATS_SHOWN:])
    ]
    _show_rows(
        console, "Latest heartbeats", ("AT (UTC)", "STATUS", "SEQ", "CPU", "MEM", "LATENCY", "PEERS REACHED"), rows
    )


def _reached(beat: Heartbeat) -> str | None:
    if not beat.peers:
        return None
    return f"{sum(latency is not None for latency in beat.peers.values())} of {len(beat.peers)}"


def _show_heading(console: Console, heading: str) -> None:
    console.print(Text(f"\n{heading}", style="bold"))


def _show_fields(console: Console, heading: str, fields: Fields) -> None:
    if not fields:
        return
    _show_heading(console, heading)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", overflow="fold", min_width=20)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(Text(f"  {clean(name)}"), value)
    console.print(table)


def _show_rows(console: Console, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    _show_heading(console, heading)
    if not rows:
        console.print(Text("  none", style="dim"))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in _FIGURES else "left")
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, 2)))
