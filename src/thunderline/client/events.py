"""Events as a server tells them, and the stream that they come in.

Source of the stream's form: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from thunderline.core.alerts import Alert
from thunderline.core.envelope import CloudEvent
from thunderline.core.records import CapacityReport, GuardReport, Heartbeat, LinkSession, Node, NodeGroup, Payload

CUT_EVENT: Final = "thunderline.cut"
"""The last message to a watcher that fell behind: it resumes from its cursor."""
RESET_EVENT: Final = "thunderline.reset"
"""The only message to a watcher whose cursor the log cannot continue from: it lists again."""
MESSAGE_MAX_BYTES: Final = 4 * 1024 * 1024
"""Far more than any event of ours takes; what goes on for longer without an end is not our stream."""

_KINDS: Final[dict[str, Any]] = {
    "node": Node,
    "link": LinkSession,
    "group": NodeGroup,
    "guard": GuardReport,
    "capacity": CapacityReport,
    "alert": Alert,
}
_HEARTBEAT: Final = "cluster.node.heartbeat"


class ToldEvent(CloudEvent, frozen=True, kw_only=True):
    """One change, as a CloudEvent; `record` is its payload."""

    cursor: str | None = None
    """Watching from here tells what came after this event; None where the event is not in the log."""
    json: bytes = b""
    """The object as it came, with whatever a newer server put into it."""

    @property
    def record(self) -> Payload | dict[str, Any]:
        """The record after the change, of a deletion the last there was; a dict for a kind that we do not know.

        Raises: msgspec.ValidationError where it is not one of this version's.
        """
        kind = Heartbeat if self.name == _HEARTBEAT else _KINDS.get(self.entity_kind, dict[str, Any])
        record: Payload | dict[str, Any] = msgspec.json.decode(self.payload, type=kind)
        return record

    @property
    def deleted(self) -> bool:
        """Whether the record is gone, and `record` the last there was."""
        return msgspec.json.decode(self.payload, type=_Deletion).deleted


class _Deletion(msgspec.Struct, frozen=True):
    deleted: bool = False


def read_event(body: bytes, *, cursor: str | None) -> ToldEvent:
    """The event in `body`. Raises: msgspec.DecodeError."""
    event = msgspec.json.decode(body, type=ToldEvent)
    return msgspec.structs.replace(event, cursor=cursor, json=body)


class Message(msgspec.Struct, frozen=True):
    """One message of a stream. `id` None: it moves nobody's cursor; `data` None: it carries only its id."""

    id: str | None
    event: str
    data: bytes | None


class MessageReader:
    """Takes a stream apart, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._id: str | None = None
        self._event = ""
        self._data: list[bytes] = []
        self._size_bytes = 0

    def feed(self, piece: bytes) -> list[Message]:
        """The messages that `piece` completes. Raises: ValueError when one goes on for longer than any of ours."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        # Not `splitlines` of text: JSON may hold characters that it takes for the end of a line.
        lines = (self._rest + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        found = [message for line in lines if (message := self._take(line)) is not None]
        if self._size_bytes + len(self._rest) > MESSAGE_MAX_BYTES:
            raise ValueError(f"a message of more than {MESSAGE_MAX_BYTES} bytes")
        return found

    def _take(self, line: bytes) -> Message | None:
        if not line:
            return self._complete()
        self._size_bytes += len(line)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
        return None

    def _complete(self) -> Message | None:
        message = Message(self._id, self._event, b"\n".join(self._data) if self._data else None)
        self._id, self._event, self._data, self._size_bytes = None, "", [], 0
        return message if message.id is not None or message.data is not None else None
