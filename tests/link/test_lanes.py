"""Which of what waits is in the next commit."""

from __future__ import annotations

from typing import Any

from thunderline.link.actor import DETECTION
from thunderline.link.lanes import BEFORE_BEATS, Lane, Lanes, Operation
from thunderline.link.overlay import Overlay


class Named(Operation):
    """An operation that is told apart by its lane and number."""

    def __init__(self, lane: Lane, number: int) -> None:
        super().__init__(DETECTION)
        self.name = (lane, number)

    def plan(self, overlay: Overlay) -> Any:
        raise NotImplementedError

    def answer(self, result: Any) -> None:
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        raise NotImplementedError


def lanes_with(**waiting: int) -> Lanes:
    lanes = Lanes(dict.fromkeys(Lane, 10_000))
    for name, count in waiting.items():
        for number in range(count):
            lanes.put(Lane[name], Named(Lane[name], number))
    return lanes


def taken(lanes: Lanes, limit: int) -> dict[Lane, list[int]]:
    found: dict[Lane, list[int]] = {lane: [] for lane in Lane}
    for operation in lanes.take(limit):
        assert isinstance(operation, Named)
        found[operation.name[0]].append(operation.name[1])
    return found


async def test_an_earlier_lane_goes_first_and_each_in_its_order() -> None:
    lanes = lanes_with(OWN=3, MUTATIONS=100)
    assert taken(lanes, 80) == {Lane.OWN: [0, 1, 2], Lane.MUTATIONS: list(range(77)), Lane.HEARTBEATS: []}
    assert taken(lanes, 80)[Lane.MUTATIONS] == list(range(77, 100))


async def test_while_beats_wait_others_take_a_part_of_a_commit_and_nobody_starves() -> None:
    lanes = lanes_with(OWN=100, MUTATIONS=100, HEARTBEATS=150)
    limit = 80
    first = taken(lanes, limit)
    assert len(first[Lane.OWN]) == len(first[Lane.MUTATIONS]) == limit // BEFORE_BEATS
    assert first[Lane.HEARTBEATS] == list(range(60))
    assert taken(lanes, limit)[Lane.HEARTBEATS] == list(range(60, 120))
    assert taken(lanes, limit)[Lane.HEARTBEATS] == list(range(120, 150))
    # No beat waits any more: a commit is whatever the others have.
    last = taken(lanes, limit)
    assert (len(last[Lane.OWN]), len(last[Lane.MUTATIONS])) == (70, 10)


async def test_even_a_commit_of_one_lets_others_in_beside_beats() -> None:
    lanes = lanes_with(OWN=2, HEARTBEATS=2)
    assert [len(taken(lanes, 1)[Lane.OWN]) for _ in range(2)] == [1, 1]
    assert len(taken(lanes, 1)[Lane.HEARTBEATS]) == 1
