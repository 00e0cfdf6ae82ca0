"""PostgreSQL stopped, crashed, killed, its sessions ended and the line to it cut in commits, under load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import httpx
import pytest

from tests.databases import PostgresDatabases
from tests.server.load import RepeatingLoad, check_load, taken_by
from tests.server.postgres_proxy import KINDS, PLACES, WAYS, Cut, Kind, PostgresProxy
from tests.server.processes import ServerProcess, running, until
from thunderline.block.postgres.connection import CONNECT_TIMEOUT_S, WRITE_TIMEOUT_S
from thunderline.client import Link
from thunderline.link.writer import COMMIT_PATIENCE_S
from thunderline.testing.postgres import PostgresServer

SETTINGS: Final = {"THUNDERLINE_DEADLINE_INTERVALS": "2"}
INTERVAL_S: Final = 1.0
"""So that a deadline is 2 s, which an outage outlasts."""

CLIENTS: Final = 4
LINKS: Final = 5
RESUMED: Final = 20
"""Changes that are acknowledged after a fault before the next one."""

RESUMED_WITHIN_S: Final = 15
SILENCE_S: Final = WRITE_TIMEOUT_S + CONNECT_TIMEOUT_S
"""Within which the registry takes a line for dead over which nothing comes any more, and has another."""

ENDS_OF_SERVER: Final = ("fast", "immediate", "kill")
CUTS: Final = [Cut(*each) for each in itertools.product(KINDS, PLACES, WAYS)]

END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'thunderline'
"""

COUNT_LOCKS: Final = """
SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
"""


@pytest.fixture(scope="module")
def server_of_ours() -> Iterator[PostgresServer]:
    """A PostgreSQL that these tests may end."""
    with PostgresServer() as server:
        yield server


class Scene:
    """A registry on a PostgreSQL behind a proxy, load on it, and what can happen to them."""

    def __init__(
        self, postgres: PostgresServer, proxy: PostgresProxy, database: str, *, load: RepeatingLoad, links: list[Link]
    ) -> None:
        self.postgres = postgres
        self.proxy = proxy
        self.load = load
        self.links = links
        self._database = database

    async def end_server(self, how: str, *, meanwhile: Callable[[], Any] | None = None) -> None:
        """End PostgreSQL, and start it again once `meanwhile` has become true."""
        if how == "kill":
            await asyncio.to_thread(self.postgres.kill)
        else:
            await asyncio.to_thread(self.postgres.stop, mode=how)
        if meanwhile is not None:
            await until(meanwhile)
        await asyncio.to_thread(self.postgres.start)

    async def end_sessions(self) -> None:
        """End every session of the registry."""
        await asyncio.to_thread(self.postgres.execute, self._database, END_SESSIONS)

    def sessions_that_write(self) -> int:
        """How many sessions hold the lock of the registry."""
        return int(self.postgres.execute(self._database, COUNT_LOCKS))

    async def cut(self, cut: Cut, *, for_good: bool = False) -> None:
        """Cut the writer's line; a silent one ends after a moment, unless it is `for_good`."""
        self.proxy.cut_next(cut)
        await asyncio.wait_for(self.proxy.struck.wait(), 20)
        if cut.way == "silent" and not for_good:
            before = sum(taken_by(self.links).values())
            await until(lambda: sum(taken_by(self.links).values()) >= before + LINKS)
            self.proxy.end_silence()

    async def resumed(self, *, within_s: float = RESUMED_WITHIN_S) -> None:
        """Return once changes are acknowledged again, by no doing of ours."""
        before = self.load.done
        await until(lambda: self.load.done >= before + RESUMED, within_s=within_s)


