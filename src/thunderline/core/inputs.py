"""What callers may send: the accept list of every action, with the bounds of each field.

The same types read HTTP bodies (`read_json`) and the mappings of the embedded API (`read_mapping`). Both refuse
unknown fields by name, NaN and infinity, and raise `InvalidInput` that names the field; neither keeps anything of
what it refused. Nothing here knows the registry's state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from thunderline.core.access import Scope
from thunderline.core.alerts import Matcher
from thunderline.core.errors import InvalidInput, MalformedBody
from thunderline.core.ids import is_uuid
from thunderline.core.records import BeatStatus, ClusterType, GroupType, JsonObject, NodeStatus, SessionType

META_MAX_BYTES: Final = 16 * 1024
META_MAX_DEPTH: Final = 32
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1
PEERS_MAX: Final = 64
LABELS_MAX: Final = 64
CAPABILITIES_MAX: Final = 64
GROUPS_MAX: Final = 64
"""Groups of which one node is itself a member."""

# `$` alone also matches before a newline at the end; the look-ahead shuts that door in Python and in ECMAScript.
_END = r"$(?!\n)"
NodeName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=rf"^[A-Za-z0-9][A-Za-z0-9._@:-]*{_END}",
        description="Unique and immutable; starts with a letter or digit; not a UUID.",
        examples=["worker-1@prod"],
    ),
]
Slug = Annotated[str, Meta(min_length=1, max_length=63, pattern=rf"^[a-z0-9][a-z0-9._-]*{_END}")]
# No control characters, C1 included, and none that turn the direction of what follows: the text is shown to people, in
# logs and terminals too.
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
ShortText = Annotated[str, Meta(min_length=1, max_length=255, pattern=rf"^[^{_CONTROL}]*{_END}")]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=rf"^[^{_CONTROL}]*{_END}")]
Key = Annotated[str, Meta(min_length=1, max_length=317, pattern=rf"^[A-Za-z0-9][A-Za-z0-9._/:-]*{_END}")]
"""A label's or capability's key; as long as a Kubernetes label key with its prefix may be."""
NamePattern = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=rf"^[A-Za-z0-9._@:*-]+{_END}",
        description="Names of nodes, in which `*` stands for any characters.",
        examples=["worker-*@prod"],
    ),
]
LifetimeS = Annotated[int, Meta(ge=1, le=10 * 365 * 86_400, description="Seconds from now.")]
LabelValue = Annotated[str, Meta(max_length=255, pattern=rf"^[^{_CONTROL}]*{_END}")]
# The upper bound is far beyond any real figure; it is there to keep infinity out.
Figure = Annotated[float, Meta(ge=0, le=1e15)]
Weight = Annotated[float, Meta(ge=0, le=1)]
Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]
IntervalMs = Annotated[int, Meta(ge=100, le=3_600_000, description="Milliseconds between two beats: 100 to 3,600,000.")]


class InputProblem(ValueError):
    """What is wrong with the value at `path`, before it is known where that value stands in the body."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class CapabilityAttrs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something a node can do, e.g. under the key `gpu` the value `a100`."""

    value: LabelValue | None = None
    enabled: bool = True


class NodeAttrs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes of a node to ensure. What is absent takes its default for a new name, and stays for a known one."""

    name: NodeName
    role: Slug | None = None
    domain: Slug | None = None
    cluster_type: ClusterType | None = None
    address: ShortText | None = None
    peer_id: ShortText | None = None
    did: ShortText | None = None
    meta: JsonObject | None = None
    labels: Annotated[dict[Key, LabelValue], Meta(max_length=LABELS_MAX)] | None = None
    capabilities: Annotated[dict[Key, CapabilityAttrs], Meta(max_length=CAPABILITIES_MAX)] | None = None
    heartbeat_interval_ms: IntervalMs | None = None

    def __post_init__(self) -> None:
        if is_uuid(self.name):
            raise InputProblem("name", "must not be a UUID, which would read as an id")
        if self.meta is not None:
            check_json_object(self.meta, field="meta")


class NodePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch of a node: absent leaves as is, null resets. Source: RFC 7396."""

    role: Slug | UnsetType | None = UNSET
    domain: Slug | UnsetType | None = UNSET
    cluster_type: ClusterType | UnsetType | None = UNSET
    address: ShortText | UnsetType | None = UNSET
    peer_id: ShortText | UnsetType | None = UNSET
    did: ShortText | UnsetType | None = UNSET
    meta: JsonObject | UnsetType | None = UNSET
    labels: dict[Key, LabelValue | None] | UnsetType | None = UNSET
    heartbeat_interval_ms: IntervalMs | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.meta, dict):
            check_json_object(self.meta, field="meta")


class GroupAttrs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes of a group to create. What is absent takes its default: `custom`, at the top, no meta."""

    name: NodeName
    group_type: GroupType | UnsetType = UNSET
    parent: NodeName | UnsetType | None = UNSET
    meta: JsonObject | UnsetType = UNSET

    def __post_init__(self) -> None:
        if is_uuid(self.name):
            raise InputProblem("name", "must not be a UUID, which would read as an id")
        if isinstance(self.meta, dict):
            check_json_object(self.meta, field="meta")


class GroupPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch of a group: absent leaves as is, null resets; a `parent` of null is the top. Source: RFC 7396."""

    group_type: GroupType | UnsetType | None = UNSET
    parent: NodeName | UnsetType | None = UNSET
    meta: JsonObject | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.meta, dict):
            check_json_object(self.meta, field="meta")


class MembershipInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A membership has no attributes of its own: whose it is says it all."""


class JoinInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which nodes a join token enrols. Without a `role`, any but `controller`; without `uses`, any number."""

    names: NamePattern = "*"
    role: Slug | None = None
    domain: Slug | None = None
    uses: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to create: one with `scopes`, for a person or a program; or one with `join`, by which machines become
    nodes. Without `expires_in_s` it is good until it is revoked."""

    name: NodeName
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=len(Scope))] | None = None
    join: JoinInput | None = None
    expires_in_s: LifetimeS | None = None

    def __post_init__(self) -> None:
        if is_uuid(self.name):
            raise InputProblem("name", "must not be a UUID, which would read as an id")
        if (self.scopes is None) is (self.join is None):
            raise InputProblem("scopes", "is needed, or `join` instead of it: they say what the token is for")


class ReissueInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new credential for a node. Without `expires_in_s` it is good until it is revoked or replaced."""

    expires_in_s: LifetimeS | None = None


class SessionAttrs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attributes of a link session. Without a `session_id` the registry makes one."""

    session_id: ShortText | None = None
    role: Slug = "worker"
    session_type: SessionType = SessionType.CLUSTER
    connection_type: Slug = "http"
    local_peer_id: ShortText | None = None
    remote_peer_id: ShortText | None = None
    weight: Weight = 1.0
    latency_ms: Figure | None = None
    bandwidth_mbps: Figure | None = None
    meta: JsonObject = {}

    def __post_init__(self) -> None:
        # It stands in paths, which must lead to it.
        if self.session_id is not None and not {"", ".", ".."}.isdisjoint(self.session_id.split("/")):
            raise InputProblem("session_id", "may hold slashes only between words, and . and .. are none")
        check_json_object(self.meta, field="meta")


class NewSession(SessionAttrs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link session to open: between two nodes, or with the registry (`remote_node_id` absent)."""

    node_id: Annotated[ShortText, Meta(description="The node's id or name.")]
    remote_node_id: Annotated[ShortText, Meta(description="The other node's id or name.")] | None = None
    status: Literal["establishing", "established"] = "established"
    reason: Reason | None = None


class SessionPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch of an open link session: absent leaves as is, null resets; `closed` and `failed` end it.

    Source: RFC 7396.
    """

    status: Literal["establishing", "established", "degraded", "closed", "failed"] | UnsetType = UNSET
    reason: Reason | UnsetType | None = UNSET
    role: Slug | UnsetType | None = UNSET
    connection_type: Slug | UnsetType | None = UNSET
    local_peer_id: ShortText | UnsetType | None = UNSET
    remote_peer_id: ShortText | UnsetType | None = UNSET
    weight: Weight | UnsetType | None = UNSET
    latency_ms: Figure | UnsetType | None = UNSET
    bandwidth_mbps: Figure | UnsetType | None = UNSET
    meta: JsonObject | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if self.reason is not UNSET and self.status is UNSET:
            raise InputProblem("reason", "is that of a status; give the status with it")
        if isinstance(self.meta, dict):
            check_json_object(self.meta, field="meta")


class OnlineInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node's announcement that it is up. `instance` is random per process start."""

    instance: ShortText | None = None
    session: SessionAttrs | None = None


class OfflineInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a node is taken down."""

    reason: Reason | None = None


class StatusInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A status to set by hand. `connecting` and `disconnected` only ever follow from what is seen."""

    status: Literal["online", "degraded", "offline"]
    reason: Reason | None = None

    @property
    def node_status(self) -> NodeStatus:
        """`status` as the record's own type."""
        return NodeStatus(self.status)


class HeartbeatInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One heartbeat. With `seq`, a repeated beat of the same incarnation is recognised and kept once."""

    status: BeatStatus = BeatStatus.ONLINE
    seq: Counter | None = None
    incarnation: Counter | None = None
    cpu_load: Annotated[Figure, Meta(description="Percent of all cores.")] | None = None
    mem_used_mb: Figure | None = None
    latency_ms: Figure | None = None
    peers: Annotated[dict[NodeName, Figure | None], Meta(max_length=PEERS_MAX)] | None = None
    meta: JsonObject | None = None

    def __post_init__(self) -> None:
        if self.meta is not None:
            check_json_object(self.meta, field="meta")


class NodeBeat(HeartbeatInput, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One heartbeat of a batch, and whose it is."""

    node: Annotated[ShortText, Meta(description="The node's id or name.")]


T = TypeVar("T")


class NewSilence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A silence to be made: alerts for which all `matchers` hold are not told for `for_s` seconds."""

    matchers: Annotated[tuple[Matcher, ...], Meta(min_length=1, max_length=20)]
    for_s: Annotated[int, Meta(ge=1, le=31_622_400)]
    reason: Reason | None = None


class AcknowledgeInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of an alert that is taken on."""

    note: Reason | None = None


def read_key(text: str) -> str:
    """`text`, if a label or a capability may have it as its key. Raises: InvalidInput naming `key`."""
    try:
        return msgspec.convert(text, Key)
    except msgspec.ValidationError as error:
        raise InvalidInput("key", explain(error)[1]) from error


def read_node_name(text: str) -> str:
    """`text`, if a node may be called that. Raises: InvalidInput naming `name`."""
    try:
        return msgspec.convert(text, NodeName)
    except msgspec.ValidationError as error:
        raise InvalidInput("name", explain(error)[1]) from error


def read_json(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """What `decoder` reads from `body`. Raises: MalformedBody, InvalidInput."""
    if not body:
        raise MalformedBody("body", "is empty, should be a JSON object")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        refuse(error)
    except RecursionError as error:
        raise MalformedBody("body", "is nested too deeply") from error
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        # Which of the two text that is not UTF-8 raises depends on the version of msgspec.
        raise MalformedBody("body", _why_not_json(body, error)) from error


def _why_not_json(body: bytes, error: Exception) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return f"is not valid UTF-8 at byte {wrong.start}"
    return f"is not valid JSON: {error}"


def read_mapping(data: Mapping[str, object], kind: type[T]) -> T:
    """`data`, from a program that embeds the registry, as a `kind` that shares nothing with it.

    Raises: InvalidInput.
    """
    try:
        return msgspec.convert(_copied(data, path=""), kind)
    except msgspec.ValidationError as error:
        refuse(error)
    except RecursionError as error:
        raise InvalidInput("body", "is nested too deeply, or refers to itself") from error


def _copied(value: object, *, path: str) -> object:
    """`value` with every mapping and sequence in it anew: what the caller changes later is not in our records."""
    if value is None or isinstance(value, float | int):
        return value
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value) is not None:
            # JSON text cannot bring one; a Python string can, and the store would be the first to find it.
            raise InvalidInput(_SURROGATE.sub("?", path)[:255] or "body", "holds text that is not valid Unicode")
        return value
    if isinstance(value, Mapping):
        return {
            _copied(key, path=path): _copied(item, path=_join(path, key if isinstance(key, str) else "?"))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_copied(item, path=path) for item in value]
    return value


def check_json_object(value: object, *, field: str) -> None:
    """Hold `value` to what a `meta` may be: a JSON object, finite numbers, bounded depth and size.

    Raises: InputProblem; inside a decoder msgspec turns it into its own error, from which `explain` takes it.
    """
    _check_json(value, path=field, depth=1)
    try:
        size_bytes = len(msgspec.json.encode(value))
    except UnicodeEncodeError as error:
        raise InputProblem(field, "holds text that is not valid Unicode") from error
    if size_bytes > META_MAX_BYTES:
        raise InputProblem(field, f"takes {size_bytes} bytes as JSON, {META_MAX_BYTES} at most")


def _check_json(value: object, *, path: str, depth: int) -> None:
    if value is None or isinstance(value, str):
        return
    if isinstance(value, int):
        # MessagePack, in which beats are kept, has no others; nor would most readers of the JSON keep them exact.
        if not INT_MIN <= value <= INT_MAX:
            raise InputProblem(path, f"must be a number from {INT_MIN} to {INT_MAX}, or a text")
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputProblem(path, "must be a finite number")
        return
    if depth > META_MAX_DEPTH:
        raise InputProblem(path.partition(".")[0], f"is nested more than {META_MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputProblem(path, "has a key that is not text")
            _check_json(item, path=f"{path}.{key}", depth=depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, path=f"{path}[{index}]", depth=depth + 1)
    else:
        raise InputProblem(path, f"must be JSON, not {type(value).__name__}")


_WORDS: Final[dict[str, str]] = {
    "A-Za-z0-9._@:-": "may hold only letters, digits and . _ @ : - and starts with a letter or digit",
    "a-z0-9._-": "may hold only lower-case letters, digits and . _ - and starts with a letter or digit",
    "A-Za-z0-9._/:-": "may have only letters, digits and . _ / : - in a key, which starts with a letter or digit",
    _CONTROL: "may not hold control characters",
}
_CHOICES: Final[dict[str, type[StrEnum]]] = {
    "cluster_type": ClusterType,
    "group_type": GroupType,
    "session_type": SessionType,
    "status": BeatStatus,
}
_REGEX = re.compile(r"matching regex '\^.*\[\^?(?P<set>[^\]]+)\]\*\$\(\?!\\+n\)'$")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_AT = re.compile(r" - at (?:`(?:key|\[\.\.\.\])` in )?`\$\.?(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)


def refuse(error: msgspec.ValidationError) -> NoReturn:
    """Raise `InvalidInput` for what msgspec found, naming the field by its dotted path from the body's root."""
    path, problem = explain(error)
    # What is wrong may quote what was sent, which may be as long as a body.
    raise InvalidInput(path[:255] or "body", problem if len(problem) <= 500 else f"{problem[:499]}…") from error


def explain(error: msgspec.ValidationError) -> tuple[str, str]:
    """The dotted path to what msgspec found, empty for the whole, and in words what is wrong with it."""
    text = str(error)
    path = ""
    if (at := _AT.search(text)) is not None:
        path, text = at["path"], text[: at.start()]
    if (found := _UNKNOWN.match(text)) is not None:
        path, text = _join(path, found["name"]), "is not a known field"
    elif (found := _MISSING.match(text)) is not None:
        path, text = _join(path, found["name"]), "is required"
    elif isinstance(own := error.__cause__, InputProblem):
        path, text = _join(path, own.path), own.problem
    elif (found := _REGEX.search(text)) is not None:
        text = _WORDS.get(found["set"].replace("\\\\", "\\"), text)
    elif text.startswith("Invalid enum value") and (choices := _CHOICES.get(path.rpartition(".")[2])):
        text = f"must be one of {', '.join(choices)}, not {text.removeprefix('Invalid enum value ')}"
    else:
        text = text[:1].lower() + text[1:]
    return path, text


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
