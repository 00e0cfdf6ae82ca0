"""Alerts in the dashboard: what fires, what is about to, silences, and who may do something about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.looks import chip, faults, is_live, manual_clock, needs_axe, needs_dashboard
from thunderline.core.access import Scope
from thunderline.core.inputs import NewToken
from thunderline.link.actor import EMBEDDING_PROGRAM

if TYPE_CHECKING:
    from tests.browser.conftest import Seen, ServerThread

pytestmark = [pytest.mark.browser, needs_dashboard]

INTERVAL_MS = 10_000
LOST_AFTER_S = 90.0
"""After its last beat a node is offline: 30 s of silence, and 60 s disconnected."""
RULES = """
after_start = "0s"
[rules.node-offline]
for = "60s"
"""


class Alerting:
    """A server with a clock that the test turns, and nodes that fall silent."""

    def __init__(self, server: ServerThread) -> None:
        self.server = server

    def pass_time(self, seconds: float) -> None:
        self.server.run(self.server.registry.clock.advance(seconds))

    def lose(self, *names: str) -> None:
        """Nodes that beat once and are offline then, with a minute to go until that is told."""
        for name in names:
            self.server.register(name, role="worker", domain="training", heartbeat_interval_ms=INTERVAL_MS)
            self.server.beat(name)
        self.pass_time(LOST_AFTER_S + 5)

    def fire(self, *names: str) -> None:
        self.lose(*names)
        self.pass_time(65)


@pytest.fixture
def alerting(start_server: Callable[..., ServerThread], tmp_path: Path) -> Callable[..., Alerting]:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)

    def start(**settings: Any) -> Alerting:
        # Without a guard that spreads the fall of a few nodes, it is known when they fall.
        return Alerting(start_server(clock=manual_clock(), alerts_rules=str(rules), guard_fraction=1.0, **settings))

    return start


def alert(page: Page, text: str) -> Locator:
    return page.locator("table.alerts tbody tr").filter(has_text=text)


def test_an_alert_is_pending_fires_and_is_resolved_without_a_reload(
    page: Page, alerting: Callable[..., Alerting]
) -> None:
    world = alerting()
    page.goto(f"{world.server.url}/#/alerts")
    expect(page.locator("main")).to_contain_text("Nothing fires.")
    expect(page.locator(".tally")).to_have_count(0)

    world.lose("gpu-1")
    page.reload()
    expect(alert(page, "node-offline of gpu-1")).to_contain_text("fires in")
    world.pass_time(65)

    expect(alert(page, "gpu-1 is offline: no sign of life within its deadline")).to_contain_text("Firing")
    expect(alert(page, "gpu-1")).to_contain_text("critical")
    expect(alert(page, "gpu-1")).to_contain_text("node-offline")
    expect(page.locator(".tally")).to_have_text(re.compile("1"))
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.locator(".attention").first).to_contain_text("gpu-1 is offline")
    page.keyboard.press("g")
    page.keyboard.press("a")
    world.server.beat("gpu-1")
    expect(alert(page, "gpu-1")).to_contain_text("Resolved")
    expect(page.locator(".tally")).to_have_count(0)
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_role("button", name="Alerts", exact=True).click()
    expect(page.locator("table.events tbody tr")).to_have_count(2)
    expect(page.locator("table.events tbody tr").first).to_contain_text("Alert resolved")


def test_an_alert_leads_to_the_nodes_that_it_is_about(page: Page, alerting: Callable[..., Alerting]) -> None:
    world = alerting()
    lost = [f"gpu-{number}" for number in range(1, 8)]
    world.server.register("gpu-10")
    world.fire(*lost)
    page.goto(f"{world.server.url}/#/alerts")
    row = alert(page, "7 nodes are offline")
    expect(row).to_contain_text("and 4 more")

    row.get_by_role("link", name="In the list").click()

    expect(page.locator(".body .row .c-name")).to_have_text(lost)
    page.go_back()
    alert(page, "7 nodes are offline").get_by_role("link", name="In the topology: 7 nodes").click()
    canvas = page.locator("canvas[role=application]")
    expect(canvas).to_have_attribute("data-settled", "true")
    expect(page.locator(".stage")).to_contain_text("7 of 9 match")


def test_the_state_and_the_filter_stand_in_the_address(page: Page, alerting: Callable[..., Alerting]) -> None:
    world = alerting()
    world.fire("gpu-1")
    world.lose("cam-1")
    page.goto(f"{world.server.url}/#/alerts")
    expect(page.locator("table.alerts tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Pending").click()
    expect(page).to_have_url(re.compile("state=pending"))
    expect(page.locator("table.alerts tbody tr")).to_have_count(1)
    page.reload()
    expect(alert(page, "cam-1")).to_be_visible()
    page.get_by_role("button", name="All", exact=True).click()
    page.keyboard.press("/")
    page.keyboard.type("gpu")
    expect(page.locator("table.alerts tbody tr")).to_have_count(1)
    expect(alert(page, "gpu-1")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    chip(page, "degraded").click()
    expect(page.locator("main")).to_contain_text("No alert matches.")


def test_an_alert_is_taken_on_with_a_comment(page: Page, alerting: Callable[..., Alerting]) -> None:
    world = alerting()
    world.fire("gpu-1")
    page.goto(f"{world.server.url}/#/alerts")
    alert(page, "gpu-1").get_by_role("button", name="Acknowledge").click()
    dialog = page.get_by_role("dialog", name="Acknowledge: gpu-1")
    dialog.get_by_label("Comment").fill("on my way")
    page.keyboard.press("Enter")

    expect(dialog).to_have_count(0)
    expect(alert(page, "gpu-1")).to_contain_text("Taken on by operator:local")
    expect(alert(page, "gpu-1")).to_contain_text("on my way")
    expect(page.locator(".tally")).to_have_class("tally tended")
    [found] = world.server.http.get("/api/alerts", params={"state": "firing"}).json()["alerts"]
    assert found["acknowledged"]["note"] == "on my way"


def test_a_silence_is_made_for_so_long_and_ended(page: Page, alerting: Callable[..., Alerting]) -> None:
    world = alerting()
    world.fire("gpu-1")
    page.goto(f"{world.server.url}/#/alerts")
    alert(page, "gpu-1").get_by_role("button", name="Silence").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("rule=node-offline node=gpu-1")
    dialog.get_by_label("For").select_option("4 hours")
    dialog.get_by_label("Reason").fill("rack move")
    dialog.get_by_role("button", name="Silence", exact=True).click()

    expect(dialog).to_have_count(0)
    expect(alert(page, "gpu-1")).to_contain_text("Silenced")
    silences = page.get_by_role("region", name="Silences")
    expect(silences).to_contain_text("rack move")
    [made] = world.server.http.get("/api/alerts/silences").json()["silences"]
    assert made["reason"] == "rack move"
    silences.get_by_role("button", name="End").click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()

    expect(silences).to_have_count(0)
    expect(alert(page, "gpu-1")).to_contain_text("Firing")


def test_what_the_server_refuses_is_shown_with_its_reason(
    page: Page, seen: Seen, alerting: Callable[..., Alerting]
) -> None:
    world = alerting()
    world.fire("gpu-1")
    page.goto(f"{world.server.url}/#/alerts")
    alert(page, "gpu-1").get_by_role("button", name="Acknowledge").click()
    dialog = page.get_by_role("dialog")
    world.server.beat("gpu-1")
    expect(page.locator(".tally")).to_have_count(0)

    dialog.get_by_role("button", name="Acknowledge", exact=True).click()

    expect(dialog.get_by_role("alert")).to_contain_text("resolved")
    seen.errors = [text for text in seen.errors if "409" not in text]


def test_only_who_may_is_offered_to_do_something(
    page: Page, seen: Seen, alerting: Callable[..., Alerting], tmp_path: Path
) -> None:
    world = alerting(auth=True, admin_token_file=str(tmp_path / "admin.token"))
    registry = world.server.registry

    async def token(name: str, scope: Scope) -> str:
        made = NewToken(name=name, scopes=(scope,))
        return (await registry.tokens.create_token(made, actor=EMBEDDING_PROGRAM)).text

    world.server.http.headers["authorization"] = f"Bearer {world.server.run(token('writer', Scope.OPERATOR))}"
    world.fire("gpu-1")
    for name, scope, offered in (("reader", Scope.READ, 0), ("ada", Scope.OPERATOR, 1)):
        text = world.server.run(token(name, scope))
        page.goto(f"{world.server.url}/#/alerts")
        page.get_by_label("Token").fill(text)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#who-name")).to_have_text(name)
        expect(alert(page, "gpu-1")).to_contain_text("Firing")
        for word in ("Acknowledge", "Silence"):
            expect(alert(page, "gpu-1").get_by_role("button", name=word)).to_have_count(offered)
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
    # What was on its way when the session ended is refused, which Chromium reports by itself.
    seen.errors = [text for text in seen.errors if "401" not in text]


def test_of_the_past_no_alerts_are_told(page: Page, alerting: Callable[..., Alerting]) -> None:
    world = alerting()
    world.fire("gpu-1")
    then = world.server.registry.clock.now().isoformat().replace("+00:00", "Z")
    page.goto(f"{world.server.url}/#/alerts?at={then}")

    expect(page.locator("main")).to_contain_text("Alerts are known only for now")
    expect(page.locator("table.alerts")).to_have_count(0)
    expect(page.locator(".tally")).to_have_count(0)
    page.get_by_role("link", name="among the events").click()
    expect(page.locator("table.events")).to_contain_text("Alert fires")
    page.get_by_role("link", name="Alerts", exact=True).click()
    page.get_by_role("button", name="Alerts of now").click()
    expect(alert(page, "gpu-1")).to_contain_text("Firing")


@needs_axe
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_fault(page: Page, alerting: Callable[..., Alerting], scheme: Any) -> None:
    world = alerting()
    page.emulate_media(color_scheme=scheme)
    world.fire("gpu-1", "gpu-2")
    world.server.beat("gpu-1")
    world.lose("cam-1")
    world.server.http.post(
        "/api/alerts/silences", json={"matchers": [{"label": "rule", "value": "none"}], "for_s": 3600}
    ).raise_for_status()
    page.goto(f"{world.server.url}/#/alerts")
    is_live(page)
    expect(alert(page, "gpu-1 is offline")).to_contain_text("Resolved")
    expect(page.get_by_role("region", name="Silences")).to_be_visible()
    found = faults(page)
    alert(page, "gpu-2 is offline").get_by_role("button", name="Silence").click()
    expect(page.get_by_role("dialog")).to_be_visible()

    assert [*found, *faults(page)] == []
