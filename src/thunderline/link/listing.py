"""Lists of nodes in an order of the caller's choice, page by page.

A page goes on behind the key of the last node of the page before, so that nodes which come and go in between move no
other: a node whose key stays is listed exactly once. One whose key changes meanwhile is found where it is then.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import msgspec

from thunderline.core.clock import to_ms
from thunderline.core.errors import InvalidInput
from thunderline.link.node_index import NodeFilter
from thunderline.link.orders import Key, Order, walk
from thunderline.link.roster import Entry, Roster

BY_NAME: Final = "name"

STEPS_FOR_ONE_SORTED: Final = 3
"""Names that are passed over along an order in the time in which one that matches is sorted in."""

_KEYS: Final[dict[str, Callable[[Entry], Any]]] = {
    "role": lambda entry: entry.node.role,
    "domain": lambda entry: entry.node.domain,
    "status": lambda entry: entry.node.status.value,
    "status_since": lambda entry: to_ms(entry.node.status_since),
    "inserted_at": lambda entry: to_ms(entry.node.inserted_at),
    "updated_at": lambda entry: to_ms(entry.node.updated_at),
    "last_seen_at": lambda entry: entry.last_seen_ms or 0,
}
SORTS: Final = (BY_NAME, *_KEYS)
"""What lists can be sorted by; `-` in front of it turns the order around. Names decide between equals."""
UNREVISIONED_SORTS: Final = frozenset({"last_seen_at", "-last_seen_at"})
"""Orders that change without an event: two such lists at one revision may differ."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What to list, and in which order."""

    wanted: NodeFilter
    sort: str = BY_NAME

    def __post_init__(self) -> None:
        if self.sort.removeprefix("-") not in SORTS:
            raise InvalidInput("sort", f"should be one of {', '.join(SORTS)}, with - in front to turn it around")


class ListKey(msgspec.Struct, frozen=True, array_like=True):
    """Where a node stands in a list."""

    value: str | int
    name: str


class ListPage(msgspec.Struct, frozen=True):
    """Some nodes of a list, in order; `last` is the key to go on behind, None at the end."""

    entries: list[Entry]
    last: ListKey | None


def list_page(roster: Roster, listing: Listing, *, after: ListKey | None, limit: int | None = None) -> ListPage:
    """At most `limit` nodes behind `after`."""
    descends = listing.sort.startswith("-")
    field = listing.sort.removeprefix("-")
    if field == BY_NAME and not descends:
        found, more = roster.select(listing.wanted, after=None if after is None else after.name, limit=limit)
        return ListPage(found, ListKey(found[-1].node.name, found[-1].node.name) if more else None)
    bound = None if after is None else (after.value, after.name)
    try:
        page = None if limit is None else _walked(roster, listing, after=bound, limit=limit)
        return page or _sorted(roster, listing, after=bound, limit=limit)
    except TypeError as error:
        raise InvalidInput("cursor", "is not one that a list gave") from error


def _walked(roster: Roster, listing: Listing, *, after: Key | None, limit: int) -> ListPage | None:
    """The page along the order that is kept; None where it costs less to sort what matches."""
    wanted, field = listing.wanted, listing.sort.removeprefix("-")
    at_most = roster.at_most(wanted)
    if listing.sort in UNREVISIONED_SORTS or at_most <= limit:
        return None
    order = Order.of(roster, field, _KEYS.get(field, _name))
    keys = order.keys()
    # Given up after about as much as sorting costs.
    steps = len(keys) if at_most == len(roster) else min(STEPS_FOR_ONE_SORTED * at_most, len(keys))
    rest = walk(keys, after=after, descends=listing.sort.startswith("-"))
    names = roster.sift(wanted, map(itemgetter(1), islice(rest, steps)))
    found = [roster.find(name) for name in islice(names, limit)]
    if next(names, None) is not None:
        return ListPage(found, ListKey(*order.key_of(found[-1].node.id)))
    return ListPage(found, None) if next(rest, None) is None else None


def _sorted(roster: Roster, listing: Listing, *, after: Key | None, limit: int | None) -> ListPage:
    """The page out of all that match."""
    descends = listing.sort.startswith("-")
    value_of = _KEYS.get(listing.sort.removeprefix("-"), _name)

    def key(entry: Entry) -> Key:
        return value_of(entry), entry.node.name

    matching = roster.matching(listing.wanted)
    if after is not None:
        bound = after
        matching = [entry for entry in matching if (key(entry) < bound if descends else key(entry) > bound)]
    if limit is None or limit >= len(matching):
        return ListPage(sorted(matching, key=key, reverse=descends), None)
    pick = heapq.nlargest if descends else heapq.nsmallest
    # The value that a page ends with is found first, among values alone: keys are made for few.
    values = [value_of(entry) for entry in matching]
    end = pick(limit, values)[-1]
    matching = [
        entry for entry, value in zip(matching, values, strict=True) if (value >= end if descends else value <= end)
    ]
    found = pick(limit, matching, key=key)
    return ListPage(found, ListKey(*key(found[-1])))


def _name(entry: Entry) -> str:
    return entry.node.name
