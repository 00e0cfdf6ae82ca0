"""What may be laid around the plan of an action: a look before it, or something kept behind it.

Inside the plan, since only there nothing can happen between the look and the change, nor between the change and what
is kept of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from thunderline.core.errors import PreconditionFailed, ThunderlineError
from thunderline.core.ids import LogId, NodeId, Revision
from thunderline.link.overlay import Overlay

V = TypeVar("V")


def entity_tag(log_id: LogId, revision: Revision) -> str:
    """The strong tag of a record at `revision`. Source: RFC 9110, section 8.8.3."""
    return f'"{log_id}:{revision}"'


class Condition(ABC):
    """Something that holds for an action; given to `NodeDomain.under`."""

    @abstractmethod
    def around(self, plan: Callable[[Overlay], V]) -> Callable[[Overlay], V]:
        """`plan`, under this condition. It may run more than once: a batch that the store rejects is planned again."""


class OnlyIf(Condition):
    """The action is refused unless the node's tag is one of `tags`; None: unless there is such a node."""

    def __init__(self, node_id: NodeId, tags: frozenset[str] | None, *, log_id: LogId) -> None:
        self._node_id = node_id
        self._tags = tags
        self._log_id = log_id

    def around(self, plan: Callable[[Overlay], V]) -> Callable[[Overlay], V]:
        def planned(overlay: Overlay) -> V:
            node = overlay.node(self._node_id)
            tag = entity_tag(self._log_id, node.revision)
            if self._tags is not None and tag not in self._tags:
                raise PreconditionFailed(node.name, revision=node.revision, tag=tag)
            return plan(overlay)

        return planned


class Keeping(Condition):
    """What the action gives is handed to `keep`, which may put an answer into the same commit; an error is not."""

    def __init__(self, keep: Callable[[Overlay, Any], None]) -> None:
        self._keep = keep

    def around(self, plan: Callable[[Overlay], V]) -> Callable[[Overlay], V]:
        def planned(overlay: Overlay) -> V:
            result = plan(overlay)
            if not isinstance(result, ThunderlineError):
                self._keep(overlay, result)
            return result

        return planned
