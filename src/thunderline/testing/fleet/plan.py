"""Which nodes there are: names, roles, places, what they can do, and whom they speak to. Pure, and settled by a seed.

    region eu-west > zone eu-west-1a > rack eu-west-1a-r01 > gpu-euw1a-r01-03@prod
                   > site berlin > edge-berlin-02@edge

A zone has a gateway, to which its workers speak, and a relay, to which edge devices do; gateways speak to controllers,
and some workers to a neighbour. A name says role and domain, so that another seed on the same server contradicts
nothing: what is registered once stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Final

import msgspec

from thunderline.core.records import ClusterType, GroupType, SessionType

NODES_MAX: Final = 20_000
"""What one process can hold links for, with a core for itself; and about what one address has ports for."""

DOMAINS: Final = ("prod", "edge", "research", "staging", "media", "billing", "build", "lab")
"""The first is the largest, and the second that of edge devices."""

REGIONS: Final = ("eu-west", "us-east", "ap-south", "us-west", "sa-east")
_SITES: Final = {
    "eu-west": ("berlin", "lyon", "porto"),
    "us-east": ("boston", "atlanta", "toronto"),
    "ap-south": ("mumbai", "chennai", "colombo"),
    "us-west": ("denver", "seattle", "tijuana"),
    "sa-east": ("recife", "santos", "rosario"),
}
_ZONES: Final = "abc"
_EDGE_SHARE: Final = 0.15
_NEIGHBOUR_SHARE: Final = 0.3
"""Of workers that also speak to another one in their rack."""

_GATEWAY_SERVES: Final = 300
_RELAY_SERVES: Final = 120


class _Kind(msgspec.Struct, frozen=True):
    """What a kind of worker is like. `cpu` percent on average, `mem_mb` of how much it has."""

    name: str
    share: float
    cpu: float
    mem_mb: int
    capabilities: dict[str, tuple[str, ...]]


_WORKERS: Final = (
    _Kind("web", 0.35, 34, 16_384, {"http": ("h1", "h2", "h3")}),
    _Kind("batch", 0.25, 58, 65_536, {"queue": ("bulk", "reports", "mail")}),
    _Kind("gpu", 0.25, 71, 262_144, {"gpu": ("a100", "h100", "l4"), "cuda": ("12.4", "12.8")}),
    _Kind("db", 0.15, 42, 131_072, {"postgresql": ("16", "17")}),
)
_CPU_OF_ROLE: Final = {"controller": 18.0, "gateway": 38.0, "relay": 22.0, "edge": 26.0}
_MEM_OF_ROLE: Final = {"controller": 16_384, "gateway": 8_192, "relay": 4_096, "edge": 2_048}
_RELEASES: Final = ("2.4.1", "2.4.1", "2.4.1", "2.4.0", "2.5.0-rc1")


class PlannedLink(msgspec.Struct, frozen=True, gc=False):
    """A session that a node reports with another one, `remote`, that is `latency_ms` away when all is well."""

    remote: str
    session_type: SessionType
    connection_type: str
    latency_ms: float
    bandwidth_mbps: float


class PlannedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as it describes itself, the group that it is put into, and what its figures are around."""

    name: str
    role: str
    domain: str
    cluster_type: ClusterType
    address: str
    region: str
    zone: str
    """What falls out with it; of an edge device, its site."""
    group: str
    """Its rack or site, which is in the zone or region."""
    labels: dict[str, str]
    capabilities: dict[str, str]
    meta: dict[str, str]
    links: tuple[PlannedLink, ...]
    cpu_load: float
    mem_mb: int
    is_hot: bool

    @property
    def is_hub(self) -> bool:
        """Whether others speak to it."""
        return self.role in ("controller", "gateway", "relay")


