"""Which methods a path takes, as `Allow` tells it: the framework knows neither `HEAD` nor the hot route."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_PREFIX: Final = "/api/nodes/"
_SUFFIX: Final = "/heartbeats"
NODE_BATCH_PATH: Final = "/api/nodes/batch"
BEAT_BATCH_PATH: Final = "/api/heartbeats"


def beat_ref(path: str) -> str | None:
    """The node that a beat sent to `path` would be of; None if `path` takes no beats."""
    path = path.removesuffix("/")
    if not (path.endswith(_SUFFIX) and path.startswith(_PREFIX)):
        return None
    ref = path[len(_PREFIX) : -len(_SUFFIX)]
    return ref if ref and "/" not in ref else None


def is_batch(method: str, path: str) -> bool:
    """Whether this is a batch. Any other method at the path is the framework's: a node may have the name `batch`."""
    return method == "POST" and path.removesuffix("/") in (NODE_BATCH_PATH, BEAT_BATCH_PATH)


def allow(methods: Iterable[str], path: str) -> str:
    """The value of `Allow` for `path`, of which the framework knows `methods`."""
    known = {*methods, "OPTIONS"}
    if "GET" in known:
        known.add("HEAD")
    if beat_ref(path) is not None or is_batch("POST", path):
        known.add("POST")
    return ", ".join(sorted(known))
