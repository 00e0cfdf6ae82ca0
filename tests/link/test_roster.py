"""The roster against a plain list of nodes: listings, lookups, sessions, presence."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.block.beats import node_key
from thunderline.core.clock import from_ms
from thunderline.core.errors import UnknownNode
from thunderline.core.ids import NodeId
from thunderline.core.records import ClusterType, LinkSession, Node, NodeStatus, SessionStatus
from thunderline.link.node_index import NodeFilter
from thunderline.link.presence import Taken
from thunderline.link.roster import Roster
from thunderline.testing.clock import START_MS
from thunderline.testing.records import make_beat, make_group, make_node, make_session, node_id

ROLES, DOMAINS = ["worker", "gateway"], ["a", "b"]
# Names that are prefixes of one another, and sort differently from the order of their ids.
NAMES = ["w", "w-1", "w-10", "w-2", "W", "x", "w1", "w-1@prod", "0", "zz"]

NODES = st.builds(
    make_node,
    st.integers(1, 8),
    name=st.sampled_from(NAMES),
    role=st.sampled_from(ROLES),
    domain=st.sampled_from(DOMAINS),
    status=st.sampled_from(NodeStatus),
    cluster_type=st.sampled_from(ClusterType),
    labels=st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"]), max_size=2),
    groups=st.sets(st.sampled_from(["eu", "eu-1", "us"]), max_size=2).map(lambda names: tuple(sorted(names))),
)
BELOW = {"eu": {"eu", "eu-1"}, "eu-1": {"eu-1"}, "us": {"us"}}
# Some nodes that nobody asks for, so that an index is much narrower than everything.
CROWD = [make_node(1000 + number, name=f"crowd-{number:03}", role="relay", domain="c") for number in range(80)]

# Few conditions at a time: with all of them hardly any node would match.
CONDITIONS: dict[str, st.SearchStrategy[object]] = {
    "status": st.frozensets(st.sampled_from(NodeStatus), max_size=3),
    "role": st.sampled_from([*ROLES, "relay", "nobody"]),
    "domain": st.sampled_from([*DOMAINS, "c", "nowhere"]),
    "cluster_type": st.sampled_from(ClusterType),
    "labels": st.dictionaries(st.sampled_from(["k", "l", "m"]), st.sampled_from(["1", "2"]), max_size=2),
    "group": st.sampled_from(sorted(BELOW)),
    "name": st.sampled_from([*NAMES, "crowd-007", "nobody"]),
    "name_prefix": st.sampled_from(["", "w", "w-", "w-1", "crowd-0", "zzz", "*"]),
}
FILTERS = (
    st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=3, unique=True)
    .flatmap(lambda fields: st.fixed_dictionaries({field: CONDITIONS[field] for field in fields}))
    .map(lambda conditions: NodeFilter(**conditions))
)


def wanted_by(asked: NodeFilter, node: Node) -> bool:
    """The filter in other words."""
    return all(
        (
            asked.status is None or node.status in asked.status,
            asked.role in (None, node.role),
            asked.domain in (None, node.domain),
            asked.cluster_type in (None, node.cluster_type),
            asked.group is None or BELOW[asked.group] & set(node.groups),
            asked.name in (None, node.name),
            node.name[: len(asked.name_prefix or "")] == (asked.name_prefix or ""),
            (asked.labels or {}).items() <= node.labels.items(),
        )
    )


def play(steps: list[tuple[str, Node]], *, crowd: bool) -> tuple[Roster, dict[NodeId, Node]]:
    """A roster and the model of it after `steps`; puts that a store would refuse are left out."""
    roster, model = Roster(), {node.id: node for node in CROWD if crowd}
    roster.load(model.values())
    for number, name in enumerate(BELOW):
        roster.put_group(make_group(number, name=name, parent="eu" if name == "eu-1" else None))
    for step, node in steps:
        if step == "remove":
            roster.remove_node(node.id)
            model.pop(node.id, None)
            continue
        if node.id in model:
            node = msgspec.structs.replace(node, name=model[node.id].name)  # a name is immutable
        elif node.name in {known.name for known in model.values()}:
            continue
        assert roster.put_node(node).node is node
        model[node.id] = node
    return roster, model


STEPS = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "remove"]), NODES), max_size=25)


@given(
    STEPS,
    st.booleans(),
    FILTERS,
    st.none() | st.sampled_from([*NAMES, "", "crowd-040", "zzz"]),
    st.none() | st.integers(0, 12),
)
def test_listing_is_what_a_list_would_give(
    steps: list[tuple[str, Node]], crowd: bool, asked: NodeFilter, after: str | None, limit: int | None
) -> None:
    roster, model = play(steps, crowd=crowd)
    matching = sorted((node for node in model.values() if wanted_by(asked, node)), key=lambda node: node.name)
    beyond = [node for node in matching if after is None or node.name > after]
    entries, more = roster.select(asked, after=after, limit=limit)
    assert [entry.node for entry in entries] == beyond[:limit]
    assert more == (limit is not None and len(beyond) > limit)


@given(STEPS, st.booleans(), FILTERS, st.integers(1, 7))
def test_pages_together_are_the_listing(
    steps: list[tuple[str, Node]], crowd: bool, asked: NodeFilter, limit: int
) -> None:
    roster, _ = play(steps, crowd=crowd)
    found: list[Node] = []
    more = True
    while more:
        entries, more = roster.select(asked, after=found[-1].name if found else None, limit=limit)
        assert len(entries) == limit if more else len(entries) <= limit
        assert len(found) <= len(roster), "the pages do not end"
        found += [entry.node for entry in entries]
    assert found == [entry.node for entry in roster.select(asked)[0]]


@given(STEPS)
def test_every_lookup_finds_the_node_and_nothing_else(steps: list[tuple[str, Node]]) -> None:
    roster, model = play(steps, crowd=False)
    assert len(roster) == len(model)
    assert {entry.node.id: entry.node for entry in roster} == model
    for node in model.values():
        entry = roster.get(node.id)
        assert entry is not None
        assert entry.node == node
        assert roster.named(node.name) is entry
        assert roster.by_key(node_key(node.id)) is entry
        assert roster.find(node.id) is roster.find(node.name) is roster.find(node.id.upper()) is entry
        assert msgspec.json.decode(entry.encoded(), type=Node) == node
    names = {node.name for node in model.values()}
    for number in range(1, 9):
        if node_id(number) not in model:
            assert roster.get(node_id(number)) is None
            assert roster.by_key(node_key(node_id(number))) is None
    for name in NAMES:
        if name not in names:
            assert roster.named(name) is None
            with pytest.raises(UnknownNode):
                roster.find(name)


@given(STEPS)
def test_loading_at_start_gives_what_putting_one_by_one_does(steps: list[tuple[str, Node]]) -> None:
    roster, model = play(steps, crowd=False)
    loaded = Roster()
    loaded.load(model.values())
    everything = NodeFilter()
    assert [e.node for e in loaded.select(everything)[0]] == [e.node for e in roster.select(everything)[0]]
    for status in NodeStatus:
        asked = NodeFilter(status=frozenset({status}))
        assert [e.node for e in loaded.select(asked)[0]] == [e.node for e in roster.select(asked)[0]]


def test_pages_of_a_prefix_go_on_where_the_last_one_ended() -> None:
    roster = Roster()
    roster.load(CROWD)
    asked = NodeFilter(name_prefix="crowd-0")
    first, more = roster.select(asked, limit=2)
    assert ([entry.node.name for entry in first], more) == (["crowd-000", "crowd-001"], True)
    second, _ = roster.select(asked, after="crowd-001", limit=2)
    assert [entry.node.name for entry in second] == ["crowd-002", "crowd-003"]


@pytest.mark.parametrize(
    "asked", [NodeFilter(role="gateway"), NodeFilter(domain="a"), NodeFilter(status=frozenset({NodeStatus.ONLINE}))]
)
def test_removed_or_changed_node_is_in_no_index_any_more(asked: NodeFilter) -> None:
    roster = Roster()
    roster.load(CROWD)
    for gone in ("removed", "changed"):
        roster.put_node(make_node(1, name="w", role="gateway", domain="a", status=NodeStatus.ONLINE))
        assert [entry.node.name for entry in roster.select(asked)[0]] == ["w"]
        if gone == "removed":
            roster.remove_node(node_id(1))
        else:
            roster.put_node(make_node(1, name="w"))
        assert roster.select(asked) == ([], False)


def test_freed_name_is_another_node_when_it_is_taken_again() -> None:
    roster = Roster()
    old = roster.put_node(make_node(1, name="w"))
    roster.put_session(make_session(1, old.node))
    roster.remove_node(old.node.id)
    new = roster.put_node(make_node(2, name="w"))
    assert roster.find("w") is new
    assert new.sessions == {}
    assert roster.select(NodeFilter(name="w"))[0] == [new]
    assert roster.sessions.named("session-1") is None
    with pytest.raises(UnknownNode):
        roster.find(old.node.id)


def test_newer_record_replaces_what_was_encoded_and_keeps_what_beats_changed() -> None:
    roster = Roster()
    entry = roster.put_node(make_node(1))
    entry.keep(make_beat(entry.node, seq=1))
    before = entry.encoded()
    assert entry.encoded() is before
    assert roster.put_node(make_node(1, role="gateway")) is entry
    assert entry.encoded() != before
    assert entry.look(1, 1) is Taken.REPEATED


# Sessions

SESSION_STEPS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.sampled_from([None, *SessionStatus])), max_size=25
)


@given(st.sets(st.integers(0, 399), max_size=45), st.integers(1, 9))
def test_pages_of_a_rare_role_are_the_same_wherever_its_nodes_stand(rare: set[int], limit: int) -> None:
    roster = Roster()
    roster.load(make_node(number, role="edge" if number in rare else "worker") for number in range(400))
    found: list[str] = []
    more = True
    while more:
        after = found[-1] if found else None
        page, more = roster.select(NodeFilter(role="edge"), after=after, limit=limit)
        found += [entry.node.name for entry in page]
    assert found == sorted(f"node-{number}" for number in rare)


@given(SESSION_STEPS)
def test_open_sessions_are_those_last_put_as_open_on_nodes_that_are_there(
    steps: list[tuple[int, int, SessionStatus | None]],
) -> None:
    roster, model = Roster(), dict[int, LinkSession]()
    roster.load(make_node(number) for number in (1, 2, 3))
    closed = {SessionStatus.CLOSED, SessionStatus.FAILED}
    for number, owner, status in steps:
        if status is None:
            roster.remove_node(node_id(owner))
            model = {n: session for n, session in model.items() if session.node_id != node_id(owner)}
            roster.put_node(make_node(owner))
            continue
        owner = int(model[number].node_id[-1]) if number in model else owner  # a session keeps its node
        session = make_session(number, node_id(owner), status=status)
        roster.put_session(session)
        model[number] = session
    still_open = {n: session for n, session in model.items() if session.status not in closed}
    for number in range(1, 6):
        assert roster.sessions.named(f"session-{number}") == still_open.get(number)
    for entry in roster:
        held = [session for session in still_open.values() if session.node_id == entry.node.id]
        assert sorted(entry.sessions.values(), key=lambda session: session.id) == sorted(
            held, key=lambda session: session.id
        )
        assert entry.presence("me").sessions == len(held)


def test_session_of_an_unknown_node_is_not_held() -> None:
    roster = Roster()
    roster.put_session(make_session(1, node_id(9)))
    assert roster.sessions.named("session-1") is None


# Presence


def test_node_that_never_beat_has_no_presence() -> None:
    entry = Roster().put_node(make_node(1))
    presence = entry.presence("registry@here")
    assert (presence.last_seen_at, presence.last_heartbeat_at, presence.last_heartbeat) == (None, None, None)
    assert (presence.sessions, presence.owner) == (0, "registry@here")


def test_presence_is_of_the_last_beat_that_was_kept() -> None:
    entry = Roster().put_node(make_node(1))
    entry.keep(make_beat(entry.node, START_MS, seq=1, cpu_load=1.0))
    entry.keep(make_beat(entry.node, START_MS + 5, seq=2, cpu_load=2.0))
    presence = entry.presence("me")
    assert presence.last_seen_at == presence.last_heartbeat_at == from_ms(START_MS + 5)
    assert presence.last_heartbeat is not None
    assert (presence.last_heartbeat.cpu_load, presence.last_heartbeat.node_id) == (2.0, entry.node.id)


def test_node_was_seen_no_earlier_than_it_was() -> None:
    entry = Roster().put_node(make_node(1))
    entry.keep(make_beat(entry.node, START_MS + 100, seq=1))
    entry.keep(make_beat(entry.node, START_MS, seq=2))  # the wall clock was set back
    assert entry.last_seen_ms == START_MS + 100


def test_new_incarnation_counts_from_the_start() -> None:
    entry = Roster().put_node(make_node(1))
    for seq in (1, 2, 3):
        entry.keep(make_beat(entry.node, seq=seq))
    assert entry.look(1, 2) is Taken.REPEATED
    assert entry.look(2, 2) is Taken.NEW
    entry.keep(make_beat(entry.node, incarnation=2, seq=1))
    assert entry.look(2, 1) is Taken.REPEATED
    assert entry.look(2, 2) is Taken.NEW
    entry.keep(make_beat(entry.node, incarnation=1, seq=9))  # replayed from before: not counted for the new one
    assert entry.look(2, 9) is Taken.NEW


@given(st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(0, 2000), st.integers(0, 50)), max_size=12))
def test_presence_restored_from_its_row_goes_on_the_same(beats: list[tuple[int, int | None, int]]) -> None:
    entry = Roster().put_node(make_node(1))
    for incarnation, seq, at in beats:
        entry.keep(make_beat(entry.node, START_MS + at, incarnation=incarnation, seq=seq))
    restored = Roster().put_node(make_node(1))
    restored.restore_presence(entry.presence_row())
    assert restored.presence("me") == entry.presence("me")
    assert restored.presence_row() == entry.presence_row()
    for incarnation in range(entry.window_incarnation, 5):
        for _, seq, _ in beats:
            if seq is not None:
                assert restored.look(incarnation, seq) is entry.look(incarnation, seq)
