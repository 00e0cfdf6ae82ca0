"""What a node's observed status becomes, and what shows of it under an override. Pure: no clock, no I/O.

The transition table, which the tests read from here. A signal that a status has no row for leaves it as it is.
`left` is offline after the node's own goodbye, `lost` is offline by detection; both show as `offline`. `cut` is
disconnected because its link broke, and shows as `disconnected`. The reason of a goodbye begins with that word and may
go on in the node's own; that of `strained` goes on with the figures that are too high.

    status       | signal        | becomes      | reason
    -------------|---------------|--------------|-------------
    connecting   | announced     | online       | announced
    connecting   | beat          | online       | heartbeat
    connecting   | beat_degraded | degraded     | reported
    connecting   | strained      | degraded     | strained
    connecting   | goodbye       | left         | goodbye
    connecting   | given_up      | lost         | never_seen
    online       | beat_degraded | degraded     | reported
    online       | strained      | degraded     | strained
    online       | silent        | disconnected | silent
    online       | link_lost     | cut          | link_lost
    online       | goodbye       | left         | goodbye
    degraded     | announced     | online       | announced
    degraded     | beat          | online       | heartbeat
    degraded     | strained      | degraded     | strained
    degraded     | silent        | disconnected | silent
    degraded     | link_lost     | cut          | link_lost
    degraded     | goodbye       | left         | goodbye
    disconnected | announced     | online       | announced
    disconnected | beat          | online       | heartbeat
    disconnected | beat_degraded | degraded     | reported
    disconnected | strained      | degraded     | strained
    disconnected | goodbye       | left         | goodbye
    disconnected | given_up      | lost         | silent
    cut          | announced     | online       | announced
    cut          | beat          | online       | heartbeat
    cut          | beat_degraded | degraded     | reported
    cut          | strained      | degraded     | strained
    cut          | goodbye       | left         | goodbye
    cut          | given_up      | lost         | link_lost
    lost         | announced     | online       | announced
    lost         | beat          | online       | heartbeat
    lost         | beat_degraded | degraded     | reported
    lost         | strained      | degraded     | strained
    lost         | goodbye       | left         | goodbye
    left         | announced     | online       | announced

`announced` is a handshake or `/online`; `beat` any heartbeat that reports `online`; `strained` one that does although
its figures have been above their thresholds for long; `silent` a missed deadline;
`link_lost` the end of the grace after the node's only link broke;
`given_up` the end of `offline_after` without a sign of life. Every status has a way back: see the rows to `online`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from thunderline.core.records import BeatStatus, NodeStatus, Override


class Signal(StrEnum):
    """What is seen of a node."""

    ANNOUNCED = "announced"
    BEAT = "beat"
    BEAT_DEGRADED = "beat_degraded"
    STRAINED = "strained"
    GOODBYE = "goodbye"
    SILENT = "silent"
    LINK_LOST = "link_lost"
    GIVEN_UP = "given_up"


REASON_REGISTERED: Final = "registered"
REASON_ANNOUNCED: Final = "announced"
REASON_HEARTBEAT: Final = "heartbeat"
REASON_REPORTED: Final = "reported"
REASON_STRAINED: Final = "strained"
REASON_SILENT: Final = "silent"
REASON_LINK_LOST: Final = "link_lost"
REASON_GOODBYE: Final = "goodbye"
REASON_NEVER_SEEN: Final = "never_seen"
REASON_RESTARTED: Final = "restarted"

Observed = tuple[NodeStatus, str]
"""An observed status and the reason for it."""

_C, _ON, _DEG, _DIS, _OFF = (
    NodeStatus.CONNECTING,
    NodeStatus.ONLINE,
    NodeStatus.DEGRADED,
    NodeStatus.DISCONNECTED,
    NodeStatus.OFFLINE,
)
_ANNOUNCED: Final[Observed] = (_ON, REASON_ANNOUNCED)
_BEAT: Final[Observed] = (_ON, REASON_HEARTBEAT)
_REPORTED: Final[Observed] = (_DEG, REASON_REPORTED)
_STRAINED: Final[Observed] = (_DEG, REASON_STRAINED)
_SILENT: Final[Observed] = (_DIS, REASON_SILENT)
_CUT: Final[Observed] = (_DIS, REASON_LINK_LOST)
_LEFT: Final[Observed] = (_OFF, REASON_GOODBYE)

_TABLE: Final[dict[NodeStatus, dict[Signal, Observed]]] = {
    _C: {
        Signal.ANNOUNCED: _ANNOUNCED,
        Signal.BEAT: _BEAT,
        Signal.BEAT_DEGRADED: _REPORTED,
        Signal.STRAINED: _STRAINED,
        Signal.GOODBYE: _LEFT,
        Signal.GIVEN_UP: (_OFF, REASON_NEVER_SEEN),
    },
    _ON: {
        Signal.BEAT_DEGRADED: _REPORTED,
        Signal.STRAINED: _STRAINED,
        Signal.SILENT: _SILENT,
        Signal.LINK_LOST: _CUT,
        Signal.GOODBYE: _LEFT,
    },
    _DEG: {
        Signal.ANNOUNCED: _ANNOUNCED,
        Signal.BEAT: _BEAT,
        Signal.STRAINED: _STRAINED,
        Signal.SILENT: _SILENT,
        Signal.LINK_LOST: _CUT,
        Signal.GOODBYE: _LEFT,
    },
    _DIS: {
        Signal.ANNOUNCED: _ANNOUNCED,
        Signal.BEAT: _BEAT,
        Signal.BEAT_DEGRADED: _REPORTED,
        Signal.STRAINED: _STRAINED,
        Signal.GOODBYE: _LEFT,
        Signal.GIVEN_UP: (_OFF, REASON_SILENT),
    },
    _OFF: {
        Signal.ANNOUNCED: _ANNOUNCED,
        Signal.BEAT: _BEAT,
        Signal.BEAT_DEGRADED: _REPORTED,
        Signal.STRAINED: _STRAINED,
        Signal.GOODBYE: _LEFT,
    },
}
_TABLE_CUT: Final[dict[Signal, Observed]] = {**_TABLE[_DIS], Signal.GIVEN_UP: (_OFF, REASON_LINK_LOST)}
_TABLE_LEFT: Final[dict[Signal, Observed]] = {Signal.ANNOUNCED: _ANNOUNCED}

BEAT_SIGNALS: Final[dict[BeatStatus, Signal]] = {
    BeatStatus.ONLINE: Signal.BEAT,
    BeatStatus.DEGRADED: Signal.BEAT_DEGRADED,
    BeatStatus.OFFLINE: Signal.GOODBYE,
}


def has_left(status: NodeStatus, reason: str) -> bool:
    """Whether the node went by its own goodbye, after which beats do not bring it back."""
    return status is NodeStatus.OFFLINE and reason.startswith(REASON_GOODBYE)


def observe(status: NodeStatus, reason: str, signal: Signal) -> Observed:
    """What an observed `status`, held for `reason`, becomes on `signal`; the same pair where nothing changes."""
    if has_left(status, reason):
        table = _TABLE_LEFT
    elif (status, reason) == _CUT:
        table = _TABLE_CUT
    else:
        table = _TABLE[status]
    return table.get(signal, (status, reason))


def effective(observed: Observed, override: Override | None) -> Observed:
    """The status and reason that show: the override's, except that a dead node does not show as degraded."""
    if override is None:
        return observed
    if override.status is NodeStatus.DEGRADED and observed[0] in (
        NodeStatus.OFFLINE,
        NodeStatus.DISCONNECTED,
    ):
        return observed
    return override.status, override.reason


def is_up(status: NodeStatus) -> bool:
    """Whether a deadline runs whose end would mean silence."""
    return status is NodeStatus.ONLINE or status is NodeStatus.DEGRADED
