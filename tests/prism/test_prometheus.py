"""A real Prometheus and a real Alertmanager beside a real server: they scrape it, discover its fleet, and say what is
wrong in an outage. In the shipped files a minute is made a second; else only addresses are changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.prism.programs import DEPLOY, Receiver, needs, program, started
from tests.server.processes import running, until
from thunderline.prism.catalogue import METRICS, PROCESS, Kind

NODES: Final = 12
SHIPPED: Final = DEPLOY / "prometheus"
BOARD: Final = DEPLOY / "grafana" / "thunderline.json"
QUICK: Final = {
    "THUNDERLINE_HEARTBEAT_INTERVAL_S": "1",
    "THUNDERLINE_GUARD_WINDOW_S": "2",
    "THUNDERLINE_GUARD_MAX_DELAY_S": "60",
}


# What is shipped, as it is


def expressions() -> list[str]:
    """What the panels of the board ask for."""
    panels = json.loads(BOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_board_and_the_rules_ask_for_metrics_that_there_are() -> None:
    there = set(PROCESS)
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        there |= {metric.name + suffix for suffix in suffixes}
    rules = (SHIPPED / "thunderline.rules.yml").read_text(encoding="utf-8")
    there |= set(re.findall(r"record: (\S+)", rules))
    for text in ("\n".join(expressions()), BOARD.read_text(encoding="utf-8"), rules):
        named = set(re.findall(r"(?:instance:)?\b(?:thunderline|process)_[a-z0-9_]+(?::[a-z0-9_]+)?", text))
        assert named
        assert named <= there, named - there


def test_the_panels_of_the_board_do_not_overlap_and_have_titles() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def run(name: str, *arguments: str) -> None:
    """Run the program to its end, which has to be a good one."""
    done = subprocess.run(
        [program(name), *arguments], cwd=SHIPPED, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs("promtool")
def test_the_rules_say_what_their_tests_say() -> None:
    run("promtool", "check", "rules", "--lint-fatal", "thunderline.rules.yml")
    run("promtool", "check", "config", "prometheus.yml")
    run("promtool", "test", "rules", "thunderline.test.yml")


@needs("amtool")
def test_the_configuration_of_alertmanager_is_one() -> None:
    run("amtool", "check-config", "alertmanager.yml")


# An outage


def minutes_as_seconds(text: str) -> str:
    """The rules with every duration a sixtieth of what it was."""
    text = re.sub(r"for: (\d+)m\b", r"for: \1s", text)
    return re.sub(r"\[(\d+)m\]", r"[\1s]", text)


def configured(folder: Path, *, server: str, token: Path, receiver: int, alertmanager: str) -> Path:
    """The shipped configuration of Prometheus with these addresses, and with the token."""
    rules = (SHIPPED / "thunderline.rules.yml").read_text(encoding="utf-8")
    (folder / "thunderline.rules.yml").write_text(minutes_as_seconds(rules))
    text = (SHIPPED / "prometheus.yml").read_text(encoding="utf-8")
    for what, new in (
        (r"_interval: \d+s", "_interval: 500ms"),
        (r"127\.0\.0\.1:9093", alertmanager),
        (r"127\.0\.0\.1:4040", server),
        (r"# (authorization:)", r"\1"),
        (r"#   (type: Bearer)", r"  \1"),
        (r"#   (credentials_file: ).*", rf"  \g<1>{token}"),
    ):
        text, count = re.subn(what, new, text)
        assert count, what
    file = folder / "prometheus.yml"
    file.write_text(text)
    return file


class Fleet:
    """Nodes that beat over HTTP while they are `alive`."""

    def __init__(self, http: httpx.AsyncClient, port: int) -> None:
        self.alive = True
        self._http = http
        self._port = port

    async def register(self) -> None:
        """Let the registry know them."""
        for number in range(NODES):
            attrs = {"name": f"node-{number}", "address": "127.0.0.1", "labels": {"metrics_port": str(self._port)}}
            (await self._http.post("/api/nodes", json=attrs)).raise_for_status()

    async def beat(self) -> None:
        """Beat until cancelled."""
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        while True:
            if self.alive:
                beats = [{"node": f"node-{number}"} for number in range(NODES)]
                (await self._http.post("/api/heartbeats", json={"heartbeats": beats})).raise_for_status()
            await asyncio.wait([never], timeout=0.3)


class Questions:
    """What is asked of Prometheus again and again."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def value(self, expression: str) -> float | None:
        """What the expression gives, None for nothing or while there is nobody to ask."""
        try:
            answer = await self._http.get("/api/v1/query", params={"query": expression})
        except httpx.TransportError:
            return None
        if answer.status_code == 503:
            return None
        assert answer.json()["status"] == "success", (expression, answer.text)
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    async def until(self, expression: str, wanted: float) -> None:
        """Ask until the answer is this one."""
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for _ in range(300):
            if await self.value(expression) == wanted:
                return
            await asyncio.wait([never], timeout=0.1)
        raise AssertionError(f"{expression} is {await self.value(expression)}, not {wanted}")


