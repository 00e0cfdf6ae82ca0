"""What nodes can do: plans that add, change and remove capabilities, like those of `plans`."""

from __future__ import annotations

import msgspec

from thunderline.core.errors import InvalidInput, UnknownCapability
from thunderline.core.ids import NodeId
from thunderline.core.inputs import CAPABILITIES_MAX, CapabilityAttrs
from thunderline.core.records import Capability, Node
from thunderline.flow import taxonomy
from thunderline.link.overlay import Overlay


class Equipped(msgspec.Struct, frozen=True):
    """A node with a capability; `added` if it had none under that key."""

    node: Node
    added: bool


def put(overlay: Overlay, node_id: NodeId, key: str, attrs: CapabilityAttrs) -> Equipped:
    """The node with this capability, whatever it was before. Raises: UnknownNode, InvalidInput when it has too many."""
    node = overlay.node(node_id)
    wanted = Capability(value=attrs.value, enabled=attrs.enabled)
    have = node.capabilities.get(key)
    if have == wanted:
        return Equipped(node, added=False)
    if have is None and len(node.capabilities) >= CAPABILITIES_MAX:
        raise InvalidInput("key", f"{node.name} has {CAPABILITIES_MAX} capabilities already; remove one first")
    event = taxonomy.CAPABILITY_ADDED if have is None else taxonomy.CAPABILITY_UPDATED
    return Equipped(_with(overlay, event, node, {**node.capabilities, key: wanted}), added=have is None)


def enable(overlay: Overlay, node_id: NodeId, key: str, enabled: bool) -> Node:
    """The node with this capability enabled or not, its value as it was. Raises: UnknownNode, UnknownCapability."""
    node = overlay.node(node_id)
    have = _capability(node, key)
    if have.enabled is enabled:
        return node
    changed = msgspec.structs.replace(have, enabled=enabled)
    return _with(overlay, taxonomy.CAPABILITY_UPDATED, node, {**node.capabilities, key: changed})


def remove(overlay: Overlay, node_id: NodeId, key: str) -> Node:
    """The node without this capability. Raises: UnknownNode, UnknownCapability."""
    node = overlay.node(node_id)
    _capability(node, key)
    left = {other: capability for other, capability in node.capabilities.items() if other != key}
    return _with(overlay, taxonomy.CAPABILITY_REMOVED, node, left)


def _capability(node: Node, key: str) -> Capability:
    if (have := node.capabilities.get(key)) is None:
        raise UnknownCapability(node.name, key=key)
    return have


def _with(overlay: Overlay, event: str, node: Node, capabilities: dict[str, Capability]) -> Node:
    return overlay.put_node(event, msgspec.structs.replace(node, capabilities=capabilities))
