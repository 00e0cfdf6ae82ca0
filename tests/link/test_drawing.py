"""A kept drawing is what drawing anew would give, whatever has changed since."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderline.core.ids import Revision
from thunderline.core.records import LinkSession, NodeStatus, SessionStatus
from thunderline.link.drawing import CHANGES_MAX, DRAWINGS_MAX, Drawing, Drawings, scene_of
from thunderline.link.filters import graph_filter
from thunderline.link.graph import draw
from thunderline.link.roster import NodeFilter, Roster
from thunderline.testing.records import make_node, make_session, node_id

FILTERS = [graph_filter(), graph_filter(include_offline=True), graph_filter(domain="east")]
NUMBERS = st.integers(0, 7)
CHANGES = st.one_of(
    st.tuples(
        st.just("node"), NUMBERS, st.sampled_from(["online", "offline"]), st.sampled_from(["east", "west"]), NUMBERS
    ),
    st.tuples(st.just("gone"), NUMBERS),
    st.tuples(
        st.just("link"),
        st.integers(0, 9),
        NUMBERS,
        st.one_of(st.none(), NUMBERS),
        st.sampled_from(["established", "degraded", "closed"]),
        st.sampled_from(["node-0", "node-1", "nobody"]),
    ),
    st.tuples(st.just("paint"), st.integers(0, 2)),
)


def anew(roster: Roster, wanted: NodeFilter) -> bytes:
    return msgspec.json.encode(draw(scene_of(roster, wanted), revision=roster.revision, cursor="log:1"))


def apply(roster: Roster, change: tuple[object, ...], lives: list[int]) -> None:
    match change:
        case ("node", int(number), str(status), str(domain), int(rack)):
            # A node that was removed comes back under its name with another id.
            roster.put_node(
                make_node(
                    number + 100 * lives[number],
                    name=f"node-{number}",
                    status=NodeStatus(status),
                    domain=domain,
                    meta={"rack": rack},
                )
            )
        case ("gone", int(number)):
            roster.remove_node(node_id(number + 100 * lives[number]))
            lives[number] += 1
        case ("link", int(number), int(source), remote, str(status), str(controller)):
            there = roster.get(node_id(source + 100 * lives[source]))
            other = None if not isinstance(remote, int) else node_id(remote + 100 * lives[remote])
            known = next((s for s in roster.sessions if s.session_id == f"session-{number}"), None)
            if there is None or (other is not None and roster.get(other) is None) or other == there.node.id:
                return
            session: LinkSession = known or make_session(number, there.node, remote_node_id=other)
            held = controller if session.remote_node_id is None else None
            roster.put_session(msgspec.structs.replace(session, status=SessionStatus(status), controller=held))


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, max_size=60))
def test_mended_drawing_is_the_one_drawn_anew(changes: list[tuple[object, ...]]) -> None:
    roster = Roster()
    drawings = Drawings(roster)
    lives = [0] * 8
    for change in [*changes, ("paint", 0), ("paint", 1), ("paint", 2)]:
        roster.revision = Revision(roster.revision + 1)
        if change[0] == "paint":
            wanted = FILTERS[int(str(change[1]))]
            assert drawings.paint(wanted, cursor="log:1") == anew(roster, wanted)
        else:
            apply(roster, change, lives)


def test_revision_moves_on_though_nothing_that_shows_has_changed() -> None:
    roster = Roster()
    drawing = Drawing(roster, graph_filter())
    assert drawing.paint(cursor="log:0") == b'{"nodes":[],"links":[],"revision":0,"cursor":"log:0"}'
    roster.revision = Revision(7)
    assert drawing.paint(cursor="log:7") == b'{"nodes":[],"links":[],"revision":7,"cursor":"log:7"}'


def test_more_changes_than_are_worth_remembering_draw_it_anew() -> None:
    roster = Roster()
    drawing = Drawing(roster, graph_filter())
    roster.observers.append(drawing)
    drawing.paint(cursor="log:1")
    for number in range(CHANGES_MAX + 2):
        roster.put_node(make_node(number))
    assert drawing.paint(cursor="log:1") == anew(roster, graph_filter())
    assert len(msgspec.json.decode(drawing.paint(cursor="log:1"))["nodes"]) == CHANGES_MAX + 2


def test_drawings_that_nobody_asks_for_are_forgotten() -> None:
    roster = Roster()
    drawings = Drawings(roster)
    for number in range(DRAWINGS_MAX * 3):
        drawings.paint(graph_filter(domain=f"d{number}"), cursor="log:1")
    assert len(roster.observers) == DRAWINGS_MAX
