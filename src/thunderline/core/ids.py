"""Identifiers, each a type of its own so that one is never passed for another."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NewType

import uuid_utils

NodeId = NewType("NodeId", str)
"""A node's UUIDv7, in the canonical lower-case form with hyphens."""

LinkId = NewType("LinkId", str)
"""The `id` of a link session's record, a UUIDv7; `session_id` is the caller's own name for the same session."""

GroupId = NewType("GroupId", str)
"""A node group's UUIDv7."""

TokenId = NewType("TokenId", str)
"""The UUIDv7 by which a token is known; its secret is another matter, and nowhere kept."""

AuditId = NewType("AuditId", str)
"""An audit entry's UUIDv7."""

EventId = NewType("EventId", str)
BatchId = NewType("BatchId", str)
LogId = NewType("LogId", str)
"""Names one event log; a new log (or a restored one) has a new id, so that cursors into another log are found out."""

Revision = NewType("Revision", int)
"""Position in the event log, from 1, without gaps; 0 stands before the first event."""

IdSource = Callable[[], str]
"""Gives a new UUIDv7 at each call, in the canonical form."""

_UUID = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")


def new_uuid7() -> str:
    """A new UUIDv7. Source: RFC 9562, section 5.7."""
    return str(uuid_utils.uuid7())


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in either usual spelling: such a text is an id, never a node's name."""
    return _UUID.fullmatch(text) is not None
