"""The sinks: what is sent, to whom it is not, and what an answer means."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from thunderline.core.alerts import Alert, Severity
from thunderline.prism.alerts.outlets import NotTaken, notification_of
from thunderline.prism.alerts.rules import AlertmanagerConfig, WebhookConfig, read_config
from thunderline.prism.alerts.sinks import AlertmanagerSink, WebhookSink, open_sinks
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import START

SECRET = b"0123456789abcdef"
FIRED = Alert(
    id="f" * 32,
    rule="node-offline",
    severity=Severity.CRITICAL,
    labels={"zone": "eu-1"},
    summary="30 nodes are offline in zone eu-1",
    starts_at=START,
    fired_at=START + timedelta(minutes=5),
    nodes=30,
    names=("a", "b"),
)
OVER = msgspec.structs.replace(FIRED, resolved_at=START + timedelta(minutes=9))


class Receiver(httpx.AsyncBaseTransport):
    """Keeps requests and answers as it is told to."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.answer = answer or (lambda request: httpx.Response(200))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return self.answer(request)

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]


def webhook(receiver: Receiver, *, secret: bytes | None = None) -> WebhookSink:
    config = WebhookConfig(url="https://pager.example/hook")
    return WebhookSink(config, clock=ManualClock(), source="registry@a", secret=secret, transport=receiver)


async def test_a_webhook_is_told_what_fires_signed_with_its_time() -> None:
    receiver = Receiver()
    sink = webhook(receiver, secret=SECRET)
    await sink.send(notification_of(FIRED))
    await sink.send(notification_of(OVER))
    await sink.close()
    first, second = receiver.requests
    sent = first.headers["thunderline-timestamp"]
    wanted = hmac.new(SECRET, sent.encode() + b"." + first.content, hashlib.sha256).hexdigest()
    assert first.headers["thunderline-signature"] == f"v1={wanted}"
    assert first.headers["content-type"] == "application/json"
    told, over = receiver.bodies()
    assert told["id"] == first.headers["thunderline-delivery"] != over["id"]
    assert (told["state"], told["source"], told["alert"]["summary"]) == ("firing", "registry@a", FIRED.summary)
    assert (over["state"], over["alert"]["id"]) == ("resolved", FIRED.id)
    assert second.headers["thunderline-signature"] != first.headers["thunderline-signature"]


async def test_without_a_secret_nothing_is_signed() -> None:
    receiver = Receiver()
    await webhook(receiver).send(notification_of(FIRED))
    assert "thunderline-signature" not in receiver.requests[0].headers


def _fails(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "is_final", "wait_s"),
    [
        (lambda request: httpx.Response(500), False, None),
        (lambda request: httpx.Response(404), False, None),
        (lambda request: httpx.Response(429, headers={"retry-after": "7"}), False, 7.0),
        (lambda request: httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), False, None),
        (lambda request: httpx.Response(400), True, None),
        (lambda request: httpx.Response(422), True, None),
        (lambda request: httpx.Response(302, headers={"location": "https://elsewhere.example"}), False, None),
        (_fails(httpx.ConnectError("refused")), False, None),
        (_fails(httpx.ReadTimeout("")), False, None),
    ],
)
async def test_what_is_not_a_success_is_tried_again_unless_it_was_read_and_refused(
    answer: Callable[[httpx.Request], httpx.Response], is_final: bool, wait_s: float | None
) -> None:
    receiver = Receiver(answer)
    with pytest.raises(NotTaken) as caught:
        await webhook(receiver, secret=SECRET).send(notification_of(FIRED))
    assert (caught.value.is_final, caught.value.retry_after_s) == (is_final, wait_s)
    assert SECRET.decode() not in caught.value.reason
    # A redirect is not followed: what is signed for one receiver is nobody else's.
    assert [request.url.host for request in receiver.requests] == ["pager.example"]


async def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    sink = WebhookSink(WebhookConfig(url="https://pager.example"), clock=ManualClock(), source="r")
    assert sink._client._mounts == {}
    await sink.close()


async def test_an_alertmanager_is_told_in_its_own_form_and_again() -> None:
    receiver, clock = Receiver(), ManualClock()
    config = AlertmanagerConfig(url="http://am.example:9093/", repeat="30s")
    sink = AlertmanagerSink(config, clock=clock, source="registry@a", transport=receiver)
    await sink.send(notification_of(FIRED))
    await sink.repeat([FIRED, msgspec.structs.replace(FIRED, labels={"zone": "eu-2"})])
    await sink.send(notification_of(OVER))
    await sink.close()
    assert {str(request.url) for request in receiver.requests} == {"http://am.example:9093/api/v2/alerts"}
    [told], again, [over] = receiver.bodies()
    assert told == {
        "labels": {"alertname": "node-offline", "severity": "critical", "source": "registry@a", "zone": "eu-1"},
        "annotations": {"summary": FIRED.summary, "alert_id": FIRED.id, "nodes": "a, b and 28 more"},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": (clock.now() + timedelta(seconds=120)).isoformat().replace("+00:00", "Z"),
    }
    assert again[0] == told
    assert again[1]["labels"]["zone"] == "eu-2"
    assert over == {**told, "endsAt": "2026-01-01T00:09:00Z"}


async def test_sinks_are_opened_as_a_file_names_them(tmp_path: Any) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    text = f"""
        [sinks.log]
        type = "log"
        [sinks.pager]
        type = "webhook"
        url = "https://pager.example/hook"
        secret_file = "{tmp_path / "secret"}"
        attempts_max = 3
        [sinks.am]
        type = "alertmanager"
        url = "http://am.example:9093/api/v2/alerts"
    """
    receiver = Receiver()
    sinks = dict(open_sinks(read_config(text, source="x"), clock=ManualClock(), source="r", transport=receiver))
    assert list(sinks) == ["log", "pager", "am"]
    assert sinks["pager"].attempts_max == 3
    for sink in sinks.values():
        await sink.send(notification_of(FIRED))
        await sink.close()
    assert [str(request.url) for request in receiver.requests] == [
        "https://pager.example/hook",
        "http://am.example:9093/api/v2/alerts",
    ]
