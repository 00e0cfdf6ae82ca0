"""What callers may send: every body is either read within its documented bounds, or refused with its field named."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Meta

from thunderline.core import inputs
from thunderline.core.errors import InvalidInput, MalformedBody
from thunderline.core.inputs import (
    META_MAX_BYTES,
    META_MAX_DEPTH,
    HeartbeatInput,
    NodeAttrs,
    NodePatch,
    OfflineInput,
    OnlineInput,
    SessionAttrs,
    StatusInput,
    explain,
    read_json,
    read_mapping,
)
from thunderline.core.records import BeatStatus, ClusterType, SessionType

KINDS: tuple[type[msgspec.Struct], ...] = (
    NodeAttrs,
    NodePatch,
    SessionAttrs,
    OnlineInput,
    OfflineInput,
    StatusInput,
    HeartbeatInput,
)
DECODERS = {kind: msgspec.json.Decoder(kind) for kind in KINDS}

# The bounds, said a second time in other words.

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
UUID_HEX = re.compile(r"[0-9a-f]{32}")


def is_name(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,254}", value))


def is_slug(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", value))


def is_key(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,316}", value))


def is_text(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and least <= len(value) <= most and not CONTROL.search(value)


def is_figure(value: object) -> bool:
    return type(value) is float and 0 <= value <= 1e15


def is_counter(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_json(value: object, depth: int = 0) -> bool:
    if isinstance(value, dict):
        return depth < 32 and all(isinstance(key, str) and is_json(item, depth + 1) for key, item in value.items())
    if isinstance(value, list):
        return depth < 32 and all(is_json(item, depth + 1) for item in value)
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | bool)


def is_meta(value: object) -> bool:
    return isinstance(value, dict) and is_json(value) and len(msgspec.json.encode(value)) <= 16 * 1024


def is_dict(key: Callable[[object], bool], value: Callable[[object], bool], most: int) -> Callable[[object], bool]:
    return lambda given: (
        isinstance(given, dict) and len(given) <= most and all(key(k) and value(v) for k, v in given.items())
    )


def optional(rule: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or value is UNSET or rule(value)


def is_capability(value: object) -> bool:
    return isinstance(value, inputs.CapabilityAttrs) and optional(is_text(0, 255))(value.value)


def is_interval(value: object) -> bool:
    return type(value) is int and 100 <= value <= 3_600_000


def is_session(value: object) -> bool:
    return isinstance(value, SessionAttrs) and within_bounds(value)


NODE_BOUNDS: dict[str, Callable[[object], bool]] = {
    "role": optional(is_slug),
    "domain": optional(is_slug),
    "cluster_type": optional(lambda value: isinstance(value, ClusterType)),
    "address": optional(is_text(1, 255)),
    "peer_id": optional(is_text(1, 255)),
    "did": optional(is_text(1, 255)),
    "meta": optional(is_meta),
    "heartbeat_interval_ms": optional(is_interval),
}
BOUNDS: dict[type[msgspec.Struct], dict[str, Callable[[object], bool]]] = {
    NodeAttrs: {
        **NODE_BOUNDS,
        "name": lambda value: is_name(value) and not UUID_HEX.fullmatch(str(value).replace("-", "").lower()),
        "labels": optional(is_dict(is_key, is_text(0, 255), 64)),
        "capabilities": optional(is_dict(is_key, is_capability, 64)),
    },
    NodePatch: {
        **NODE_BOUNDS,
        # A patch may remove more labels than a node may have; what is left is counted when it is applied.
        "labels": optional(is_dict(is_key, optional(is_text(0, 255)), 10**9)),
        # In a patch null removes, and the merged meta is held to the bounds again.
        "meta": optional(is_meta),
    },
    SessionAttrs: {
        "session_id": optional(is_text(1, 255)),
        "role": is_slug,
        "session_type": lambda value: isinstance(value, SessionType),
        "connection_type": is_slug,
        "local_peer_id": optional(is_text(1, 255)),
        "remote_peer_id": optional(is_text(1, 255)),
        "weight": lambda value: type(value) is float and 0 <= value <= 1,
        "latency_ms": optional(is_figure),
        "bandwidth_mbps": optional(is_figure),
        "meta": is_meta,
    },
    OnlineInput: {"instance": optional(is_text(1, 255)), "session": optional(is_session)},
    OfflineInput: {"reason": optional(is_text(1, 500))},
    StatusInput: {
        "status": lambda value: value in ("online", "degraded", "offline"),
        "reason": optional(is_text(1, 500)),
    },
    HeartbeatInput: {
        "status": lambda value: isinstance(value, BeatStatus),
        "seq": optional(is_counter),
        "incarnation": optional(is_counter),
        "cpu_load": optional(is_figure),
        "mem_used_mb": optional(is_figure),
        "latency_ms": optional(is_figure),
        "peers": optional(is_dict(is_name, optional(is_figure), 64)),
        "meta": optional(is_meta),
    },
}


def within_bounds(value: msgspec.Struct) -> bool:
    rules = BOUNDS[type(value)]
    assert rules.keys() == set(value.__struct_fields__)
    return all(rule(getattr(value, field)) for field, rule in rules.items())


# What may come: anything at all, and bodies that are nearly right.

TEXT = st.text(max_size=12) | st.sampled_from(
    [
        *("", "a", "A", "a-b.c_d", "-a", "a\n", "\n", "a b", "\x00", "\x7f", "é", "🌩", "x" * 300),
        *("worker-1@prod", "online", "offline", "cluster", "in_cluster"),
        *("0197c000-0000-7000-8000-000000000000", "0197C0000000700080000000000000AB"),
    ]
)
NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, 1, -1, 100, 99, 3_600_000, 3_600_001, 2**63, 2**64, -(2**63) - 1, 10**30, 1e15, 1.1e15, -0.0])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
FIELDS = sorted({field for kind in KINDS for field in kind.__struct_fields__} | {"value", "enabled", "nope"})
NEARLY = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(TEXT, SCALARS, max_size=4), max_size=6),
    lambda inner: st.fixed_dictionaries({"session": inner, "meta": inner}) | st.fixed_dictionaries({"session": inner}),
    max_leaves=2,
)
# Python's own writer, since ours refuses what a caller may well send: NaN, infinity, numbers beyond 64 bits.
BODIES = (
    st.binary(max_size=40)
    | (JSON | NEARLY).map(lambda value: json.dumps(value).encode())
    | st.tuples(NEARLY.map(lambda value: json.dumps(value, ensure_ascii=False)), st.integers(0, 60), TEXT).map(
        lambda cut: (cut[0][: cut[1]] + cut[2] + cut[0][cut[1] :]).encode(errors="surrogatepass")
    )
)


def check_refusal(error: InvalidInput) -> None:
    assert 0 < len(error.field.encode()) <= 4 * 255
    assert 0 < len(error.problem.encode()) <= 4 * 500
    assert "regex" not in error.problem


@pytest.mark.parametrize("kind", KINDS)
@given(body=BODIES)
@example(body=b"")
@example(body=b"null")
@example(body=b"[]")
@example(body=b"{")
@example(body=b'{"":1}')
@example(body=b'{"meta":{"a":"\xff"}}')
@example(body=b'{"meta":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}")
@example(body=b"[" * 100_000)
@example(body=b'{"name":"a","meta":{"a":' + b"9" * 400 + b"}}")
@example(body=b'{"name":"a","meta":{"a":' + b"9" * 5000 + b"}}")
@example(body=b'{"status":"' + b"x" * 60_000 + b'"}')
@example(body=b'{"' + b"x" * 60_000 + b'":1}')
def test_body_is_read_within_bounds_or_refused_by_field(kind: type[msgspec.Struct], body: bytes) -> None:
    try:
        value = read_json(body, DECODERS[kind])
    except InvalidInput as refused:
        check_refusal(refused)
    else:
        assert within_bounds(value)
        # Taken means keepable: history is MessagePack, records are JSON.
        msgspec.msgpack.encode(value)
        assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


class Alien:
    """Something that no JSON has."""


ODD = st.sampled_from([math.nan, math.inf, b"x", {1, 2}, Alien, "\ud800", "a\udfffb", 10**4000, 1 + 2j])
PYTHON = st.recursive(
    SCALARS | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXT | st.integers(0, 3) | st.just("\ud800"), inner, max_size=3)
        | st.dictionaries(TEXT, inner, max_size=3).map(MappingProxyType)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.dictionaries(st.sampled_from([*FIELDS, "\ud800", ""]), PYTHON, max_size=6) | PYTHON)
@example(data={"meta": {"a b": math.nan}})
@example(data={10**4000: 1})
def test_mapping_is_read_within_bounds_or_refused_by_field(kind: type[msgspec.Struct], data: Any) -> None:
    try:
        value = read_mapping(data, kind)
    except InvalidInput as refused:
        check_refusal(refused)
    else:
        assert within_bounds(value)
        msgspec.msgpack.encode(value)
        assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


def test_number_beyond_what_python_writes_out_is_refused() -> None:
    for number in (10**5000, -(10**5000)):
        with pytest.raises(InvalidInput) as caught:
            read_mapping({"meta": {"a": number}}, HeartbeatInput)
        assert caught.value.field == "meta.a"


def test_mapping_that_refers_to_itself_is_refused() -> None:
    meta: dict[str, object] = {}
    meta["again"] = [meta]
    with pytest.raises(InvalidInput, match="refers to itself"):
        read_mapping({"name": "a", "meta": meta}, NodeAttrs)


def test_nothing_of_a_mapping_is_shared_with_what_was_read() -> None:
    deep: dict[str, Any] = {"list": [1, {"a": 1}], "tuple": (1, 2)}
    labels = {"zone": "a"}
    attrs = read_mapping({"name": "a", "meta": {"deep": deep}, "labels": labels}, NodeAttrs)
    deep["list"][1]["a"] = math.nan
    deep["new"] = Alien()
    labels["zone"] = "b"
    assert attrs.meta == {"deep": {"list": [1, {"a": 1}], "tuple": [1, 2]}}
    assert attrs.labels == {"zone": "a"}


def nested(levels: int) -> dict[str, Any]:
    """An object in an object, and so on: `levels` of them."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("kind", [NodeAttrs, SessionAttrs, HeartbeatInput, NodePatch])
