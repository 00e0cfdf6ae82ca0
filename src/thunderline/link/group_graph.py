"""The topology with each group drawn as one node: what is inside is counted, what leads out is bundled.

A node counts for one group: the nearest of type zone, else region, shard, project, role, custom; a node in no group is
drawn as itself. Links inside a group do not show; those between the same two ends are one link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from thunderline.core.ids import NodeId, Revision
from thunderline.core.records import (
    ClusterType,
    GroupType,
    NodeGroup,
    NodeStatus,
    SessionStatus,
)
from thunderline.link.graph import (
    AnyNode,
    Graph,
    GraphLink,
    GraphNode,
    L,
    LinkType,
    Scene,
    graph_node,
    link_type,
)
from thunderline.link.group_tree import nearest_group

_ORDER: Final = (
    GroupType.ZONE,
    GroupType.REGION,
    GroupType.SHARD,
    GroupType.PROJECT,
    GroupType.ROLE,
    GroupType.CUSTOM,
)
_WORST_FIRST: Final = (SessionStatus.DEGRADED, SessionStatus.ESTABLISHING, SessionStatus.ESTABLISHED)

Named = Callable[[str], NodeGroup | None]
"""Gives a group by its name."""


def draw_groups(scene: Scene[L], *, named: Named, revision: Revision, cursor: str) -> Graph:
    """The graph of `scene` by groups. A group's `val` is 1 and 1 more for each member; `meta` counts them by status."""
    homes: dict[tuple[str, ...], NodeGroup | None] = {}
    members: dict[str, tuple[NodeGroup, list[AnyNode]]] = {}
    drawn_as: dict[NodeId, NodeId] = {}
    alone: list[AnyNode] = []
    for node in scene.nodes:
        if node.groups not in homes:
            homes[node.groups] = _home(node.groups, named)
        home = homes[node.groups]
        if home is None:
            alone.append(node)
            drawn_as[node.id] = node.id
        else:
            members.setdefault(home.name, (home, []))[1].append(node)
            drawn_as[node.id] = NodeId(home.id)
    bundles: dict[tuple[NodeId, NodeId, LinkType], list[L]] = {}
    for link, source, target in scene.links()[0]:
        one, other = drawn_as[source], drawn_as[target]
        if one != other:
            bundles.setdefault((one, other, link_type(link)), []).append(link)
    counts = Counter(end for source, target, _ in bundles for end in (source, target))
    groups = [_group_node(group, nodes) for _, (group, nodes) in sorted(members.items())]
    return Graph(
        nodes=groups + [graph_node(node, counts[node.id]) for node in alone],
        links=[_bundle(*key, links) for key, links in bundles.items()],
        revision=revision,
        cursor=cursor,
    )


def _home(names: tuple[str, ...], named: Named) -> NodeGroup | None:
    for kind in _ORDER:
        if (found := nearest_group(names, kind, named=named)) is not None:
            return found
    return None


def _group_node(group: NodeGroup, nodes: Sequence[AnyNode]) -> GraphNode:
    by_status = Counter(node.status for node in nodes)
    return GraphNode(
        id=NodeId(group.id),
        name=group.name,
        role=group.group_type.value,
        domain=_commonest(node.domain for node in nodes),
        status=_status(by_status, len(nodes)),
        cluster_type=ClusterType(_commonest(node.cluster_type.value for node in nodes)),
        val=1 + len(nodes),
        meta={
            "members": len(nodes),
            "by_status": {status.value: by_status[status] for status in NodeStatus if by_status[status]},
            "parent": group.parent,
        },
    )


def _status(by_status: Counter[NodeStatus], total: int) -> NodeStatus:
    """What all members are; degraded where they differ."""
    return next((status for status, count in by_status.items() if count == total), NodeStatus.DEGRADED)


def _bundle(source: NodeId, target: NodeId, kind: LinkType, links: Sequence[L]) -> GraphLink:
    """One link for many: `value` is how many, latency their mean, bandwidth their sum, the status the worst."""
    latencies = [one.latency_ms for one in links if one.latency_ms is not None]
    bandwidths = [one.bandwidth_mbps for one in links if one.bandwidth_mbps is not None]
    statuses = {one.status for one in links}
    return GraphLink(
        source=source,
        target=target,
        type=kind,
        session_id=f"{source}:{target}",
        session_type=Counter(one.session_type for one in links).most_common(1)[0][0],
        connection_type=_commonest(one.connection_type for one in links),
        status=next(status for status in _WORST_FIRST if status in statuses),
        value=float(len(links)),
        latency_ms=sum(latencies) / len(latencies) if latencies else None,
        bandwidth_mbps=sum(bandwidths) if bandwidths else None,
        established_at=min((one.established_at for one in links if one.established_at is not None), default=None),
    )


def _commonest(values: Iterable[str]) -> str:
    return Counter(values).most_common(1)[0][0]
