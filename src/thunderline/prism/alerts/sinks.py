"""Where alerts are told: the server's log, a webhook, an Alertmanager.

Sources: RFC 2104 (HMAC), FIPS 180-4 (SHA-256) for the webhook's signature; Alertmanager's OpenAPI description of its
API version 2 for `POST /api/v2/alerts`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, assert_never

import httpx
import msgspec

from thunderline import __version__
from thunderline.core.alerts import SEVERITY_LABEL, Alert, AlertState
from thunderline.core.clock import Clock
from thunderline.core.errors import SettingsError
from thunderline.core.logging import get_logger
from thunderline.prism.alerts.outlets import Notification, NotTaken, Sink
from thunderline.prism.alerts.rules import (
    SETTING,
    AlertConfig,
    AlertmanagerConfig,
    LogSinkConfig,
    WebhookConfig,
    duration_s,
)

log = get_logger(__name__)

SIGNATURE: Final = "Thunderline-Signature"
DELIVERY: Final = "Thunderline-Delivery"
TIMESTAMP: Final = "Thunderline-Timestamp"

SECRET_MIN_BYTES: Final = 16
LATER: Final = frozenset({408, 425, 429})
"""What may be taken next time, of the answers that blame the request."""
NEVER: Final = frozenset({400, 413, 422})
"""What will not: the receiver has read it, and refuses it."""

ENDS_AFTER: Final = 4
"""An alert that an Alertmanager is not told of for so many times its repetition counts as resolved there."""

_ENCODER: Final = msgspec.json.Encoder()


class LogSink(Sink):
    """Lines in the server's log."""

    async def send(self, notification: Notification) -> None:
        alert = notification.alert
        told = {"alert": alert.id, "rule": alert.rule, "severity": alert.severity.value, "labels": alert.labels}
        if alert.state is AlertState.FIRING:
            log.warning("alert fired", summary=alert.summary, **told)
        else:
            log.info("alert resolved", summary=alert.summary, **told)


