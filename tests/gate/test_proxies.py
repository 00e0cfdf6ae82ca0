"""Proxies and their clients: who is believed, and how much of what they say."""

from __future__ import annotations

import pytest

from thunderline.core.errors import SettingsError
from thunderline.gate.proxies import HOPS_MAX, Proxies, address_of

NETWORKS = ("10.0.0.0/24", "fd00::/64", "192.0.2.1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:80", "198.51.100.7"),
        ("198.51.100.7:", None),
        ("198.51.100.7:x", None),
        ("198.51.100.7:65536", None),
        ("198.51.100.7:\u0661", None),
        ("[2001:db8::7", None),
        ("[2001:db8::7]x", None),
        ("198.51.100.07", None),
        ("198.51.100", None),
        ("unknown", None),
        ("_hidden", None),
        ("worker-1.example", None),
        ("", None),
        ("1" * 10_000, None),
    ],
)
def test_only_a_real_address_is_one(text: str, address: str | None) -> None:
    found = address_of(text)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("10.0.0.9", b"198.51.100.7", "198.51.100.7"),
        ("10.0.0.9", b"203.0.113.9, 198.51.100.7", "198.51.100.7"),  # what stands left is the client's own word
        ("10.0.0.9", b"198.51.100.7, 10.0.0.8,fd00::8 , 192.0.2.1", "198.51.100.7"),
        ("10.0.0.9", b"198.51.100.7:1234", "198.51.100.7"),
        ("::ffff:10.0.0.9", b"[2001:db8::7]:80", "2001:db8::7"),
        ("10.0.0.9", None, "10.0.0.9"),
        ("10.0.0.9", b"", "10.0.0.9"),
        ("10.0.0.9", b"10.0.0.7", "10.0.0.7"),
        ("10.0.0.9", b"198.51.100.7, unknown", "10.0.0.9"),
        ("10.0.0.9", b"198.51.100.7, unknown, 10.0.0.8", "10.0.0.8"),
        ("10.0.0.9", b"198.51.100.7,", "10.0.0.9"),
        ("10.0.1.9", b"198.51.100.7", "10.0.1.9"),  # no proxy of ours
        ("127.0.0.1", b"198.51.100.7", "127.0.0.1"),
        ("fd00:0:0:1::9", b"198.51.100.7", "fd00:0:0:1::9"),
        (None, b"198.51.100.7", None),
    ],
)
def test_client_is_the_last_address_that_is_no_proxys(peer: str | None, forwarded_for: bytes, client: str) -> None:
    assert Proxies(NETWORKS).client_of(peer, forwarded_for) == client


def test_so_many_hops_are_looked_at_and_no_more() -> None:
    hops = b", ".join([b"198.51.100.7", b"10.0.0.1", *[b"10.0.0.2"] * (HOPS_MAX - 1)])
    assert Proxies(NETWORKS).client_of("10.0.0.9", hops) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded_proto", "scheme"),
    [
        (b"https", "https"),
        (b"wss", "https"),
        (b"HTTPS", "https"),
        (b"http, https", "https"),
        (None, "https"),
        (b"http", "http"),
        (b"ws", "http"),
        (b"https, http", "http"),
        (b"gopher", "http"),
        (b"", "http"),
    ],
)
def test_scheme_is_what_the_nearest_proxy_says(forwarded_proto: bytes | None, scheme: str) -> None:
    assert Proxies(NETWORKS).scheme_of(forwarded_proto) == scheme


@pytest.mark.parametrize(
    "network",
    ["10.0.0.1/24", "proxy.example", "", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "::ffff:0:0/80", "::/1"],
)
def test_network_that_cannot_be_one_of_proxies_is_refused_by_name(network: str) -> None:
    with pytest.raises(SettingsError, match=r"^behind_proxy"):
        Proxies([network])


def test_refusal_of_an_address_with_a_mask_names_the_network_that_was_meant() -> None:
    with pytest.raises(SettingsError, match=r"did you mean 10\.0\.0\.0/24\?"):
        Proxies(["10.0.0.1/24"])


def test_network_of_mapped_addresses_is_that_of_the_addresses() -> None:
    proxies = Proxies(["::ffff:10.0.0.0/120"])
    assert proxies.client_of("10.0.0.9", b"198.51.100.7") == "198.51.100.7"
    assert proxies.client_of("10.0.1.9", b"198.51.100.7") == "10.0.1.9"
