"""An event as everybody outside sees it: a CloudEvent in JSON, whatever it is told over.

Source: CloudEvents 1.0.2, "Context Attributes" and "JSON Event Format". Attributes of ours have names of lower-case
letters, as extensions must.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from thunderline.core.records import Event

SPEC_VERSION: Final = "1.0"
DATA_TYPE: Final = "application/json"
_ENCODER: Final = msgspec.json.Encoder()


class CloudEvent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "name": "type",
        "at": "time",
        "entity_kind": "entitykind",
        "entity_id": "entityid",
        "correlation_id": "correlationid",
        "causation_id": "causationid",
        "event_version": "eventversion",
        "payload": "data",
    },
):
    """The envelope and what is in it. `payload` is the record, with `deleted: true` when it is the last there was.

    `source` and `id` together name an event; `source` is the name of the replica that made it, which is a relative
    reference. `causation_id` is the `id` of the event that brought this one about, absent where none did.
    """

    specversion: str
    id: str
    source: str
    name: str
    subject: str
    at: datetime
    datacontenttype: str
    revision: int
    actor: str
    entity_kind: str
    entity_id: str
    correlation_id: str
    causation_id: str | None = None
    event_version: int
    reliability: str
    payload: msgspec.Raw


def encode_payload(event: Event) -> bytes:
    """The record of `event` as JSON, which is the envelope's `data`."""
    payload = _ENCODER.encode(event.payload)
    return payload[:-1] + b',"deleted":true}' if event.deleted else payload


def encode_event(event: Event) -> bytes:
    """`event` as a CloudEvent: one JSON object on one line."""
    return _ENCODER.encode(
        CloudEvent(
            specversion=SPEC_VERSION,
            id=event.id,
            # A colon in the first segment of a reference would end a scheme.
            source=f"./{event.source}" if ":" in event.source else event.source,
            name=event.name,
            subject=event.subject,
            at=event.at,
            datacontenttype=DATA_TYPE,
            revision=event.revision,
            actor=event.actor,
            entity_kind=event.entity_kind,
            entity_id=event.entity_id,
            correlation_id=event.correlation_id,
            causation_id=event.causation_id,
            event_version=event.event_version,
            reliability=event.reliability,
            payload=msgspec.Raw(encode_payload(event)),
        )
    )
