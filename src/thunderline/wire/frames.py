"""The frames of a link, protocol `thunderline.link.v1`: one message of the WebSocket each, an object with a `type`.

    node      hello                                 registry  welcome        first, once
              hb, backlog                                     ack            any number, in this order on the wire
              links, bye                                      interval, drain, error

Unknown fields and frames of an unknown type are ignored by both ends, so that either may be newer; `features` say what
a peer knows to do. A `seq` numbers the beats of one process, upwards from any number; `ack` is cumulative: every beat
with that number or a lower one, sent on this link so far, is durable, except those that an `error` named by `seq` as
not to be retried. Fields that are null or have their default may be left out.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from thunderline.core.ids import is_uuid
from thunderline.core.inputs import (
    CAPABILITIES_MAX,
    LABELS_MAX,
    CapabilityAttrs,
    Counter,
    Figure,
    HeartbeatInput,
    InputProblem,
    IntervalMs,
    Key,
    LabelValue,
    NodeAttrs,
    NodeName,
    Reason,
    ShortText,
    Slug,
    check_json_object,
)
from thunderline.core.records import ClusterType, JsonObject, SessionStatus, SessionType

PATH: Final = "/link"
JSON_SUBPROTOCOL: Final = "thunderline.link.v1+json"
MSGPACK_SUBPROTOCOL: Final = "thunderline.link.v1+msgpack"
SUBPROTOCOLS: Final = (MSGPACK_SUBPROTOCOL, JSON_SUBPROTOCOL)
"""In the order in which both ends prefer them."""

FRAME_MAX_BYTES: Final = 64 * 1024
"""Longest frame that either end takes; a `hello` with all that a node may carry fits."""

BACKLOG_BEATS_MAX: Final = 256
"""Beats in one `backlog` frame; a longer backlog takes several."""

BACKLOG_AGE_MAX_MS: Final = 3_600_000
"""Oldest age that the registry believes; beats that are older are kept as of this age."""

UNACKED_MAX: Final = 1_024
"""Beats on the way at most: the registry tells that many apart from repeated ones, and reads no further before they are
durable."""

FEATURE_RESUME: Final = "resume"
FEATURE_BACKLOG: Final = "backlog"
FEATURE_INTERVAL: Final = "interval"
FEATURE_DRAIN: Final = "drain"
FEATURE_LINKS: Final = "links"
FEATURES: Final = (FEATURE_RESUME, FEATURE_BACKLOG, FEATURE_INTERVAL, FEATURE_DRAIN, FEATURE_LINKS)

Features = Annotated[tuple[Annotated[str, Meta(max_length=63)], ...], Meta(max_length=64)]


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What all frames share."""


# From the node


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """The link that broke, and the word that only its two ends know."""

    session_id: ShortText
    secret: ShortText

    def __repr__(self) -> str:
        return f"<Resume {self.session_id}>"


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """Who speaks. `instance` is random per process start; `interval_ms` what a starting process would like."""

    name: NodeName
    instance: ShortText
    role: Slug | None = None
    domain: Slug | None = None
    cluster_type: ClusterType | None = None
    address: ShortText | None = None
    peer_id: ShortText | None = None
    did: ShortText | None = None
    meta: JsonObject | None = None
    labels: Annotated[dict[Key, LabelValue], Meta(max_length=LABELS_MAX)] | None = None
    capabilities: Annotated[dict[Key, CapabilityAttrs], Meta(max_length=CAPABILITIES_MAX)] | None = None
    interval_ms: IntervalMs | None = None
    token: ShortText | None = None
    resume: Resume | None = None
    features: Features = ()

    def __repr__(self) -> str:
        return f"<Hello {self.name}>"  # a token must not reach a log

    def __post_init__(self) -> None:
        if is_uuid(self.name):
            raise InputProblem("name", "must not be a UUID, which would read as an id")
        if self.meta is not None:
            check_json_object(self.meta, field="meta")

    @property
    def attrs(self) -> NodeAttrs:
        """The node that is to be ensured."""
        return NodeAttrs(
            name=self.name,
            role=self.role,
            domain=self.domain,
            cluster_type=self.cluster_type,
            address=self.address,
            peer_id=self.peer_id,
            did=self.did,
            meta=self.meta,
            labels=self.labels,
            capabilities=self.capabilities,
            heartbeat_interval_ms=self.interval_ms,
        )


