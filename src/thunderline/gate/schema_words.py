"""A schema of the OpenAPI document in the words of a page: its bounds, its default, what null means in it."""

from __future__ import annotations

from typing import Any

import msgspec


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a part that is there: a parameter that may be left out is described as nullable."""
    for several in ("anyOf", "oneOf"):
        parts = [part for part in schema.get(several, ()) if part.get("type") != "null"]
        if len(parts) < len(schema.get(several, ())) and len(parts) == 1:
            # What stands beside them holds for this part, too.
            return {**parts[0], **{word: said for word, said in schema.items() if word != several}}
    if "enum" in schema:
        return {**schema, "enum": [value for value in schema["enum"] if value is not None]}
    return schema


def bounds(schema: dict[str, Any]) -> list[str]:
    """What limits a value, in words; empty where nothing does."""
    core = without_null(schema)
    said = []
    least = core.get("minimum", core.get("exclusiveMinimum"))
    if least is not None:
        above = "more than " if "exclusiveMinimum" in core else ""
        most = core.get("maximum")
        if most is not None:
            said.append(f"{above}{_figure(least)} to {_figure(most)}")
        else:
            said.append(f"{above}{_figure(least)}" if above else f"{_figure(least)} or more")
    if "maxLength" in core:
        said.append(f"{_figure(core['maxLength'])} characters at most")
    if "maxProperties" in core:
        said.append(f"{_figure(core['maxProperties'])} entries at most")
    if "maxItems" in core:
        said.append(f"{_figure(core['maxItems'])} items at most")
    return said


def default_of(schema: dict[str, Any]) -> str | None:
    """The default as the document writes it; None where there is none worth telling."""
    default = schema.get("default")
    return None if default is None or default in ({}, []) else literal(default)


def literal(value: object) -> str:
    """A value of the document: text as it is, all else as JSON writes it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value < 1e15 and value == int(value) else f"{value:,g}"
