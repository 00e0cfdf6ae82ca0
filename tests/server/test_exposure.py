"""What may be served to whom: the rule of which addresses need tokens and encryption."""

from __future__ import annotations

import pytest

from thunderline.core.errors import HostRefused, SettingsError
from thunderline.core.settings import Settings
from thunderline.gate.app import host_rules
from thunderline.server import check_exposure

LOOPBACK = ("127.0.0.1", "127.8.8.8", "localhost", "::1", "::ffff:127.0.0.1")
BEYOND = ("0.0.0.0", "10.1.2.3", "::", "2001:db8::1", "::ffff:10.1.2.3")
PROXIES = ("10.0.0.0/24",)


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", BEYOND)
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, ("auth", "tls_cert", "behind_proxy")),
        ({"tls_cert": "cert.pem"}, ("auth",)),
        ({"auth": True}, ("tls_cert", "behind_proxy")),
    ],
)
def test_another_address_needs_tokens_and_encryption(
    host: str, given: dict[str, str], missing: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as refused:
        check_exposure(Settings(host=host, **given))
    assert refused.value.field == "host"
    assert host in refused.value.problem
    assert [name for name in ("auth", "tls_cert", "behind_proxy") if f"{name} (" in refused.value.problem] == list(
        missing
    )


@pytest.mark.parametrize("host", BEYOND)
@pytest.mark.parametrize("given", [{"tls_cert": "cert.pem"}, {"behind_proxy": PROXIES}])
def test_with_both_it_is_served(host: str, given: dict[str, object]) -> None:
    check_exposure(Settings(host=host, auth=True, allowed_hosts=("registry.example",), **given))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_proxies_need_tokens_wherever_they_are(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_exposure(Settings(host=host, behind_proxy=("127.0.0.1",)))
    assert refused.value.field == "behind_proxy"
    assert "--auth" in refused.value.problem


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1:80", "[::1]", "127.1", ""])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^host"):
        check_exposure(Settings(host=host))


@pytest.mark.parametrize("network", ["0.0.0.0/0", "10.0.0.1/24", "proxy.example"])
def test_networks_are_read_at_once(network: str) -> None:
    with pytest.raises(SettingsError, match=r"^behind_proxy"):
        check_exposure(Settings(auth=True, behind_proxy=(network,)))


def test_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^tls_key.*tls_cert"):
        check_exposure(Settings(tls_key="key.pem"))


@pytest.mark.parametrize(
    ("listening", "host", "is_ours"),
    [
        ("10.1.2.3", b"10.1.2.3:4040", True),
        ("2001:db8::1", b"[2001:db8::1]:4040", True),
        ("2001:db8::1", b"[2001:db8::1]", True),
        ("10.1.2.3", b"registry.example", True),
        ("10.1.2.3", b"localhost:4040", True),
        ("10.1.2.3", b"10.1.2.4:4040", False),
        ("10.1.2.3", b"other.example", False),
        ("2001:db8::1", b"[2001:db8::2]:4040", False),
    ],
)
def test_it_answers_for_the_address_it_listens_on_and_for_allowed_hosts(
    listening: str, host: bytes, is_ours: bool
) -> None:
    rules = host_rules(Settings(host=listening, allowed_hosts=("registry.example",)))
    if is_ours:
        rules.check_host(host)
    else:
        with pytest.raises(HostRefused):
            rules.check_host(host)