def test_meta_is_bounded_in_depth_and_size_to_the_byte(kind: type[msgspec.Struct]) -> None:
    base: dict[str, object] = {"name": "a"} if kind is NodeAttrs else {}
    largest = {"a": "x" * (META_MAX_BYTES - len('{"a":""}'))}
    for meta in (nested(META_MAX_DEPTH), largest):
        for value in (
            read_mapping({**base, "meta": meta}, kind),
            read_json(msgspec.json.encode({**base, "meta": meta}), DECODERS[kind]),
        ):
            assert value.meta == meta  # type: ignore[attr-defined]
    for meta, problem in (
        (nested(META_MAX_DEPTH + 1), "nested more than 32"),
        ({"a": largest["a"] + "x"}, "takes 16385 bytes"),
    ):
        with pytest.raises(InvalidInput, match=problem) as caught:
            read_mapping({**base, "meta": meta}, kind)
        assert caught.value.field.startswith("meta")


REFUSALS: list[tuple[type[msgspec.Struct], bytes, str, str]] = [
    (NodeAttrs, b"{}", "name", "is required"),
    (NodeAttrs, b'{"name":"a","colour":1}', "colour", "is not a known field"),
    (NodeAttrs, b'{"name":1}', "name", "expected `str`, got `int`"),
    (NodeAttrs, b'{"name":""}', "name", "length >= 1"),
    (NodeAttrs, b'{"name":"%s"}' % (b"a" * 256), "name", "length <= 255"),
    (NodeAttrs, b'{"name":"a b"}', "name", "may hold only letters, digits"),
    (NodeAttrs, b'{"name":"a\\n"}', "name", "may hold only letters, digits"),
    (NodeAttrs, b'{"name":"0197c000-0000-7000-8000-000000000000"}', "name", "must not be a UUID"),
    (NodeAttrs, b'{"name":"a","role":"Worker"}', "role", "lower-case"),
    (NodeAttrs, b'{"name":"a","cluster_type":"x"}', "cluster_type", "must be one of in_cluster, out_of_cluster"),
    (NodeAttrs, b'{"name":"a","address":"\\u0000"}', "address", "control characters"),
    (NodeAttrs, b'{"name":"a","labels":{"a b":"c"}}', "labels", "in a key"),
    (NodeAttrs, b'{"name":"a","labels":{"a":"\\n"}}', "labels[...]", "control characters"),
    (NodeAttrs, b'{"name":"a","capabilities":{"g":{"value":1}}}', "capabilities[...].value", "expected `str | null`"),
    (NodeAttrs, b'{"name":"a","capabilities":{"g":{"x":1}}}', "capabilities[...].x", "is not a known field"),
    (NodeAttrs, b'{"name":"a","heartbeat_interval_ms":99}', "heartbeat_interval_ms", ">= 100"),
    (NodeAttrs, b'{"name":"a","heartbeat_interval_ms":1e3}', "heartbeat_interval_ms", "got `float`"),
    (NodeAttrs, b'{"name":"a","meta":[]}', "meta", "expected `object | null`, got `array`"),
    (NodeAttrs, b'{"name":"a","meta":{"k":{"big":18446744073709551616}}}', "meta.k.big", "or a text"),
    (NodeAttrs, b'{"name":"a","meta":{"k: l m":%s}}' % (b"[" * 40 + b"]" * 40), "meta", "nested more"),
    (NodeAttrs, b'{"name":"a","meta":{"k: l m":[0,99999999999999999999]}}', "meta.k: l m[1]", "or a text"),
    (OnlineInput, b'{"session":{"weight":2}}', "session.weight", "<= 1.0"),
    (OnlineInput, b'{"session":{"session_type":"x"}}', "session.session_type", "must be one of cluster, hotline"),
    (OnlineInput, b'{"session":{"meta":{"a":%s}}}' % (b"[" * 40 + b"]" * 40), "session.meta", "nested more"),
    (OnlineInput, b'{"session":{"nope":1}}', "session.nope", "is not a known field"),
    (StatusInput, b'{"status":"connecting"}', "status", "must be one of online, degraded, offline, not 'connecting'"),
    (StatusInput, b'{"status":"online","reason":""}', "reason", "length >= 1"),
    (HeartbeatInput, b'{"cpu_load":-1}', "cpu_load", ">= 0.0"),
    (HeartbeatInput, b'{"cpu_load":1e400}', "cpu_load", "out of range"),
    (HeartbeatInput, b'{"seq":-1}', "seq", ">= 0"),
    (HeartbeatInput, b'{"seq":9223372036854775808}', "seq", "<= 9223372036854775807"),
    (HeartbeatInput, b'{"seq":true}', "seq", "got `bool`"),
    (HeartbeatInput, b'{"peers":{"a":-1}}', "peers[...]", ">= 0.0"),
    (HeartbeatInput, b'{"peers":{"a b":1}}', "peers", "may hold only letters, digits"),
    (HeartbeatInput, b"[]", "body", "expected `object`, got `array`"),
]


