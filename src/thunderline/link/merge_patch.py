"""Merge patches of the open-ended parts of records. Source: RFC 7396, section 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import LABELS_MAX, InputProblem, check_json_object
from thunderline.core.records import JsonObject


def merged_meta(have: JsonObject, patch: JsonObject | None) -> JsonObject:
    """`have` with `patch` applied; None empties it. Raises: InvalidInput when it would be too large."""
    merged = {} if patch is None else _merge(have, patch)
    check_merged_meta(merged)
    return merged


def merged_labels(have: dict[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    """`have` with `patch` applied; None empties it. Raises: InvalidInput when they would be too many."""
    return check_count("labels", {} if patch is None else _merge(have, patch), LABELS_MAX)


def check_count(field: str, merged: dict[str, Any], most: int | None) -> dict[str, Any]:
    """`merged`, if it holds at most so many. Raises: InvalidInput naming `field`."""
    if most is not None and len(merged) > most:
        raise InvalidInput(field, f"would be {len(merged)} together with those it has, {most} at most")
    return merged


def check_merged_meta(meta: JsonObject) -> None:
    """Return if a `meta` may be that, also where both of its parts were. Raises: InvalidInput."""
    try:
        check_json_object(meta, field="meta")
    except InputProblem as error:
        raise InvalidInput(error.path, error.problem) from error


def _merge(have: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonObject:
    merged = dict(have)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged
