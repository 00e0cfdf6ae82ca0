"""What routes have in common: the registry that they speak to, on whose behalf they do, and parameters that mean the
same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from litestar.di import NamedDependency
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import PathParameter, QueryParameter

from thunderline.core.errors import InvalidInput, StoreUnavailable
from thunderline.core.records import NodeStatus
from thunderline.gate.encoded import EncodedEvents
from thunderline.link.actor import Actor
from thunderline.link.registry import Registry

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 10_000

Reg = NamedDependency[Registry]
Encoded = NamedDependency[EncodedEvents]
Caller = NamedDependency[Actor]
Ref = Annotated[str, PathParameter(description="A node's id or name.")]
GroupRef = Annotated[str, PathParameter(description="A group's id or name.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX, description="Items in one answer at most.")]
_CURSOR: Final = "([0-9a-f-]{36}:)?[0-9]{1,18}"
CURSOR: Final[dict[str, Any]] = {"pattern": f"^({_CURSOR})?$"}
"""How the document describes a position in the log; an empty one is the oldest."""
MOMENT: Final[dict[str, Any]] = {"any_of": [Schema(format=OpenAPIFormat.DATE_TIME), Schema(pattern=f"^{_CURSOR}$")]}
"""How it describes a moment; a revision alone is one, too."""
PAGE_CURSOR: Final[dict[str, Any]] = {"pattern": "^[A-Za-z0-9_-]+$"}


def some_of(values: Iterable[str]) -> dict[str, Any]:
    """How the document describes one or several of these, with commas between."""
    one = f"({'|'.join(values)})"
    return {"pattern": f"^{one}(,{one})*$"}


_LABEL_WORDS: Final[dict[str, Any]] = {"items": Schema(type=OpenAPIType.STRING, pattern="^[^=]+=.*$")}
"""How the document describes labels to look for."""

# By what nodes are chosen.
WantedStatus = Annotated[
    str | None,
    QueryParameter(schema_extra=some_of(NodeStatus), description="A status, or several separated by commas."),
]
WantedClusterType = Annotated[Literal["in_cluster", "out_of_cluster"] | None, QueryParameter()]
WantedCapability = Annotated[
    str | None, QueryParameter(description="`key` or `key:value`: what a node can do, and has enabled.")
]
WantedGroup = Annotated[
    str | None, QueryParameter(description="A group's id or name; members of the groups below it count.")
]
WantedLabels = Annotated[
    list[str] | None,
    QueryParameter(schema_extra=_LABEL_WORDS, description="`key=value`; repeat for several, all must hold."),
]
WantedName = Annotated[str | None, QueryParameter(description="A name, or a prefix that ends in `*`.")]

Consistent = Annotated[
    bool, QueryParameter(description="Answer 503 rather than with what may be stale because the store is away.")
]


def check_consistent(registry: Registry, consistent: bool) -> None:
    """Refuse a read that must not be stale while the store is away. Raises: StoreUnavailable."""
    if consistent and registry.stale_s is not None:
        raise StoreUnavailable("reads may be stale")


def unknown_parameter(name: str, *, known: Iterable[str]) -> InvalidInput:
    """The refusal of a parameter that a route does not take, naming those in `known` that it does."""
    names = sorted(known)
    hint = f"one of {', '.join(names)}" if names else "none is taken here"
    return InvalidInput(name[:100], f"is not a parameter of this route; {hint}")


def read_labels(given: list[str] | None) -> dict[str, str] | None:
    """Labels as a query asks for them, each as `key=value`. Raises: InvalidInput."""
    labels: dict[str, str] = {}
    for item in given or ():
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise InvalidInput("label", f"should be key=value, not {item[:100]!r}")
        if labels.setdefault(key, value) != value:
            raise InvalidInput("label", f"{key[:100]} cannot be {labels[key][:100]!r} and {value[:100]!r} at once")
    return labels or None