class PlannedGroup(msgspec.Struct, frozen=True):
    """A group that nodes are in."""

    name: str
    group_type: GroupType
    parent: str | None


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet. Groups come behind those that they are in, nodes behind those that they speak to."""

    seed: int
    groups: tuple[PlannedGroup, ...]
    nodes: tuple[PlannedNode, ...]

    @property
    def links(self) -> int:
        """How many sessions between nodes there are when all are up."""
        return sum(len(node.links) for node in self.nodes)


def draw_plan(nodes: int, *, domains: int = 3, seed: int = 1) -> FleetPlan:
    """The fleet of that many nodes in that many domains that `seed` stands for. Raises: ValueError for bounds."""
    if not 1 <= nodes <= NODES_MAX:
        raise ValueError(f"a fleet has 1 to {NODES_MAX:,} nodes, not {nodes:,}")
    if not 1 <= domains <= len(DOMAINS):
        raise ValueError(f"a fleet has 1 to {len(DOMAINS)} domains, not {domains}")
    return _Drawing(nodes, DOMAINS[:domains], seed).plan()


class _Drawing:
    """The plan while it is being drawn."""

    def __init__(self, count: int, domains: Sequence[str], seed: int) -> None:
        self._count = count
        self._domains = domains
        self._seed = seed
        self._rng = random.Random(f"plan {seed}")
        regions = REGIONS[: 2 if count < 100 else 3 if count < 1_500 else 4 if count < 8_000 else 5]
        each = 1 if count < 100 else 2 if count < 1_000 else 3
        # Zone by zone over all regions, so that a fleet of three nodes is in two of them, too.
        self._zones = [(region, f"{region}-1{letter}") for letter, region in product(_ZONES[:each], regions)]
        self._regions = regions
        self._rack_size = 15 if count < 1_000 else 28 if count < 8_000 else 40
        self._nodes: list[PlannedNode] = []
        self._groups: dict[str, PlannedGroup] = {}
        self._controllers: list[PlannedNode] = []
        self._gateways: dict[str, list[PlannedNode]] = {}
        self._relays: dict[str, list[PlannedNode]] = {}

    def plan(self) -> FleetPlan:
        hubs = list(islice(self._hubs(), self._count))
        edges = int(_EDGE_SHARE * self._count) if self._relays else 0
        workers = max(0, self._count - len(hubs) - edges)
        for at, (_, zone) in enumerate(self._zones):
            self._draw_workers(zone, _part(workers, at, len(self._zones)))
        for at, region in enumerate(self._regions):
            self._draw_edges(region, _part(self._count - len(hubs) - workers, at, len(self._regions)))
        return FleetPlan(seed=self._seed, groups=tuple(self._groups.values()), nodes=tuple(self._nodes))

    # Hubs

    def _hubs(self) -> Iterator[PlannedNode]:
        """Controllers, gateways and relays, in the order in which a small fleet goes without."""
        for _, zone in self._zones[: min(3, len(self._zones))]:
            links = [self._link(zone, other, SessionType.HOTLINE, "quic") for other in self._controllers]
            node = self._draw(f"ctl-{_short(zone)}", "controller", self._domains[0], zone, self._rack(zone, 1), links)
            self._controllers.append(node)
            yield node
        for number in range(1, 1 + self._hubs_a_zone(_GATEWAY_SERVES)):
            for _, zone in self._zones:
                links = [self._link(zone, other, SessionType.CLUSTER, "quic") for other in self._controllers[:2]]
                known = self._gateways.setdefault(zone, [])
                if known:
                    links.append(self._link(zone, known[-1], SessionType.CLUSTER, "tcp"))
                name = f"gw-{_short(zone)}-{number}"
                node = self._draw(name, "gateway", self._domains[0], zone, self._rack(zone, 1), links)
                known.append(node)
                yield node
        for number in range(1, 1 + self._hubs_a_zone(_RELAY_SERVES)):
            for _, zone in self._zones:
                gateway = self._rng.choice(self._gateways[zone])
                links = [self._link(zone, gateway, SessionType.SERVICE, "tcp")]
                domain = self._domains[min(1, len(self._domains) - 1)]
                name = f"relay-{_short(zone)}-{number}"
                node = self._draw(name, "relay", domain, zone, self._rack(zone, 1), links)
                self._relays.setdefault(zone, []).append(node)
                yield node

    def _hubs_a_zone(self, serves: int) -> int:
        return -(-self._count // (len(self._zones) * serves))

    # The others

    def _draw_workers(self, zone: str, count: int) -> None:
        neighbour: PlannedNode | None = None
        for at in range(count):
            rack_number = 1 + at // self._rack_size
            rack = self._rack(zone, rack_number)
            if at % self._rack_size == 0:
                # A rack is for one purpose, and mostly of one kind.
                neighbour = None
                domain = self._domain()
                usual = self._kind()
            kind = usual if self._rng.random() < 0.7 else self._kind()
            links = []
            if gateways := self._gateways.get(zone):
                links.append(self._link(zone, self._rng.choice(gateways), SessionType.CLUSTER, "tcp"))
            elif self._controllers:
                links.append(self._link(zone, self._controllers[0], SessionType.CLUSTER, "tcp"))
            if neighbour is not None and self._rng.random() < _NEIGHBOUR_SHARE:
                links.append(self._link(zone, neighbour, SessionType.TOCP, "direct"))
            name = f"{kind.name}-{_short(zone)}-r{rack_number:02}-{1 + at % self._rack_size:02}"
            neighbour = self._draw(name, "worker", domain, zone, rack, links, kind=kind)

    def _draw_edges(self, region: str, count: int) -> None:
        relays = [relay for of, zone in self._zones if of == region for relay in self._relays.get(zone, ())]
        for at in range(count):
            sites = _SITES[region]
            site = sites[at % len(sites)]
            self._group(site, GroupType.CUSTOM, self._region(region))
            links = []
            if relays:
                wire = self._rng.choice(("websocket", "websocket", "webrtc"))
                links.append(self._link(site, self._rng.choice(relays), SessionType.SERVICE, wire))
            domain = self._domains[min(1, len(self._domains) - 1)]
            self._draw(f"edge-{site}-{1 + at // len(sites):02}", "edge", domain, site, site, links, region=region)

    def _draw(
        self,
        name: str,
        role: str,
        domain: str,
        zone: str,
        group: str,
        links: list[PlannedLink],
        *,
        kind: _Kind | None = None,
        region: str | None = None,
    ) -> PlannedNode:
        rng = self._rng
        usual = _CPU_OF_ROLE[role] if kind is None else kind.cpu
        is_hot = role != "controller" and rng.random() < 0.03
        number = len(self._nodes)
        given = {} if kind is None else kind.capabilities
        labels = {"simulated": "true", "zone": zone, "tier": "hub" if kind is None and role != "edge" else role}
        node = PlannedNode(
            name=f"{name}@{domain}",
            role=role,
            domain=domain,
            cluster_type=ClusterType.OUT_OF_CLUSTER if role == "edge" else ClusterType.IN_CLUSTER,
            address=f"10.{20 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}:7946",
            region=region or zone.rpartition("-")[0],
            zone=zone,
            group=group,
            labels=labels if kind is None else {**labels, "kind": kind.name},
            capabilities={key: rng.choice(values) for key, values in given.items()},
            meta={"version": rng.choice(_RELEASES), "os": "linux/arm64" if role == "edge" else "linux/amd64"},
            links=tuple(links),
            cpu_load=min(97.0, usual + 30 if is_hot else usual * rng.uniform(0.7, 1.3)),
            mem_mb=_MEM_OF_ROLE[role] if kind is None else kind.mem_mb,
            is_hot=is_hot,
        )
        self._nodes.append(node)
        return node

    def _link(self, zone: str, remote: PlannedNode, session_type: SessionType, wire: str) -> PlannedLink:
        rng = self._rng
        if zone in _IS_SITE:
            latency_ms, mbps = rng.uniform(12, 60), rng.uniform(20, 200)
        elif zone == remote.zone:
            latency_ms, mbps = rng.uniform(0.2, 1.2), rng.uniform(4_000, 25_000)
        elif zone.rpartition("-")[0] == remote.region:
            latency_ms, mbps = rng.uniform(1.5, 4), rng.uniform(2_000, 10_000)
        else:
            latency_ms, mbps = rng.uniform(70, 190), rng.uniform(300, 2_000)
        return PlannedLink(remote.name, session_type, wire, round(latency_ms, 2), round(mbps))

    def _domain(self) -> str:
        """Of a rack: the first one for every second."""
        inside = [domain for domain in self._domains if domain != "edge"]
        return inside[0] if len(inside) == 1 or self._rng.random() < 0.5 else self._rng.choice(inside[1:])

    def _kind(self) -> _Kind:
        return self._rng.choices(_WORKERS, weights=[kind.share for kind in _WORKERS])[0]

    # Groups

    def _region(self, region: str) -> str:
        return self._group(region, GroupType.REGION, None)

    def _rack(self, zone: str, number: int) -> str:
        in_zone = self._group(zone, GroupType.ZONE, self._region(zone.rpartition("-")[0]))
        return self._group(f"{zone}-r{number:02}", GroupType.CUSTOM, in_zone)

    def _group(self, name: str, group_type: GroupType, parent: str | None) -> str:
        if name not in self._groups:
            self._groups[name] = PlannedGroup(name, group_type, parent)
        return name


_IS_SITE: Final = frozenset(site for sites in _SITES.values() for site in sites)


def _short(zone: str) -> str:
    """`euw1a` for `eu-west-1a`, as it stands in names."""
    place, way, end = zone.split("-")
    return f"{place}{way[0]}{end}"


def _part(whole: int, at: int, parts: int) -> int:
    """The `at`-th of so many parts of a whole, as equal as can be."""
    return whole * (at + 1) // parts - whole * at // parts