class Beat(
    HeartbeatInput, frozen=True, kw_only=True, gc=False, tag_field="type", tag="hb", omit_defaults=True,
    forbid_unknown_fields=False,
):  # fmt: skip
    """A heartbeat of now. Of the link's own incarnation unless it says otherwise, which is refused."""

    seq: Counter


class LateBeat(HeartbeatInput, frozen=True, kw_only=True, gc=False, omit_defaults=True, forbid_unknown_fields=False):
    """A heartbeat from `age_ms` before the frame that carries it left the node."""

    seq: Counter
    age_ms: Counter


class Backlog(_Frame, frozen=True, kw_only=True, tag="backlog"):
    """Beats of an outage, oldest first: for history only, though the frame itself is a sign of life."""

    beats: Annotated[tuple[LateBeat, ...], Meta(max_length=BACKLOG_BEATS_MAX)]


class SeenSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session with another node, `remote`, as this end sees it."""

    session_id: ShortText
    remote: NodeName
    session_type: SessionType = SessionType.CLUSTER
    connection_type: Slug = "direct"
    status: SessionStatus = SessionStatus.ESTABLISHED
    weight: Annotated[float, Meta(ge=0, le=1)] = 1.0
    latency_ms: Figure | None = None
    bandwidth_mbps: Figure | None = None


class Links(_Frame, frozen=True, kw_only=True, tag="links"):
    """All sessions with other nodes that this node has."""

    sessions: Annotated[tuple[SeenSession, ...], Meta(max_length=BACKLOG_BEATS_MAX)]


class Bye(_Frame, frozen=True, kw_only=True, tag="bye"):
    """The node leaves on purpose; the registry closes the link once that is durable."""

    reason: Reason | None = None


# From the registry


class Welcome(_Frame, frozen=True, kw_only=True, tag="welcome", omit_defaults=False):
    """The link stands. `secret` is for `resume`; `cursor` is where a watch of the cluster would go on from.

    `resumed` tells whether session and incarnation are those of the link before. `server_time` is RFC 3339, UTC.
    `credential` is what a node that joined says as its `token` from now on; it is told this once.
    """

    node_id: str
    session_id: str
    secret: str
    incarnation: int
    interval_ms: int
    cursor: str
    server_time: str
    resumed: bool = False
    credential: str | None = None
    features: Features = ()

    def __repr__(self) -> str:
        return f"<Welcome {self.node_id}>"  # nor the secret, nor a credential


class Ack(_Frame, frozen=True, kw_only=True, tag="ack", gc=False):
    """Every beat up to `seq` that this link carried is durable."""

    seq: int


class Interval(_Frame, frozen=True, kw_only=True, tag="interval", gc=False):
    """Beat at this interval from now on."""

    interval_ms: int


class Drain(_Frame, frozen=True, kw_only=True, tag="drain", gc=False):
    """The registry goes away: connect again at a random moment within so many milliseconds, elsewhere or here."""

    reconnect_within_ms: int


class ErrorFrame(_Frame, frozen=True, kw_only=True, tag="error", gc=False, omit_defaults=False):
    """What went wrong; `code` is the word for machines. With a `seq` it is about that beat, else about the link.

    `retryable`: the same may go through after `retry_after_ms`. An error that ends the link has a close behind it; the
    link then has ended for good unless the error is retryable.
    """

    code: str
    message: str
    retryable: bool = False
    retry_after_ms: int | None = None
    seq: int | None = None
    field: str | None = None


NodeFrame: TypeAlias = Hello | Beat | Backlog | Links | Bye
RegistryFrame: TypeAlias = Welcome | Ack | Interval | Drain | ErrorFrame
