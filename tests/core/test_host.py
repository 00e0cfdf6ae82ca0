"""The machine's own name and figures."""

from __future__ import annotations

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thunderline.core.host import SHORTEST_CPU_S, HostMeter, host_name
from thunderline.core.inputs import NodeAttrs, read_mapping
from thunderline.testing import ManualClock


@given(st.text(max_size=300))
@example("")
@example("...")
@example(".local")
@example("-._x")
@example("büro.example.org")
@example("a" * 300)
@example("0197c000-0000-7000-8000-000000000000")
def test_any_host_name_makes_a_name_that_a_node_may_have(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: text)
        name = host_name()
    assert name
    assert read_mapping({"name": f"registry@{name}"}, NodeAttrs).name == f"registry@{name}"
    assert name[0].isascii()
    assert name[0].isalnum()


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("db1.rack2.example.org", "db1"),
        ("Worker_7", "Worker_7"),
        ("büro", "b-ro"),
        ("", "localhost"),
        ("é", "localhost"),
    ],
)
def test_host_name_is_the_short_one(monkeypatch: pytest.MonkeyPatch, given_name: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: given_name)
    assert host_name() == name


async def test_figures_are_those_of_a_machine() -> None:
    clock = ManualClock()
    meter = HostMeter(clock)
    assert meter.read().cpu_load is None  # nothing to measure over yet
    await clock.advance(SHORTEST_CPU_S)
    figures = meter.read()
    assert figures.cpu_load is not None
    assert 0 <= figures.cpu_load <= 100
    assert 1 < figures.mem_used_mb < 1e9
