"""From a store's URL to the store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thunderline.block.engines import store_from_url
from thunderline.block.memory import MemoryStore
from thunderline.block.postgres import PostgresStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import Store
from thunderline.core.errors import SettingsError
from thunderline.core.ids import IdSource
from thunderline.core.settings import default_store
from thunderline.testing.clock import ManualClock


@pytest.fixture
def open_url(clock: ManualClock, ids: IdSource) -> Callable[[str], Store]:
    return lambda url: store_from_url(url, clock=clock, ids=ids, writer_id="test")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/t/nodes.db", "/var/lib/t/nodes.db"),
        ("sqlite:////var/a%20b/50%25.db", "/var/a b/50%.db"),
        ("sqlite:////var/with space?#.db", "/var/with space?#.db"),
    ],
)
def test_absolute_path_follows_four_slashes(open_url: Callable[[str], Store], url: str, path: str) -> None:
    store = open_url(url)
    assert isinstance(store, SqliteStore)
    assert store.location == path


def test_relative_path_follows_three_slashes(
    open_url: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_url("sqlite:///data/nodes.db").location == str(tmp_path / "data" / "nodes.db")


def test_home_directory_is_meant_by_its_sign(
    open_url: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_url("sqlite:///~/nodes.db").location == str(tmp_path / "nodes.db")


def test_home_directory_of_nobody_is_refused_by_name(open_url: Callable[[str], Store]) -> None:
    with pytest.raises(SettingsError, match=r"'~nouser/nodes\.db' is not the path of a file") as caught:
        open_url("sqlite:///~nouser/nodes.db")
    assert caught.value.field == "store"


def test_default_store_leads_to_the_users_directory(
    open_url: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "100%25 mine"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    location = Path(open_url(default_store()).location)
    assert home in location.parents
    assert location.name == "thunderline.db"


def test_memory_url_gives_a_store_in_memory(open_url: Callable[[str], Store]) -> None:
    assert isinstance(open_url("memory://"), MemoryStore)


@pytest.mark.parametrize(
    "url",
    [
        *("", "nodes.db", "/var/nodes.db", "sqlite:/nodes.db", "mysql://host/db", "SQLITE:///nodes.db", "://x"),
        *("sqlite://", "sqlite:///", "sqlite:////", "sqlite://nodes.db", "sqlite:///data/", "sqlite://host/nodes.db"),
    ],
)
def test_url_of_no_store_is_refused_by_name(open_url: Callable[[str], Store], url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_url(url)
    assert caught.value.field == "store"
    assert "sqlite:///" in str(caught.value)


def test_making_a_store_touches_nothing(open_url: Callable[[str], Store], tmp_path: Path) -> None:
    store = open_url(f"sqlite:///{tmp_path}/a/nodes.db")
    assert isinstance(store, SqliteStore)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://zoe:s3cret@db.example:5433/nodes?sslmode=verify-full", "postgresql://db.example:5433/nodes"),
        ("postgres://zoe:s3cret@one:1,two:2/nodes", "postgresql://one:1,two:2/nodes"),
        ("postgresql:///nodes?host=/run/postgresql&password=s3cret", "postgresql:///run/postgresql/nodes"),
        ("postgresql://db.example/?dbname=nodes&password=s3cret", "postgresql://db.example/nodes"),
    ],
)
def test_a_postgresql_url_is_shown_without_its_secrets(open_url: Callable[[str], Store], url: str, shown: str) -> None:
    store = open_url(url)
    assert isinstance(store, PostgresStore)
    assert store.location == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://zoe:s3cret@db.example/nodes?sslmod=require",
        "postgresql://zoe:s3cret#@db.example/nodes",
        "postgresql://zoe:s3cret@[db.example/nodes",
        "postgresq://zoe:s3cret@db.example/nodes",
    ],
)
def test_a_wrong_url_with_a_secret_is_refused_without_showing_it(open_url: Callable[[str], Store], url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_url(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None or "s3cret" not in str(caught.value.__cause__)


def test_an_engine_whose_library_is_missing_says_how_to_install_it(
    open_url: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("thunderline.block.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(SettingsError, match=r"thunderline\[postgres\]"):
        open_url("postgresql:///nodes")
