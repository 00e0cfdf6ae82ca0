"""What all tests share: time and ids that are the same in every run, and hypothesis without surprises."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, settings

from tests.databases import PostgresDatabases
from tests.engines import ENGINES, Stores
from thunderline.core.ids import IdSource
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import numbered_ids

# Derandomised: a failure in CI is the failure at one's desk. `--hypothesis-profile=search` looks for new ones.
settings.register_profile(
    "thunderline",
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search", settings.get_profile("thunderline"), derandomize=False, max_examples=1_000, print_blob=True
)
settings.load_profile("thunderline")


# A job in the background of a shell ignores Ctrl-C, and so would every program that the tests start from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=[*ENGINES, "all"],
        default="memory",
        help="what the tests of the gate keep their records in, those aside that ask for a store of their own: "
        "memory (default), sqlite, postgres, or all three one after another",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes goes first: the longest tests, which at the end would leave one of two cores idle."""
    items.sort(key=lambda item: "tests/server/" not in item.nodeid)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ids() -> IdSource:
    return numbered_ids()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresDatabases]:
    """A PostgreSQL server for all tests of this process."""
    with PostgresDatabases() as databases:
        yield databases


@pytest.fixture
def postgres_url(postgres: PostgresDatabases) -> Iterator[str]:
    """A database of the test's own, in which our schema is."""
    url = postgres.new()
    yield url
    postgres.drop(url)


@pytest.fixture
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Makes stores of each engine for the test.

    A server is started for the first of PostgreSQL, which a running event loop does not allow: fixtures ask for that.
    """
    made = Stores(tmp_path, lambda: cast(PostgresDatabases, request.getfixturevalue("postgres")))
    yield made
    made.drop()
