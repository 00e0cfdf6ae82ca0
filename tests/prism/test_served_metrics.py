"""What a server with sockets and a certificate tells beside what a registry does."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.prism.text import scrape, value
from tests.server.certificates import Authority
from thunderline.core.settings import Settings
from thunderline.core.x509 import expiry_of
from thunderline.server import open_server


async def test_connections_and_the_end_of_the_certificate_are_told(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue(tmp_path)
    expires_at = expiry_of(cert.read_bytes())
    assert expires_at is not None
    settings = Settings(port=0, store=f"sqlite:///{tmp_path / 't.db'}", tls_cert=str(cert), tls_key=str(key))
    async with open_server(settings) as server:
        for opened in (1, 2):
            async with httpx.AsyncClient(base_url=server.url, verify=authority.trusting(), trust_env=False) as http:
                samples = await scrape(http)
            assert value(samples, "connections_opened_total") == opened
            assert 1 <= value(samples, "connections") <= opened
        assert value(samples, "certificate_expiry_timestamp_seconds") == expires_at.timestamp()
        assert value(samples, "nodes", status="online") == 1
        assert value(samples, "alert_notifications_total", sink="log") == 0
        assert samples["process_open_fds", ()] > 0


async def test_without_tls_no_certificate_is_told_of(tmp_path: Path) -> None:
    async with (
        open_server(Settings(port=0, store=f"sqlite:///{tmp_path / 't.db'}")) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
    ):
        samples = await scrape(http)
        assert not [name for name, _ in samples if "certificate" in name]
        head = await http.get("/metrics", headers={"accept": "application/openmetrics-text"})
        assert head.headers["content-type"].startswith("application/openmetrics-text")