@pytest.mark.parametrize(("kind", "body", "field", "problem"), REFUSALS, ids=[repr(row[1][:60]) for row in REFUSALS])
def test_refusal_names_the_field_and_says_what_is_wrong(
    kind: type[msgspec.Struct], body: bytes, field: str, problem: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_json(body, DECODERS[kind])
    assert type(caught.value) is InvalidInput
    assert caught.value.field.startswith(field)
    assert problem in caught.value.problem


@pytest.mark.parametrize("count", [64, 65])
@pytest.mark.parametrize("field", ["labels", "capabilities", "peers"])
def test_collections_hold_64_at_most(field: str, count: int) -> None:
    kind = HeartbeatInput if field == "peers" else NodeAttrs
    item: object = {"labels": "v", "capabilities": {}, "peers": 1.0}[field]
    body: dict[str, object] = {field: {f"k{number}": item for number in range(count)}}
    if kind is NodeAttrs:
        body["name"] = "a"
    if count <= 64:
        assert len(getattr(read_mapping(body, kind), field)) == count
    else:
        with pytest.raises(InvalidInput, match="length <= 64"):
            read_mapping(body, kind)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is empty"),
        (b"{", "is not valid JSON"),
        (b"{} {}", "is not valid JSON"),
        (b'{"cpu_load":NaN}', "is not valid JSON"),
        (b'{"cpu_load":Infinity}', "is not valid JSON"),
        (b'{"meta":{"a":"\xff"}}', "is not valid UTF-8 at byte 14"),
        (b'{"meta":{"a":"\\ud800"}}', "is not valid JSON"),
        (b'{"meta":' + b'{"a":' * 100_000, "is nested too deeply"),
        (b"\xef\xbb\xbf{}", "is not valid JSON"),
    ],
)
def test_body_that_is_not_json_is_malformed(body: bytes, problem: str) -> None:
    with pytest.raises(MalformedBody, match=problem) as caught:
        read_json(body, DECODERS[HeartbeatInput])
    assert caught.value.field == "body"


