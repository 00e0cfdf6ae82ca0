"""Webhooks over real sockets, to a receiver that fails: nothing is lost, all keeps its id, and nobody else gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.prism.alert_worlds import SETTLE_S, alert_events, alerting, lose
from tests.prism.hooks import Counted, Hook, Trouble, is_genuine, listening, turn
from tests.server.certificates import Authority
from tests.server.processes import until
from thunderline.block.memory import MemoryStore
from thunderline.core.alerts import Alert
from thunderline.core.errors import SettingsError
from thunderline.core.settings import Settings
from thunderline.prism.alerts.outlets import DEAD_LETTERS, DeadLetter, notification_of
from thunderline.prism.alerts.rules import AlertConfig, read_config
from thunderline.prism.alerts.sinks import open_sinks
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import Cluster, open_cluster

SECRET = b"a secret of the receiver's"
SETTINGS = Settings(guard_fraction=1.0, flapping_transitions=1_000)
OUTAGE_S = 600
SLOW = (Trouble.SILENT, Trouble.DRIPPING)
"""Of these the sink hears only by its timeout."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as hook:
        yield hook


def config_of(hook: Hook, folder: Path, more: str = "") -> AlertConfig:
    (folder / "secret").write_bytes(SECRET)
    return read_config(
        f"""
        after_start = 0
        [rules.node-offline]
        for = "1m"
        [sinks.pager]
        type = "webhook"
        url = "{hook.url}"
        secret_file = "{folder / "secret"}"
        {more}
        """,
        source="x",
    )


def sink_of(config: AlertConfig, cluster: Cluster) -> Counted:
    [(_, sink)] = open_sinks(config, clock=cluster.clock, source="registry@a")
    return Counted(sink)


async def fall_and_return(cluster: Cluster, sink: Counted, name: str, *, after_s: float = 75) -> None:
    """One alert's whole life."""
    node = await cluster.node(name)
    await lose(cluster, name)
    await turn(cluster, sink, after_s)
    await node.beat()
    await node.leave()


async def notifications(cluster: Cluster) -> list[str]:
    """The ids of all that there was to tell."""
    return [
        notification_of(alert).id
        for name, alert in await alert_events(cluster.registry)
        if isinstance(alert, Alert) and name != "alert.acknowledged"
    ]


async def test_a_receiver_knows_what_is_genuine_as_the_docs_say(hook: Hook, tmp_path: Path) -> None:
    hook.begin()
    async with open_cluster(settings=SETTINGS) as cluster:
        config = config_of(hook, tmp_path)
        sink = sink_of(config, cluster)
        async with alerting(cluster.registry, config, sinks=[("pager", sink)]):
            await fall_and_return(cluster, sink, "a")
            await turn(cluster, sink, SETTLE_S)
        now_s = cluster.clock.now_ms() // 1000
        fired, resolved = hook.taken
        assert [request.told["state"] for request in (fired, resolved)] == ["firing", "resolved"]
        for request in (fired, resolved):
            assert is_genuine(request, SECRET, now_s=now_s)
            assert not is_genuine(request, SECRET[:-1], now_s=now_s)
            assert not is_genuine(request, SECRET, now_s=now_s + 3600)
            forged = msgspec.structs.replace(request, body=request.body.replace(b'"a"', b'"b"'))
            assert not is_genuine(forged, SECRET, now_s=now_s)
            assert request.headers["thunderline-delivery"] == request.told["id"]