class _HttpSink(Sink):
    """Posts JSON to one URL: through no proxy of the environment, following no redirect, in bounded time."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        trust: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            trust_env=False,
            verify=True if trust is None else trust,
            follow_redirects=False,
            timeout=timeout_s,
            transport=transport,
            headers={"user-agent": f"thunderline/{__version__}"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Raises: NotTaken."""
        try:
            # httpx bounds each step; the whole has an end, too, whatever a receiver sends how slowly.
            async with asyncio.timeout(2 * self._timeout_s):
                async with self._client.stream(
                    "POST", self._url, content=body, headers={"content-type": "application/json", **(headers or {})}
                ) as answer:
                    status, wait = answer.status_code, answer.headers.get("retry-after")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotTaken(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
        except TimeoutError as error:
            raise NotTaken("no answer in time") from error
        if 200 <= status < 300:
            return
        raise NotTaken(f"answered {status}", is_final=status in NEVER, retry_after_s=_seconds(wait))


class WebhookSink(_HttpSink):
    """One notification a request, signed where there is a secret. See `docs/monitoring.md` for what a receiver does."""

    def __init__(
        self,
        config: WebhookConfig,
        *,
        clock: Clock,
        source: str,
        secret: bytes | None = None,
        trust: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        timeout_s = duration_s(config.timeout, field="timeout")
        super().__init__(config.url, timeout_s=timeout_s, trust=trust, transport=transport)
        self.attempts_max = config.attempts_max
        self.retry_max_s = duration_s(config.retry_max, field="retry_max")
        self._clock = clock
        self._source = source
        self._secret = secret

    async def send(self, notification: Notification) -> None:
        alert = notification.alert
        body = _ENCODER.encode(
            {
                "id": notification.id,
                "state": alert.state,
                "at": notification.at,
                "source": self._source,
                "alert": alert,
            }
        )
        sent_s = self._clock.now_ms() // 1000
        headers = {DELIVERY: notification.id, TIMESTAMP: str(sent_s)}
        if self._secret is not None:
            headers[SIGNATURE] = f"v1={sign(self._secret, sent_s, body)}"
        await self._post(body, headers)


class AlertmanagerSink(_HttpSink):
    """Posts alerts as Alertmanager takes them, and again as long as they fire: it forgets who is not repeated."""

    def __init__(
        self,
        config: AlertmanagerConfig,
        *,
        clock: Clock,
        source: str,
        trust: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = config.url.rstrip("/")
        if not url.endswith("/api/v2/alerts"):
            url += "/api/v2/alerts"
        timeout_s = duration_s(config.timeout, field="timeout")
        super().__init__(url, timeout_s=timeout_s, trust=trust, transport=transport)
        self.attempts_max = config.attempts_max
        self.retry_max_s = duration_s(config.retry_max, field="retry_max")
        self.repeat_s = duration_s(config.repeat, field="repeat")
        self._clock = clock
        self._source = source

    async def send(self, notification: Notification) -> None:
        await self._post(_ENCODER.encode([self._told(notification.alert)]))

    async def repeat(self, alerts: list[Alert]) -> None:
        await self._post(_ENCODER.encode([self._told(alert) for alert in alerts]))

    def _told(self, alert: Alert) -> dict[str, Any]:
        ends_at = alert.resolved_at
        if ends_at is None:
            assert self.repeat_s is not None
            ends_at = self._clock.now() + timedelta(seconds=ENDS_AFTER * self.repeat_s)
        annotations = {"summary": alert.summary, "alert_id": alert.id}
        if alert.names:
            more = alert.nodes - len(alert.names)
            annotations["nodes"] = ", ".join(alert.names) + (f" and {more} more" if more > 0 else "")
        return {
            "labels": {
                "alertname": alert.rule,
                SEVERITY_LABEL: alert.severity.value,
                "source": self._source,
                **alert.labels,
            },
            "annotations": annotations,
            "startsAt": alert.starts_at,
            "endsAt": ends_at,
        }


def sign(secret: bytes, sent_s: int, body: bytes) -> str:
    """The signature of a webhook's request: HMAC-SHA256 over its time, a dot and its body, in hexadecimal digits."""
    return hmac.new(secret, f"{sent_s}.".encode() + body, hashlib.sha256).hexdigest()


def open_sinks(
    config: AlertConfig, *, clock: Clock, source: str, transport: httpx.AsyncBaseTransport | None = None
) -> Sequence[tuple[str, Sink]]:
    """The sinks of a configuration, by name. Raises: SettingsError for a file of theirs that cannot be read."""
    made: list[tuple[str, Sink]] = []
    for name, sink in config.sinks.items():
        match sink:
            case LogSinkConfig():
                made.append((name, LogSink()))
            case WebhookConfig():
                secret = None if sink.secret_file is None else read_secret(sink.secret_file)
                trust = None if sink.ca_file is None else read_authorities(sink.ca_file)
                webhook = WebhookSink(sink, clock=clock, source=source, secret=secret, trust=trust, transport=transport)
                made.append((name, webhook))
            case AlertmanagerConfig():
                trust = None if sink.ca_file is None else read_authorities(sink.ca_file)
                made.append(
                    (name, AlertmanagerSink(sink, clock=clock, source=source, trust=trust, transport=transport))
                )
            case _:
                assert_never(sink)
    return made


def read_secret(path: str) -> bytes:
    """The secret in a file, without white space at its ends. Raises: SettingsError, which does not show it."""
    try:
        secret = Path(path).read_bytes().strip()
    except OSError as error:
        raise SettingsError(SETTING, f"secret_file {path} cannot be read: {error.strerror}", source=path) from error
    if len(secret) < SECRET_MIN_BYTES:
        raise SettingsError(SETTING, f"secret_file {path} should hold {SECRET_MIN_BYTES} bytes or more", source=path)
    return secret


def read_authorities(path: str) -> ssl.SSLContext:
    """How to connect trusting the authorities in a PEM file alone. Raises: SettingsError."""
    try:
        context = ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise SettingsError(SETTING, f"ca_file {path} holds no certificate in PEM form", source=path) from error
    except OSError as error:
        raise SettingsError(SETTING, f"ca_file {path} cannot be read: {error.strerror}", source=path) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _seconds(retry_after: str | None) -> float | None:
    """Of a `Retry-After` that is a number; a date counts as none: our clock may be another."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return None
    return float(retry_after[:6])
