"""What befalls a fleet: settled by the seed, and in the end everything is over."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice, takewhile

import pytest

from thunderline.testing.fleet import Happening, Script, What, draw_plan

PLAN = draw_plan(200, seed=3)
ENDS = {What.CRASH: {What.RESTART}, What.SLOW: {What.RECOVER}, What.DROP: {What.MEND}, What.CUT: {What.MEND}}


def first_hours(hours: float, *, churn: float = 3.0, faults: float = 3.0, seed: int = 1) -> list[Happening]:
    script = Script(PLAN, churn=churn, faults=faults, seed=seed)
    return list(takewhile(lambda one: one.at_s < hours * 3600, script))


def test_the_same_seed_lets_the_same_happen_at_the_same_time() -> None:
    assert first_hours(1) == first_hours(1)
    assert first_hours(1) != first_hours(1, seed=2)


def test_time_goes_forward_and_every_kind_of_trouble_comes() -> None:
    told = first_hours(2)
    assert [one.at_s for one in told] == sorted(one.at_s for one in told)
    assert set(Counter(one.what for one in told)) == set(What)


def test_what_befalls_a_node_is_over_before_the_next_thing_does() -> None:
    open_troubles: dict[str, What] = {}
    for one in (one for one in first_hours(3) if one.zone is None):
        for name in one.nodes:
            if one.what in (*ENDS, What.LEAVE):
                assert name not in open_troubles, one
                open_troubles[name] = one.what
            elif one.newcomer is None and one.what is not What.RECOVER:
                ended = open_troubles.pop(name)
                assert one.what in ENDS.get(ended, {What.JOIN}), one
            else:
                open_troubles.pop(name, None)


def test_an_outage_takes_all_of_a_zone_and_gives_it_back() -> None:
    cut: dict[str, tuple[str, ...]] = {}
    outages = 0
    for one in (one for one in first_hours(3, churn=0) if one.zone is not None):
        if one.what is What.CUT:
            assert one.zone is not None
            assert set(one.nodes) == {node.name for node in PLAN.nodes if node.zone == one.zone}
            assert one.zone not in cut
            cut[one.zone] = one.nodes
            outages += 1
        else:
            assert one.zone is not None
            assert cut.pop(one.zone) == one.nodes
    assert outages > 20


def test_flapping_is_a_connection_lost_several_times_within_minutes() -> None:
    drops: dict[str, list[float]] = defaultdict(list)
    for one in first_hours(1, churn=0):
        if one.what is What.DROP:
            drops[one.nodes[0]].append(one.at_s)
    assert any(len(at_s) >= 4 and at_s[3] - at_s[0] < 120 for at_s in drops.values())


def test_a_newcomer_has_a_new_name_and_the_place_of_who_left() -> None:
    names = {node.name for node in PLAN.nodes}
    newcomers = [one.newcomer for one in first_hours(2, faults=0) if one.newcomer is not None]
    assert newcomers
    for newcomer in newcomers:
        assert newcomer.name not in names
        assert newcomer.group in {group.name for group in PLAN.groups}
        names.add(newcomer.name)


def test_without_churn_and_faults_nothing_ever_happens() -> None:
    assert list(islice(Script(PLAN, churn=0, faults=0), 1)) == []


def test_no_more_befalls_one_node_than_there_is_time_for() -> None:
    alone = draw_plan(1)
    assert len(list(islice(Script(alone, churn=500, faults=500), 50))) == 50


@pytest.mark.parametrize(("churn", "faults"), [(-1, 0), (0, float("nan")), (1_001, 0)])
def test_rates_that_cannot_be_are_refused(churn: float, faults: float) -> None:
    with pytest.raises(ValueError, match="churn and faults"):
        Script(PLAN, churn=churn, faults=faults)
