"""A real Alertmanager as a sink of a real server: it is told, groups, hears again, and hears of the end."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.prism.programs import Receiver, needs, started
from tests.server.processes import running, until

QUICK: Final = {
    "THUNDERLINE_HEARTBEAT_INTERVAL_S": "1",
    "THUNDERLINE_OFFLINE_AFTER_S": "0",
    "THUNDERLINE_GUARD_FRACTION": "1",
    "THUNDERLINE_FLAPPING_TRANSITIONS": "100",
}
ROUTES: Final = """
route:
  receiver: operators
  group_by: [alertname, zone]
  group_wait: 1s
  group_interval: 1s
receivers:
  - name: operators
    webhook_configs:
      - url: http://127.0.0.1:{port}/
        send_resolved: true
"""
RULES: Final = """
after_start = 0
[rules.node-offline]
for = "1s"
labels = {{ team = "platform" }}
[sinks.alertmanager]
type = "alertmanager"
url = "{url}"
repeat = "1s"
retry_max = "1s"
"""
ZONES: Final = {"eu-1": 8, "eu-2": 1, "eu-3": 1}


class Fleet:
    """The nodes of some zones; those beat whose zones are `alive`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.alive = set(ZONES)

    async def register(self) -> None:
        for zone, count in ZONES.items():
            (await self._http.post("/api/groups", json={"name": zone, "group_type": "zone"})).raise_for_status()
            for number in range(count):
                name = f"{zone}-{number}"
                (await self._http.post("/api/nodes", json={"name": name})).raise_for_status()
                (await self._http.put(f"/api/groups/{zone}/members/{name}")).raise_for_status()

    async def beat(self) -> None:
        """Beat until cancelled."""
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        while True:
            beats = [{"node": f"{zone}-{number}"} for zone in self.alive for number in range(ZONES[zone])]
            if beats:
                (await self._http.post("/api/heartbeats", json={"heartbeats": beats})).raise_for_status()
            await asyncio.wait([never], timeout=0.3)


@pytest.mark.timeout(180)
@needs("prometheus-alertmanager")
async def test_an_alertmanager_is_told_once_for_a_zone_again_while_it_fires_and_of_its_end(tmp_path: Path) -> None:
    receiver = Receiver()
    with contextlib.ExitStack() as stack:
        stack.enter_context(receiver.listening())
        (tmp_path / "alertmanager.yml").write_text(ROUTES.format(port=receiver.port))
        alertmanager = stack.enter_context(
            started(
                tmp_path,
                "prometheus-alertmanager",
                "--config.file=alertmanager.yml",
                f"--storage.path={tmp_path / 'alerts'}",
                "--cluster.listen-address=",
            )
        )
        rules = tmp_path / "rules.toml"
        rules.write_text(RULES.format(url=alertmanager.url))
        environ = {**QUICK, "THUNDERLINE_ALERTS_RULES": str(rules)}
        server = stack.enter_context(running(tmp_path / "t.db", environ=environ))
        async with (
            httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
            httpx.AsyncClient(base_url=alertmanager.url, trust_env=False) as asked,
        ):

            async def known() -> dict[str, dict[str, Any]]:
                """What Alertmanager has, by zone."""
                answer = await asked.get("/api/v2/alerts")
                return {each["labels"]["zone"]: each for each in answer.json()}

            def told(status: str, zone: str) -> dict[str, Any] | None:
                """The message of that status about a zone."""
                return next(
                    (
                        message
                        for message in list(receiver.told)
                        if message["status"] == status and message["groupLabels"]["zone"] == zone
                    ),
                    None,
                )

            fleet = Fleet(http)
            await fleet.register()
            beating = asyncio.ensure_future(fleet.beat())
            try:
                online = "/api/nodes?status=online&limit=100"
                while len((await http.get(online)).json()["nodes"]) <= sum(ZONES.values()):
                    await asyncio.wait([beating], timeout=0.1)
                matchers = [{"label": "zone", "op": "=", "value": "eu-3"}]
                silenced = await http.post("/api/alerts/silences", json={"matchers": matchers, "for_s": 600})
                silenced.raise_for_status()

                fleet.alive.discard("eu-3")
                silent = "/api/alerts?state=firing&silenced=true"
                while not (await http.get(silent)).json()["alerts"]:
                    await asyncio.wait([beating], timeout=0.1)
                fleet.alive -= {"eu-1", "eu-2"}
                many = await until(lambda: told("firing", "eu-1"), within_s=60)
                one = await until(lambda: told("firing", "eu-2"), within_s=60)
                [alert] = many["alerts"]
                assert (
                    alert["labels"].items()
                    >= {
                        "alertname": "node-offline",
                        "severity": "critical",
                        "zone": "eu-1",
                        "team": "platform",
                    }.items()
                )
                assert alert["annotations"]["summary"] == "8 nodes are offline in zone eu-1"
                assert one["alerts"][0]["labels"]["node"] == "eu-2-0"

                # What Alertmanager does not hear of again for four seconds would be over for it.
                first = (await known())["eu-1"]["endsAt"]
                while (await known())["eu-1"]["endsAt"] <= first:
                    await asyncio.wait([beating], timeout=0.1)
                assert set(await known()) == {"eu-1", "eu-2"}

                (await http.delete(f"/api/alerts/silences/{silenced.json()['silence']['id']}")).raise_for_status()
                await until(lambda: told("firing", "eu-3"), within_s=60)
                fleet.alive = set(ZONES)
                for zone in ZONES:
                    await until(lambda zone=zone: told("resolved", zone), within_s=60)
                assert alertmanager.warnings() == []
            finally:
                beating.cancel()
                await asyncio.wait([beating])