@pytest.mark.timeout(180)
@needs("prometheus", "prometheus-alertmanager")
async def test_prometheus_scrapes_discovers_and_tells_of_an_outage(tmp_path: Path) -> None:
    receiver = Receiver()
    token = tmp_path / "prometheus.token"
    with contextlib.ExitStack() as stack:
        stack.enter_context(receiver.listening())
        admin = tmp_path / "admin.token"
        options = ("--auth", "--admin-token-file", str(admin))
        server = stack.enter_context(running(tmp_path / "t.db", *options, environ=QUICK))
        address = server.url.removeprefix("http://")
        as_admin = {"authorization": f"Bearer {admin.read_text().strip()}"}
        issued = server.http.post("/api/tokens", json={"name": "prometheus", "scopes": ["read"]}, headers=as_admin)
        token.write_text(issued.json()["text"])

        routes = (SHIPPED / "alertmanager.yml").read_text(encoding="utf-8")
        for what, new in (
            (r"127\.0\.0\.1:8080", f"127.0.0.1:{receiver.port}"),
            (r"group_wait: 30s", "group_wait: 1s"),
            (r"group_interval: 5m", "group_interval: 1s"),
        ):
            routes, count = re.subn(what, new, routes)
            assert count == 1, what
        (tmp_path / "alertmanager.yml").write_text(routes)
        alertmanager = stack.enter_context(
            started(
                tmp_path,
                "prometheus-alertmanager",
                "--config.file=alertmanager.yml",
                f"--storage.path={tmp_path / 'alerts'}",
                "--cluster.listen-address=",
            )
        )
        config = configured(
            tmp_path,
            server=address,
            token=token,
            receiver=receiver.port,
            alertmanager=alertmanager.url.removeprefix("http://"),
        )
        prometheus = stack.enter_context(
            started(tmp_path, "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
        )

        async with (
            httpx.AsyncClient(base_url=server.url, headers=as_admin, trust_env=False) as http,
            httpx.AsyncClient(base_url=prometheus.url, trust_env=False) as asked,
        ):
            fleet, questions = Fleet(http, receiver.port), Questions(asked)
            await fleet.register()
            beating = asyncio.ensure_future(fleet.beat())
            try:
                await questions.until('up{job="thunderline"}', 1)
                await questions.until('count by (job) (up{job="fleet", node=~"node-.*"} == 1)', NODES)
                await questions.until('instance:thunderline_nodes_up:ratio{job="thunderline"}', 1)
                active = (await asked.get("/api/v1/targets")).json()["data"]["activeTargets"]
                assert {each["lastError"] for each in active} == {""}
                assert {each["discoveredLabels"].get("__meta_thunderline_role") for each in active} == {None, "worker"}
                for expression in expressions():
                    filled = replaced_variables(expression)
                    answer = await asked.get("/api/v1/query", params={"query": filled})
                    assert answer.json()["status"] == "success", (filled, answer.text)
                assert await questions.value("sum(thunderline_heartbeats_total)")

                fleet.alive = False
                down = ("ThunderlineGuardEngaged", "ThunderlineNodesDown")
                message = await until(lambda: receiver.together("firing", *down), within_s=60)
                assert message["groupLabels"] == {"instance": address, "job": "thunderline"}
                assert await questions.value("thunderline_guards_engaged") == 1
                fleet.alive = True
                await until(lambda: all(receiver.has("resolved", name) for name in down), within_s=60)
                await questions.until('count(ALERTS{alertstate="firing"}) or vector(0)', 0)
                assert prometheus.warnings() == alertmanager.warnings() == []
            finally:
                beating.cancel()
                await asyncio.wait([beating])
            server.kill()
            await until(lambda: receiver.has("firing", "ThunderlineDown"), within_s=30)


def replaced_variables(expression: str) -> str:
    """A panel's expression as Grafana would send it."""
    return expression.replace("$job", "thunderline").replace("$instance", ".*").replace("$__rate_interval", "5s")