def test_absent_and_null_are_told_apart_in_a_patch() -> None:
    absent, null = read_json(b"{}", DECODERS[NodePatch]), read_json(b'{"role":null,"meta":null}', DECODERS[NodePatch])
    assert isinstance(absent, NodePatch)
    assert isinstance(null, NodePatch)
    assert (absent.role, absent.meta) == (UNSET, UNSET)
    assert (null.role, null.meta) == (None, None)


def test_defaults_are_those_of_the_documentation() -> None:
    beat = read_mapping({}, HeartbeatInput)
    assert (beat.status, beat.seq, beat.peers, beat.meta) == (BeatStatus.ONLINE, None, None, None)
    session = read_mapping({}, SessionAttrs)
    assert (session.role, session.connection_type, session.weight, session.meta) == ("worker", "http", 1.0, {})
    assert session.session_type is SessionType.CLUSTER


# Every pattern has words of its own.


def string_types(info: Any) -> Iterator[msgspec.inspect.StrType]:
    """Every string in a type, however deep."""
    if isinstance(info, msgspec.inspect.StrType):
        yield info
    for part in ("types", "fields"):
        for item in getattr(info, part, ()):
            yield from string_types(getattr(item, "type", item))
    for part in ("type", "key_type", "value_type"):
        if isinstance(inner := getattr(info, part, None), msgspec.inspect.Type):
            yield from string_types(inner)


