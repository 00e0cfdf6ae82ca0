"""Records come back from the stored form exactly; the outside form tells all there is."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.clock import from_ms
from thunderline.core.codec import join_link, join_node, join_payload, split_record
from thunderline.core.envelope import CloudEvent, encode_event
from thunderline.core.records import (
    BeatStatus,
    Capability,
    ClusterType,
    EntityKind,
    Event,
    LinkSession,
    Node,
    NodeStatus,
    Override,
    PersistentPayload,
    Reliability,
    SessionStatus,
    SessionType,
)
from thunderline.testing.records import (
    make_alert,
    make_capacity_report,
    make_event,
    make_group,
    make_guard_report,
    make_node,
    make_session,
    node_id,
)

TEXT = st.text(max_size=6)
UUIDS = st.uuids(version=4).map(str)
TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999).map(from_ms)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
METAS = st.dictionaries(TEXT, JSON, max_size=3)
FIGURES = st.none() | st.floats(0, 1e15)
NODES = st.builds(
    Node,
    id=UUIDS,
    name=TEXT,
    role=TEXT,
    domain=TEXT,
    cluster_type=st.sampled_from(ClusterType),
    status=st.sampled_from(NodeStatus),
    observed_status=st.sampled_from(NodeStatus),
    observed_reason=TEXT,
    override=st.none()
    | st.builds(
        Override, status=st.sampled_from(NodeStatus), reason=TEXT, by=TEXT, at=TIMES, expires_at=st.none() | TIMES
    ),
    status_reason=TEXT,
    status_since=TIMES,
    address=st.none() | TEXT,
    peer_id=st.none() | TEXT,
    did=st.none() | TEXT,
    meta=METAS,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    capabilities=st.dictionaries(
        TEXT, st.builds(Capability, value=st.none() | TEXT, enabled=st.booleans()), max_size=3
    ),
    groups=st.lists(TEXT, max_size=3).map(tuple),
    instance=st.none() | TEXT,
    incarnation=st.integers(1, 2**63 - 1),
    heartbeat_interval_ms=st.integers(100, 3_600_000),
    inserted_at=TIMES,
    updated_at=TIMES,
    revision=st.integers(0, 2**63 - 1),
)
LINKS = st.builds(
    LinkSession,
    id=UUIDS,
    session_id=TEXT,
    node_id=UUIDS,
    remote_node_id=st.none() | UUIDS,
    role=TEXT,
    session_type=st.sampled_from(SessionType),
    connection_type=TEXT,
    local_peer_id=st.none() | TEXT,
    remote_peer_id=st.none() | TEXT,
    status=st.sampled_from(SessionStatus),
    weight=st.floats(0, 1),
    latency_ms=FIGURES,
    bandwidth_mbps=FIGURES,
    established_at=st.none() | TIMES,
    last_activity_at=TIMES,
    closed_at=st.none() | TIMES,
    meta=METAS,
)
EXACT = msgspec.msgpack.Encoder(order="sorted")


def exactly(found: object, wanted: object) -> bool:
    """Equal to the last bit: 1 is not 1.0, and 0.0 is not -0.0."""
    return found == wanted and EXACT.encode(found) == EXACT.encode(wanted)


@given(NODES)
def test_node_comes_back_exactly(node: Node) -> None:
    split = split_record(node)
    assert exactly(join_node(split.record, split.meta), node)
    assert exactly(join_payload(EntityKind.NODE, split.record, split.meta), node)


@given(LINKS)
def test_link_comes_back_exactly(link: LinkSession) -> None:
    split = split_record(link)
    assert exactly(join_link(split.record, split.meta), link)
    assert exactly(join_payload(EntityKind.LINK, split.record, split.meta), link)


@given(METAS)
def test_meta_stands_apart_from_the_record(meta: dict[str, Any]) -> None:
    split = split_record(make_node(1, meta=meta))
    assert (split.meta is None) == (split.meta_hash is None) == (not meta)
    assert json.loads(split.record)["meta"] == {}
    assert split.record == split_record(make_node(1)).record


@given(METAS, METAS)
def test_metas_have_one_hash_if_and_only_if_they_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    hashes = [split_record(make_node(1, meta=meta)).meta_hash for meta in (one, other)]
    assert (hashes[0] == hashes[1]) == exactly(one, other)
    turned = dict(reversed(one.items()))
    assert split_record(make_session(1, node_id(1), meta=turned)).meta_hash == hashes[0]


@pytest.mark.parametrize("deleted", [False, True])
@given(record=NODES | LINKS)
def test_outside_event_is_the_record_and_says_whether_it_was_the_last(
    record: Node | LinkSession, deleted: bool
) -> None:
    event = make_event(7, record, deleted=deleted)
    outside = msgspec.json.decode(encode_event(event))
    payload = outside.pop("data")
    assert payload.pop("deleted", False) is deleted
    assert exactly(msgspec.convert(payload, type(record)), record)
    assert outside == {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.name,
        "subject": event.subject,
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "revision": 7,
        "actor": event.actor,
        "entitykind": event.entity_kind.value,
        "entityid": event.entity_id,
        "correlationid": event.correlation_id,
        "eventversion": 1,
        "reliability": "persistent",
    }


def test_outside_event_has_every_field_of_the_event() -> None:
    of_cloud_events = {"specversion", "datacontenttype"}
    assert set(CloudEvent.__struct_fields__) - of_cloud_events == set(Event.__struct_fields__) - {"deleted"}
    caused = make_event(1, make_node(1), reliability=Reliability.TRANSIENT, causation_id="cause")
    told = msgspec.json.decode(encode_event(caused))
    assert list(told) == list(CloudEvent.__struct_encode_fields__)
    assert (told["reliability"], told["causationid"]) == ("transient", "cause")


def test_names_of_attributes_are_those_that_cloud_events_allow() -> None:
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in CloudEvent.__struct_encode_fields__)


@pytest.mark.parametrize(("name", "source"), [("registry@host", "registry@host"), ("1:a", "./1:a")])
def test_the_source_of_an_event_is_a_relative_reference(name: str, source: str) -> None:
    told = json.loads(encode_event(make_event(1, make_node(1), source=name)))
    assert told["source"] == source


def test_every_kind_of_entity_can_be_joined() -> None:
    records: dict[EntityKind, PersistentPayload] = {
        EntityKind.NODE: make_node(1),
        EntityKind.LINK: make_session(1, node_id(1)),
        EntityKind.GROUP: make_group(1, parent="eu", meta={"a": 1}),
        EntityKind.GUARD: make_guard_report(),
        EntityKind.CAPACITY: make_capacity_report(),
        EntityKind.ALERT: make_alert(1),
    }
    assert set(records) == set(EntityKind)
    for kind, record in records.items():
        split = split_record(record)
        assert join_payload(kind, split.record, split.meta) == record


def test_times_outside_are_rfc_3339_in_utc() -> None:
    node = make_node(1, status_since=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    told = json.loads(encode_event(make_event(1, node)))
    assert told["data"]["status_since"] == "2026-01-02T03:04:05.678000Z"


def test_enums_outside_are_their_words() -> None:
    assert msgspec.json.encode([*NodeStatus, *BeatStatus]) == msgspec.json.encode(
        [*(status.value for status in NodeStatus), *(status.value for status in BeatStatus)]
    )
