"""A status as a shape, a colour and a word: each of the three is enough by itself.

The shapes are those of the dashboard. Colours are the terminal's own, which its theme keeps readable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, assert_never

import msgspec
from rich.text import Text

from thunderline.core.records import Node, NodeStatus
from thunderline.link.liveness import has_left


class Mark(msgspec.Struct, frozen=True):
    """How one status looks on a terminal."""

    shape: str
    colour: str


_ONLINE: Final = Mark("●", "green")
_DEGRADED: Final = Mark("▲", "yellow")
_DISCONNECTED: Final = Mark("◆", "cyan")
_LOST: Final = Mark("⊠", "bold red")
_LEFT: Final = Mark("○", "dim")
_CONNECTING: Final = Mark("◌", "magenta")


def mark_of(status: NodeStatus, *, left: bool) -> Mark:
    """The mark of `status`; `left` tells an offline node that went on purpose from one that was lost."""
    match status:
        case NodeStatus.ONLINE:
            return _ONLINE
        case NodeStatus.DEGRADED:
            return _DEGRADED
        case NodeStatus.DISCONNECTED:
            return _DISCONNECTED
        case NodeStatus.OFFLINE:
            return _LEFT if left else _LOST
        case NodeStatus.CONNECTING:
            return _CONNECTING
        case _:
            assert_never(status)


def left_on_purpose(node: Node) -> bool:
    """Whether the node said goodbye or an operator took it down, rather than being found dead."""
    if node.override is not None and node.override.status is NodeStatus.OFFLINE:
        return True
    return has_left(node.observed_status, node.observed_reason)


def status_text(status: NodeStatus, *, left: bool) -> Text:
    """The shape and the word, in the status's colour."""
    mark = mark_of(status, left=left)
    return Text(f"{mark.shape} {status}", style=mark.colour)


def flapping_reason(node: Node) -> str:
    """Why the node's status is what it is; of one whose status changes all the time, that first."""
    return f"flapping: {node.status_reason}" if node.flapping else node.status_reason


def count_line(statuses: Iterable[NodeStatus]) -> str:
    """How many nodes have each status, e.g. `3 nodes: 2 online, 1 offline`.

    The order is fixed, from online down to offline, then connecting; statuses without nodes are left out.
    """
    counts = Counter(statuses)
    total = counts.total()
    order = (*(status for status in NodeStatus if status is not NodeStatus.CONNECTING), NodeStatus.CONNECTING)
    parts = ", ".join(f"{counts[status]} {status}" for status in order if counts[status])
    return f"{total} {'node' if total == 1 else 'nodes'}: {parts}"