@pytest.mark.parametrize("trouble", Trouble, ids=lambda trouble: trouble.name.lower())
async def test_a_receiver_in_trouble_for_ten_minutes_misses_nothing_and_takes_nothing_twice(
    hook: Hook, tmp_path: Path, trouble: Trouble
) -> None:
    authority, strange = Authority(), Authority()
    if trouble is Trouble.STRANGER:
        hook.speak_tls(authority.issue(tmp_path), strange.issue(tmp_path, name="strange"))
    elsewhere = Hook()
    elsewhere.begin()
    hook.elsewhere = elsewhere.url
    hook.begin()
    try:
        async with open_cluster(settings=SETTINGS) as cluster:
            more = f"""ca_file = "{authority.write(tmp_path)}"\ntimeout = {0.1 if trouble in SLOW else 10}"""
            config = config_of(hook, tmp_path, more)
            sink = sink_of(config, cluster)
            async with alerting(cluster.registry, config, sinks=[("pager", sink)]) as run:
                began = cluster.clock.monotonic()
                hook.get_into(trouble)
                for name in ("a", "b"):
                    await fall_and_return(cluster, sink, name)
                await turn(cluster, sink, began + OUTAGE_S - cluster.clock.monotonic())
                tried = sink.attempts
                assert hook.taken == []
                hook.recover()
                wanted = await notifications(cluster)
                await turn(cluster, sink, 120, until=lambda: len(hook.taken) == len(wanted))
                await turn(cluster, sink, SETTLE_S)
                [outlet] = run.outlets
        # It waits for longer and longer, up to a minute, at random: so many attempts, and no more.
        assert OUTAGE_S / 60 < tried < 60
        assert len(wanted) == 4
        told = [request.told["id"] for request in hook.taken]
        # A machine that is busy may be as slow as that without any trouble.
        assert (list(dict.fromkeys(told)) if trouble in SLOW else told) == wanted
        assert all(is_genuine(request, SECRET, now_s=cluster.clock.now_ms() // 1000) for request in hook.taken)
        assert {request.told["id"] for request in hook.requests} == set(wanted)
        assert (outlet.told, outlet.dead, outlet.failures) == (4, 0, sink.attempts - 4)
        assert elsewhere.requests == []
    finally:
        elsewhere.end()


async def test_what_a_receiver_never_takes_is_a_dead_letter_and_the_next_follows(hook: Hook, tmp_path: Path) -> None:
    hook.begin()
    async with open_cluster(settings=SETTINGS) as cluster:
        config = config_of(hook, tmp_path, "attempts_max = 3\nretry_max = 1")
        sink = sink_of(config, cluster)
        async with alerting(cluster.registry, config, sinks=[("pager", sink)]):
            hook.get_into(Trouble.ERROR)
            node = await cluster.node("a")
            await lose(cluster, "a")
            await turn(cluster, sink, 90)
            assert len({request.told["id"] for request in hook.requests}) == 1
            assert len(hook.requests) == 3
            hook.recover()
            await node.beat()
            await turn(cluster, sink, SETTLE_S)
        assert [request.told["state"] for request in hook.taken] == ["resolved"]
        [document] = await cluster.registry.alerts.documents(DEAD_LETTERS)
        letter = msgspec.json.decode(document.body, type=DeadLetter)
        assert (letter.sink, letter.reason, letter.attempts) == ("pager", "answered 500", 3)
        assert letter.notification.id == hook.requests[0].told["id"]
        assert SECRET not in document.body


async def test_a_crash_while_a_receiver_reads_tells_it_once_more_under_the_same_id(hook: Hook, tmp_path: Path) -> None:
    """Whether it took it nobody knows; by the id it can tell."""
    store, clock = MemoryStore(), ManualClock()
    hook.begin()
    hook.get_into(Trouble.SILENT)
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        config = config_of(hook, tmp_path)
        sink = sink_of(config, cluster)
        async with alerting(cluster.registry, config, sinks=[("pager", sink)], crash=True):
            await cluster.node("a")
            await lose(cluster, "a")
            while sink.is_idle:
                await cluster.clock.advance(1)
            await until(lambda: hook.requests)
        await sink.close()
    hook.recover()
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        sink = sink_of(config, cluster)
        async with alerting(cluster.registry, config, sinks=[("pager", sink)]):
            await turn(cluster, sink, SETTLE_S)
        assert [request.told["id"] for request in hook.taken] == await notifications(cluster)
        assert {request.told["id"] for request in hook.requests} == {hook.taken[0].told["id"]}


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read: No such file"), ("nothing of the kind", "no certificate in PEM")]
)
def test_an_authority_that_cannot_be_read_ends_the_start(tmp_path: Path, content: str | None, problem: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    text = f'[sinks.a]\ntype = "alertmanager"\nurl = "https://am.example"\nca_file = "{file}"'
    with pytest.raises(SettingsError, match=problem):
        open_sinks(read_config(text, source="x"), clock=ManualClock(), source="r")


@pytest.mark.parametrize(
    "url", ["https://", "http:///hook", "https://:443", "http://[", "http://a:99999", "http://a:0"]
)
def test_a_url_without_a_host_is_a_mistake_of_the_file(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sinks\.a\.url"):
        read_config(f'[sinks.a]\ntype = "webhook"\nurl = "{url}"', source="x")