@contextlib.asynccontextmanager
async def served(store: str) -> AsyncIterator[ServerProcess]:
    """A server over `store`, started and ended beside the loop, in which its way to the store may run."""
    process = running(store, environ=SETTINGS)
    server = await asyncio.to_thread(process.__enter__)
    try:
        yield server
    except Exception as error:
        server.kill()
        assert server.process.stderr is not None
        error.add_note(server.process.stderr.read())
        raise
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def scene(postgres: PostgresServer, rng: random.Random) -> AsyncIterator[Scene]:
    """All of it; in the end the load stops, and what is there is compared with what was acknowledged."""
    database = PostgresDatabases.name_of(postgres.create_database())
    async with PostgresProxy(postgres.socket, rng=rng) as proxy, served(proxy.url(database)) as server:
        load = RepeatingLoad(server.url, rng)
        links = [
            Link(server.url, name=f"linked-{i}", interval_s=INTERVAL_S, rng=random.Random(i)) for i in range(LINKS)
        ]
        async with contextlib.AsyncExitStack() as stack:
            for link in links:
                await stack.enter_async_context(link)
            clients = [asyncio.ensure_future(load.client()) for _ in range(CLIENTS)]
            there = Scene(postgres, proxy, database, load=load, links=links)
            await there.resumed()
            yield there
            load.stopping = True
            await asyncio.gather(*clients)
            await asyncio.gather(*(link.flush() for link in links))
            taken = taken_by(links)
            stats = [link.stats for link in links]
            assert [(each.links, each.beats_dropped, each.beats_refused) for each in stats] == [(1, 0, 0)] * LINKS
            assert (await asyncio.to_thread(server.http.get, "/readyz")).status_code == 200
            await asyncio.to_thread(check_load, server.http, load, taken)
            await asyncio.to_thread(server.kill)
            for link in links:
                await link.abandon()
        assert server.process.stderr is not None
        check_log([json.loads(line) for line in server.process.stderr.read().splitlines()])
        async with served(proxy.url(database)) as again:
            await asyncio.to_thread(check_load, again.http, load, taken)
            assert await asyncio.to_thread(again.stop) == 0
    check_refusals(load.refused)


def check_log(log: list[dict[str, Any]]) -> None:
    assert [line for line in log if "exception" in line] == []
    assert {line["event"] for line in log if line["level"] in ("error", "critical")} <= {"store is away"}


def check_refusals(refused: list[httpx.Response]) -> None:
    for answer in refused:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert int(answer.headers["retry-after"]) >= 1
        code, waited_s = answer.json()["code"], answer.elapsed.total_seconds()
        # Whoever waits for a commit is told nothing uncertain before that.
        assert code == "store_unavailable" or (code == "outcome_unknown" and waited_s > COMMIT_PATIENCE_S - 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [12, pytest.param(50, marks=pytest.mark.slow)])
async def test_faults_of_postgresql_lose_nothing_repeat_nothing_and_convict_nobody(
    server_of_ours: PostgresServer, count: int
) -> None:
    rng = random.Random(20261201)
    async with scene(server_of_ours, rng) as there:
        faults: list[Callable[[], Any]] = [lambda cut=cut: there.cut(cut) for cut in CUTS]  # type: ignore[misc]
        faults += [there.end_sessions] * 7
        faults += [lambda how=how: there.end_server(how) for how in ENDS_OF_SERVER * 4]  # type: ignore[misc]
        rng.shuffle(faults)
        chosen = [*faults[: count - 1], lambda: outlast_deadlines(there)]
        assert len(chosen) == count
        for fault in chosen:
            await fault()
            await there.resumed()
    # Whatever was lost in its commit, what became of it was found out while its callers waited.
    assert {answer.json()["code"] for answer in there.load.refused} == {"store_unavailable"}


async def outlast_deadlines(there: Scene) -> None:
    """An outage in which links beat for longer than the deadline of their nodes."""
    before = taken_by(there.links)

    def all_beat() -> bool:
        return all(taken >= before[name] + 4 for name, taken in taken_by(there.links).items())

    await there.end_server("fast", meanwhile=all_beat)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_line_that_says_nothing_any_more_is_given_up(server_of_ours: PostgresServer, kind: Kind) -> None:
    async with scene(server_of_ours, random.Random(7)) as there:
        for place in ("before", "answered"):
            await there.cut(Cut(kind, place, "silent"), for_good=True)
            await there.resumed(within_s=SILENCE_S)
            # What the server still believed to be there has been ended, so that it holds no lock.
            assert there.sessions_that_write() == 1
            there.proxy.end_silence()
    assert "outcome_unknown" in {answer.json()["code"] for answer in there.load.refused}
