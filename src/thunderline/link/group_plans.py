"""Groups of nodes: plans that create, change and delete them, and let nodes join and leave, like those of `plans`."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from thunderline.core.errors import GroupCycle, GroupInUse, InvalidInput, Mismatch, UnknownMembership
from thunderline.core.ids import GroupId, NodeId, Revision
from thunderline.core.inputs import GROUPS_MAX, GroupAttrs, GroupPatch
from thunderline.core.records import GroupType, Node, NodeGroup
from thunderline.flow import taxonomy
from thunderline.link.merge_patch import merged_meta
from thunderline.link.overlay import Overlay

DEPTH_MAX: Final = 32
"""Groups inside each other, the innermost and the outermost counted."""
DEFAULT_TYPE: Final = GroupType.CUSTOM
_SHOWN_MAX: Final = 200


class Created(msgspec.Struct, frozen=True):
    """A group that exists now; `created` if it did not before."""

    group: NodeGroup
    created: bool


class Joined(msgspec.Struct, frozen=True):
    """A node that is a member; `joined` if it was not before."""

    node: Node
    joined: bool


def create(overlay: Overlay, attrs: GroupAttrs) -> Created:
    """A group of this name: a new one, or the known one if nothing given differs. Raises: Mismatch, InvalidInput."""
    known = overlay.group_named(attrs.name)
    if known is not None:
        _check_same(known, attrs)
        return Created(known, created=False)
    group = NodeGroup(
        id=GroupId(overlay.new_id()),
        name=attrs.name,
        group_type=DEFAULT_TYPE if attrs.group_type is UNSET else attrs.group_type,
        parent=None if attrs.parent is UNSET else attrs.parent,
        meta={} if attrs.meta is UNSET else attrs.meta,
        inserted_at=overlay.now,
        updated_at=overlay.now,
        revision=Revision(0),
    )
    _check_place(overlay, group, height=1)
    return Created(overlay.put_group(taxonomy.GROUP_CREATED, group), created=True)


def update(overlay: Overlay, group_id: GroupId, patch: GroupPatch) -> NodeGroup:
    """The group with the patch applied. Raises: UnknownGroup, GroupCycle, InvalidInput."""
    group = overlay.group(group_id)
    changes: dict[str, Any] = {}
    if patch.group_type is not UNSET:
        changes["group_type"] = patch.group_type or DEFAULT_TYPE
    if patch.parent is not UNSET:
        changes["parent"] = patch.parent
    if patch.meta is not UNSET:
        changes["meta"] = merged_meta(group.meta, patch.meta)
    changed = msgspec.structs.replace(group, **changes)
    if changed == group:
        return group
    if changed.parent != group.parent:
        _check_place(overlay, changed, height=_height(overlay, group.name))
    return overlay.put_group(taxonomy.GROUP_UPDATED, changed)


def remove(overlay: Overlay, group_id: GroupId, force: bool) -> NodeGroup:
    """The group deleted; forced, its members have left it before, and the groups in it have moved up to its parent.

    Raises: UnknownGroup; GroupInUse when there are such, unless forced.
    """
    group = overlay.group(group_id)
    members, inside = overlay.members_of(group.name), overlay.groups_inside(group.name)
    if (members or inside) and not force:
        raise GroupInUse(group.name, members=len(members), subgroups=len(inside))
    for node in members:
        _leave(overlay, node, group.name)
    for inner in inside:
        overlay.put_group(taxonomy.GROUP_UPDATED, msgspec.structs.replace(inner, parent=group.parent))
    return overlay.remove_group(taxonomy.GROUP_REMOVED, group)


def join(overlay: Overlay, node_id: NodeId, group_id: GroupId) -> Joined:
    """The node as a member of the group. Raises: UnknownNode, UnknownGroup, InvalidInput when it is in too many."""
    node, group = overlay.node(node_id), overlay.group(group_id)
    if group.name in node.groups:
        return Joined(node, joined=False)
    if len(node.groups) >= GROUPS_MAX:
        raise InvalidInput("group", f"{node.name} is in {GROUPS_MAX} groups already; take it out of one first")
    groups = tuple(sorted((*node.groups, group.name)))
    changed = overlay.put_node(taxonomy.GROUP_JOINED, msgspec.structs.replace(node, groups=groups))
    return Joined(changed, joined=True)


def leave(overlay: Overlay, node_id: NodeId, group_id: GroupId) -> Node:
    """The node out of the group. Raises: UnknownNode, UnknownGroup, UnknownMembership."""
    node, group = overlay.node(node_id), overlay.group(group_id)
    if group.name not in node.groups:
        raise UnknownMembership(node.name, group=group.name)
    return _leave(overlay, node, group.name)


def _leave(overlay: Overlay, node: Node, name: str) -> Node:
    left = tuple(other for other in node.groups if other != name)
    return overlay.put_node(taxonomy.GROUP_LEFT, msgspec.structs.replace(node, groups=left))


def _check_same(known: NodeGroup, attrs: GroupAttrs) -> None:
    for field in ("group_type", "parent", "meta"):
        given, have = getattr(attrs, field), getattr(known, field)
        if given is not UNSET and given != have:
            raise Mismatch(field, known=_shown(have), given=_shown(given))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()[:_SHOWN_MAX]


def _check_place(overlay: Overlay, group: NodeGroup, *, height: int) -> None:
    """Hold the group to where it may be. Raises: InvalidInput for no such parent or too deep, GroupCycle."""
    chain = [group.name]
    parent = group.parent
    while parent is not None:
        chain.append(parent)
        if parent == group.name:
            raise GroupCycle(chain)
        above = overlay.group_named(parent)
        if above is None:
            raise InvalidInput("parent", f"there is no group {parent!r}; create it first")
        parent = above.parent
    depth = len(chain) - 1 + height
    if depth > DEPTH_MAX:
        raise InvalidInput("parent", f"there would be {depth} groups inside each other, {DEPTH_MAX} at most")


def _height(overlay: Overlay, name: str) -> int:
    """The levels of groups from this one down, itself counted."""
    height, level = 0, [name]
    while level:
        height += 1
        level = [inner.name for above in level for inner in overlay.groups_inside(above)]
    return height
