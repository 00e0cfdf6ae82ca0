"""Service discovery: the nodes as targets for Prometheus to scrape, as its HTTP service discovery reads them.

Source: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from thunderline.core.records import Node
from thunderline.link.node_index import NodeFilter
from thunderline.link.registry import Registry

META: Final = "__meta_thunderline_"
AT_ONCE: Final = 100
"""Nodes that are written before everybody else has a turn: a millisecond or two."""

_PORTS: Final = range(1, 65_536)
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_]")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_PLAIN: Final = re.compile(r"([A-Za-z0-9._-]+)(?::([1-9][0-9]{0,3}))?")
"""What nearly all addresses are, and what is no other kind; larger ports are looked at."""
_encode: Final = msgspec.json.Encoder().encode


class TargetGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One node: the address to scrape, as `host` or `host:port`, and what is known of it."""

    targets: list[str]
    labels: dict[str, str]


class Discovery:
    """The nodes of one registry as targets."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def targets(self, wanted: NodeFilter, *, port: int | None, port_label: str | None) -> bytes:
        """The target groups of the nodes that match, by name, as JSON; those that nobody can reach are left out.

        The port of a node is what its label `port_label` says, else `port`; where neither is given, the one in its
        address, if there is one. With a `port_label` and no `port`, nodes without that label are left out. Raises:
        UnknownGroup.
        """
        entries, _ = self._registry.roster.select(wanted)
        pieces: list[bytes] = []
        for place, entry in enumerate(entries, start=1):
            target = target_of(entry.node, port=port, port_label=port_label)
            if target is not None:
                pieces.append(_encode(TargetGroup(targets=[target], labels=labels_of(entry.node))))
            if place % AT_ONCE == 0:
                await asyncio.sleep(0)
        return b"[" + b",".join(pieces) + b"]"


def target_of(node: Node, *, port: int | None, port_label: str | None) -> str | None:
    """Where to scrape the node; None: nobody knows. See `Discovery.targets`."""
    split = None if node.address is None else split_address(node.address)
    if split is None:
        return None
    host, own_port = split
    wanted = port
    if port_label is not None:
        wanted = _port(node.labels.get(port_label)) or port
        if wanted is None:
            return None
    elif wanted is None:
        wanted = own_port
    return host if wanted is None else f"{host}:{wanted}"


def split_address(address: str) -> tuple[str, int | None] | None:
    """Host and port of an address as nodes give it: a name or an IP address, with a port or without, or a URL.

    An IPv6 address comes in brackets. None where it is none of these.
    """
    address = address.strip()
    if (plain := _PLAIN.fullmatch(address)) is not None:
        return plain[1], None if plain[2] is None else int(plain[2])
    try:
        return f"[{ipaddress.IPv6Address(address)}]", None
    except ValueError:
        pass
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]", port
        except ValueError:
            return None
    return (host, port or None) if _HOST.fullmatch(host) else None


def labels_of(node: Node) -> dict[str, str]:
    """What relabelling may use of a node. Lists have their separator at both ends, too, so that `,name,` finds one."""
    labels = {
        f"{META}id": node.id,
        f"{META}name": node.name,
        f"{META}status": node.status.value,
        f"{META}role": node.role,
        f"{META}domain": node.domain,
        f"{META}cluster_type": node.cluster_type.value,
        f"{META}address": node.address or "",
    }
    if node.groups:
        labels[f"{META}groups"] = f",{','.join(node.groups)},"
    # Sorted the other way: where two keys become one name, that of the first one stays.
    for key, value in sorted(node.labels.items(), reverse=True):
        labels[f"{META}label_{_NOT_IN_NAMES.sub('_', key)}"] = value
    for key, capability in sorted(node.capabilities.items(), reverse=True):
        if capability.enabled:
            labels[f"{META}capability_{_NOT_IN_NAMES.sub('_', key)}"] = capability.value or "true"
    return labels


def _port(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 5:
        return None
    port = int(text)
    return port if port in _PORTS else None
