"""A kept drawing is what drawing anew would give, whatever has changed since."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderline.core.ids import Revision
from thunderline.core.records import LinkSession, NodeStatus, SessionStatus
from thunderline.link import pieces
from thunderline.link.drawing import CHANGES_MAX, DRAWINGS_MAX, Drawing, Drawings, scene_of
from thunderline.link.filters import graph_filter
from thunderline.link.graph import draw
from thunderline.link.node_index import NodeFilter
from thunderline.link.pieces import RUN, Pieces
from thunderline.link.roster import Roster
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
            assert b"".join(drawings.paint(wanted, cursor="log:1")) == anew(roster, wanted)
        else:
            apply(roster, change, lives)


def test_revision_moves_on_though_nothing_that_shows_has_changed() -> None:
    roster = Roster()
    drawing = Drawing(roster, graph_filter())
    assert b"".join(drawing.paint(cursor="log:0")) == b'{"nodes":[],"links":[],"revision":0,"cursor":"log:0"}'
    roster.revision = Revision(7)
    assert b"".join(drawing.paint(cursor="log:7")) == b'{"nodes":[],"links":[],"revision":7,"cursor":"log:7"}'


def test_more_changes_than_are_worth_remembering_draw_it_anew() -> None:
    roster = Roster()
    drawing = Drawing(roster, graph_filter())
    roster.observers.append(drawing)
    drawing.paint(cursor="log:1")
    for number in range(CHANGES_MAX + 2):
        roster.put_node(make_node(number))
    assert b"".join(drawing.paint(cursor="log:1")) == anew(roster, graph_filter())
    assert len(msgspec.json.decode(b"".join(drawing.paint(cursor="log:1")))["nodes"]) == CHANGES_MAX + 2


def test_drawings_that_nobody_asks_for_are_forgotten() -> None:
    roster = Roster()
    drawings = Drawings(roster)
    for number in range(DRAWINGS_MAX * 3):
        drawings.paint(graph_filter(domain=f"d{number}"), cursor="log:1")
    assert len(roster.observers) == DRAWINGS_MAX


def test_a_change_makes_the_parts_anew_in_which_it_shows() -> None:
    roster = Roster()
    drawing = Drawing(roster, graph_filter())
    roster.observers.append(drawing)
    for number in range(20 * RUN):
        roster.put_node(make_node(number))
    before = {id(part) for part in drawing.paint(cursor="log:1")}
    roster.put_node(make_node(7 * RUN, meta={"rack": 1}))
    after = drawing.paint(cursor="log:1")
    assert sum(len(part) > 100 and id(part) not in before for part in after) == 2  # the first has its comma cut off
    assert b"".join(after) == anew(roster, graph_filter())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=80), st.sets(st.integers(0, 30)))
def test_pieces_are_those_that_were_put_in_order(changes: list[tuple[int, bool]], first: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "RUN", 2)
        kept = {f"{number:02}": b"%d" % number for number in sorted(first)}
        found = Pieces(kept.items())
        for step, (number, comes) in enumerate(changes):
            key = f"{number:02}"
            if comes:
                found.put(key, b"%d" % step)
                kept[key] = b"%d" % step
            else:
                found.drop(key)
                kept.pop(key, None)
            assert b"".join(found.joined()) == b",".join(kept[key] for key in sorted(kept))
