"""A node's name that nobody has, and the names that come close."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from thunderline.cli.answers import NamedNode
from thunderline.cli.failures import NoSuchNode, ServerRefused
from thunderline.cli.remote import Remote
from thunderline.client.answers import NodePage

HINTS_MAX: Final = 3
SEARCHED_MAX: Final = 10_000
"""Names that are compared at most: comparing so many takes a good second."""


@contextmanager
def looking_up(remote: Remote, ref: str) -> Iterator[None]:
    """A block whose requests are about one node. Raises: NoSuchNode where the server knows none of this name."""
    try:
        yield
    except ServerRefused as error:
        if error.status != 404:
            raise
        raise NoSuchNode(ref, close=_close_names(remote, ref)) from error


def _close_names(remote: Remote, ref: str) -> list[str]:
    pages = remote.node_pages(NodePage[NamedNode], (("presence", "false"),), limit=SEARCHED_MAX)
    names = {node.name.lower(): node.name for page in pages for node in page.nodes}
    return [names[found] for found in difflib.get_close_matches(ref.lower(), names, n=HINTS_MAX)]
