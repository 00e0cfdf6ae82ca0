"""A served registry, and each client of it in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.servers import ServedRegistry, serving
from tests.client.clients import KINDS, Driven, driven


@pytest.fixture(scope="module")
def server() -> Iterator[ServedRegistry]:
    """A server that the tests of one file share; each test names nodes of its own."""
    with serving() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a client's class."""
    name: str = request.param
    return name


@pytest.fixture
def client(kind: str, server: ServedRegistry) -> Iterator[Driven]:
    """A client of the server."""
    with driven(kind, server.url) as found:
        yield found