PATTERNS = sorted(
    {
        text.pattern
        for info in msgspec.inspect.multi_type_info(KINDS)
        for text in string_types(info)
        if text.pattern is not None
    }
)


def test_patterns_are_found() -> None:
    assert len(PATTERNS) == 4


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("wrong", ["\n", "a\n", "a\x00", "\x7f"])
def test_words_of_every_pattern_are_for_people(pattern: str, wrong: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(wrong, Annotated[str, Meta(pattern=pattern)])
    _, problem = explain(caught.value)
    assert problem in inputs._WORDS.values()
    assert problem.startswith("may")


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(max_size=6))
def test_pattern_says_the_same_to_python_and_to_its_schema(pattern: str, text: str) -> None:
    # In ECMAScript, where the schema is read, `$` is the very end; the look-ahead holds Python to it.
    ecmascript = re.compile(pattern.replace(r"$(?!\n)", r"\Z"))
    try:
        msgspec.convert(text, Annotated[str, Meta(pattern=pattern)])
    except msgspec.ValidationError:
        assert not ecmascript.search(text)
    else:
        assert ecmascript.search(text)


def test_every_kind_refuses_unknown_fields() -> None:
    structs = [
        value for value in vars(inputs).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)
    ]
    assert set(KINDS) < set(structs)
    assert all(kind.__struct_config__.forbid_unknown_fields for kind in structs)
    assert all(kind.__struct_config__.frozen for kind in structs)


def test_mapping_may_be_of_any_kind() -> None:
    given_: Mapping[str, object] = MappingProxyType({"name": "a", "labels": MappingProxyType({"k": "v"})})
    assert read_mapping(given_, NodeAttrs).labels == {"k": "v"}
