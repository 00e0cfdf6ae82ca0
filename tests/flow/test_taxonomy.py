"""The table of events is whole, and nothing that it does not declare gets out."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import msgspec
import pytest

from thunderline.block.beats import to_heartbeat
from thunderline.core.alerts import Alert
from thunderline.core.errors import UndeclaredEvent
from thunderline.core.records import (
    CapacityReport,
    EntityKind,
    Event,
    GuardReport,
    Heartbeat,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    Reliability,
)
from thunderline.flow import taxonomy
from thunderline.flow.taxonomy import TAXONOMY, EventType, check_event, status_event
from thunderline.testing.records import (
    make_alert,
    make_beat,
    make_capacity_report,
    make_event,
    make_group,
    make_guard_report,
    make_node,
    make_session,
    node_id,
)

CONSTANTS = {
    name: value
    for name, value in vars(taxonomy).items()
    if re.fullmatch(r"[A-Z]+_[A-Z_]+", name) and isinstance(value, str)
}
PAYLOADS: dict[type[Any], Any] = {
    Node: make_node(1),
    LinkSession: make_session(1, node_id(1)),
    NodeGroup: make_group(1),
    GuardReport: make_guard_report(),
    CapacityReport: make_capacity_report(),
    Alert: make_alert(1),
    Heartbeat: to_heartbeat(make_beat(node_id(1))),
}


def declared(row: EventType, **lie: Any) -> Event:
    """The event of that row, as declared but for the lie."""
    event = make_event(1, make_node(1))
    truth: dict[str, Any] = {
        "name": row.name,
        "event_version": row.version,
        "entity_kind": row.kind,
        "payload": PAYLOADS[row.payload],
        "deleted": row.deletion,
        "reliability": row.reliability,
    }
    return msgspec.structs.replace(event, **(truth | lie))


def test_every_constant_is_in_the_table_and_every_row_has_one() -> None:
    assert sorted(CONSTANTS.values()) == sorted(TAXONOMY)
    assert all(row.name == name for name, row in TAXONOMY.items())


@pytest.mark.parametrize(("constant", "name"), [*CONSTANTS.items()])
def test_constant_is_named_as_its_event(constant: str, name: str) -> None:
    words = constant.lower().replace("_", ".", 1)
    assert name == (words if words.startswith("alert.") else f"cluster.{words}")


@pytest.mark.parametrize("row", [*TAXONOMY.values()], ids=lambda row: row.name)
def test_row_is_consistent_in_itself(row: EventType) -> None:
    assert re.fullmatch(r"cluster\.(node|link|capability|group|guard|capacity)\.[a-z_]+|alert\.[a-z]+", row.name)
    # A capability and a membership are parts of their node, and have no records of their own.
    about = row.name.removeprefix("cluster.").split(".")[0]
    is_part = about == "capability" or row.name in (taxonomy.GROUP_JOINED, taxonomy.GROUP_LEFT)
    assert row.kind.value == ("node" if is_part else about)
    assert row.version >= 1
    assert row.meaning.endswith(".")
    assert (row.payload is LinkSession) == (row.kind is EntityKind.LINK)
    assert (row.payload is NodeGroup) == (row.kind is EntityKind.GROUP)
    assert (row.payload is GuardReport) == (row.kind is EntityKind.GUARD)
    assert (row.payload is CapacityReport) == (row.kind is EntityKind.CAPACITY)
    assert (row.payload is Alert) == (row.kind is EntityKind.ALERT)
    # What stands in the log is a record; a heartbeat is kept in history instead.
    assert (row.payload is Heartbeat) == (row.reliability is Reliability.TRANSIENT)
    if row.reliability is Reliability.TRANSIENT:
        assert row.phoenix == "node_heartbeat"
    elif row.kind is EntityKind.ALERT:
        assert row.phoenix == row.name.replace(".", "_")
    else:
        assert row.phoenix in ("node_up", "node_down", "node_changed", "link_up", "link_down", "topology_update")


def test_only_what_ends_a_record_is_a_deletion() -> None:
    deletions = [row.name for row in TAXONOMY.values() if row.deletion]
    assert deletions == [taxonomy.NODE_DEREGISTERED, taxonomy.GROUP_REMOVED, taxonomy.ALERT_RESOLVED]


@pytest.mark.parametrize("row", [*TAXONOMY.values()], ids=lambda row: row.name)
def test_event_as_declared_passes(row: EventType) -> None:
    check_event(declared(row))


def lies(row: EventType) -> dict[str, dict[str, Any]]:
    other_kind = EntityKind.LINK if row.kind is EntityKind.NODE else EntityKind.NODE
    other_way = Reliability.TRANSIENT if row.reliability is Reliability.PERSISTENT else Reliability.PERSISTENT
    return {
        "older version": {"event_version": row.version - 1},
        "later version": {"event_version": row.version + 1},
        "other kind": {"entity_kind": other_kind},
        "other reliability": {"reliability": other_way},
        "other deletion": {"deleted": not row.deletion},
        **{
            f"payload {kind.__name__}": {"payload": payload}
            for kind, payload in PAYLOADS.items()
            if kind is not row.payload
        },
    }


@pytest.mark.parametrize(
    ("row", "lie"),
    [(row, lie) for row in TAXONOMY.values() for lie in lies(row)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_event_with_a_lie_is_refused_by_name(row: EventType, lie: str) -> None:
    with pytest.raises(UndeclaredEvent) as caught:
        check_event(declared(row, **lies(row)[lie]))
    assert caught.value.name == row.name


@pytest.mark.parametrize(
    "name", ["", "cluster.node.exploded", "cluster.node", "Cluster.Node.Online", "cluster.node.online "]
)
def test_event_of_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UndeclaredEvent, match="is not declared"):
        check_event(make_event(1, make_node(1), name=name))


@pytest.mark.parametrize(("before", "after"), [*product(NodeStatus, NodeStatus)])
def test_each_change_has_exactly_one_status_event(before: NodeStatus, after: NodeStatus) -> None:
    wanted = taxonomy.NODE_STATUS_CHANGED
    if before is not after and after in (NodeStatus.ONLINE, NodeStatus.OFFLINE):
        wanted = f"cluster.node.{after.value}"
    assert status_event(before=before, after=after) == wanted
