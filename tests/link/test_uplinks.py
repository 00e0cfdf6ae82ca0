"""The table of live links, where its callers' order of events matters."""

from __future__ import annotations

import random

import pytest

from thunderline.core.errors import ThunderlineError
from thunderline.core.records import NodeStatus
from thunderline.core.settings import Settings
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.link.roster import Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.uplinks import Uplink, Uplinks
from thunderline.testing import ManualClock
from thunderline.testing.records import make_node, make_session


class Recorded(Uplink):
    """A link that keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []
        self.intervals: list[int] = []

    def end(self, error: ThunderlineError) -> None:
        self.ended.append(error.code)

    def tell_interval(self, interval_ms: int) -> None:
        self.intervals.append(interval_ms)


@pytest.fixture
def roster() -> Roster:
    roster = Roster()
    node = make_node(1, observed_status=NodeStatus.ONLINE, status=NodeStatus.ONLINE, instance="a")
    roster.put_node(node)
    roster.put_session(make_session(1, node, holder="registry@here"))
    return roster


@pytest.fixture
def uplinks(roster: Roster) -> Uplinks:
    sentinel = Sentinel(roster, clock=ManualClock(), settings=Settings(), rng=random.Random(0))
    return Uplinks(roster, sentinel, holder="registry@here")


def linked(uplinks: Uplinks, roster: Roster) -> Recorded:
    uplink = Recorded()
    (entry,) = roster
    uplink.entry, uplink.actor = entry, EMBEDDING_PROGRAM
    uplink.session_id, uplink.instance = "session-1", "a"
    uplink.incarnation, uplink.interval_ms = entry.node.incarnation, entry.node.heartbeat_interval_ms
    uplinks.opened(uplink)
    return uplink


def test_end_of_an_old_grace_says_nothing_of_the_one_that_runs_now(uplinks: Uplinks, roster: Roster) -> None:
    uplinks.drop(linked(uplinks, roster))
    old = uplinks.give_up("session-1")
    assert old is not None
    uplinks.drop(linked(uplinks, roster))
    uplinks.ended(old)
    assert "session-1" in roster.held
    running = uplinks.give_up("session-1")
    assert running is not None
    assert running is not old
    uplinks.ended(running)
    assert not roster.held


def test_link_that_is_given_up_can_no_longer_be_resumed(uplinks: Uplinks, roster: Roster) -> None:
    uplink = linked(uplinks, roster)
    name, secret = uplink.entry.node.name, uplinks.secret("session-1")
    uplinks.drop(uplink)
    assert uplinks.resumable("session-1", secret, name=name, instance="a") is uplink.entry
    uplinks.give_up("session-1")
    assert uplinks.resumable("session-1", secret, name=name, instance="a") is None


def test_connection_that_was_replaced_means_nothing_when_it_ends(uplinks: Uplinks, roster: Roster) -> None:
    old = linked(uplinks, roster)
    uplinks.replace("session-1")
    new = linked(uplinks, roster)
    assert old.ended == ["session_ended"]
    assert uplinks.drop(old) is False
    assert uplinks.of_node(new.entry.node.id) == [new]


def test_secret_is_another_for_each_session_and_each_process(uplinks: Uplinks, roster: Roster) -> None:
    sentinel = Sentinel(roster, clock=ManualClock(), settings=Settings(), rng=random.Random(0))
    other = Uplinks(roster, sentinel, holder="registry@here")
    assert len({uplinks.secret("session-1"), uplinks.secret("session-2"), other.secret("session-1")}) == 3
    assert uplinks.secret("session-1") == uplinks.secret("session-1")
