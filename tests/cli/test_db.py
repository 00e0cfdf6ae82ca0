"""`thunderline db`: what it prints onto a screen, into a pipe and as JSON, and how it fails."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.commands import on_screen, parsed, piped
from thunderline.block.sqlite import SqliteStore
from thunderline.cli.figures import size


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database that nobody holds."""

    async def make() -> None:
        async with SqliteStore(tmp_path / "nodes.db"):
            pass

    asyncio.run(make())
    return tmp_path / "nodes.db"


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_status_on_a_screen_says_what_is_to_be_known(database: Path) -> None:
    shown = on_screen("db", "status", "--store", url(database))
    assert shown.code == 0
    assert shown.lines[0] == str(database)
    for label, value in (
        ("held by", "nobody"),
        ("schema", "up to date"),
        ("revision", "0"),
        ("events kept", "after revision 0"),
        ("nodes", "0"),
        ("heartbeats", "0 in 0 rows, 0 bytes"),
        ("write-ahead log", "0 bytes"),
    ):
        assert any(line.split()[: len(label.split())] == label.split() and line.endswith(value) for line in shown.lines)


def test_status_in_a_pipe_is_one_field_a_line(database: Path) -> None:
    done = piped("db", "status", "--store", url(database))
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["FIELD", "VALUE"]
    fields = dict(rows[1:])
    assert (fields["location"], fields["held_by"], fields["pending"]) == (str(database), "-", "-")
    assert (fields["revision"], fields["heartbeats.rows"]) == ("0", "0")


def test_status_of_a_later_schema_names_what_is_not_known(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES (9000, 'later', 'x', 0)")
    shown = on_screen("db", "status", "--store", url(database))
    assert "9000, of a later Thunderline: this version does not know 9000_later" in shown.text
    refused = piped("db", "migrate", "--store", url(database))
    assert refused.returncode == 2
    assert "later Thunderline" in refused.stderr


def test_the_store_comes_from_the_environment_and_the_settings_file(database: Path, tmp_path: Path) -> None:
    assert piped("db", "status", THUNDERLINE_STORE=url(database)).returncode == 0
    (tmp_path / "t.toml").write_text(f'store = "{url(database)}"\n')
    assert piped("db", "status", "--config", str(tmp_path / "t.toml")).returncode == 0


@pytest.mark.parametrize("action", [["status"], ["migrate"], ["backup", "b.db"]])
def test_missing_database_ends_with_1_and_what_to_do(tmp_path: Path, action: list[str]) -> None:
    done = piped("db", *action, "--store", url(tmp_path / "none.db"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"thunderline: there is no database at {tmp_path}/none.db; 'thunderline serve' makes one, "
        "or pass another --store\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", [["status"], ["migrate"], ["backup", "b.db"], ["restore", "b.db"]])
def test_store_in_memory_is_a_bad_setting(action: list[str]) -> None:
    done = piped("db", *action, "--store", "memory://")
    assert (done.returncode, done.stdout) == (2, "")
    assert "store" in done.stderr


def test_migrate_applies_what_is_missing_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "nodes.db").touch()
    first = piped("db", "migrate", "--json", "--store", url(tmp_path / "nodes.db"))
    applied = json.loads(first.stdout)
    assert applied["applied"][0] == "0001_foundation"
    assert applied["schema_version"] == int(applied["applied"][-1].partition("_")[0])
    second = on_screen("db", "migrate", "--store", url(tmp_path / "nodes.db"))
    assert (second.code, second.lines[0]) == (
        0,
        f"nothing to do: {tmp_path}/nodes.db has schema {applied['schema_version']}",
    )


def test_backup_and_restore_say_what_they_did(database: Path, tmp_path: Path) -> None:
    backup = str(tmp_path / "b.db")
    shown = on_screen("db", "backup", backup, "--store", url(database), columns=200)
    assert shown.code == 0
    assert f"everything up to revision 0 is in {backup} (" in shown.lines[-1]
    done = piped("db", "backup", backup, "--force", "--store", url(database))
    fields = dict(line.split("\t") for line in done.stdout.splitlines())
    assert (done.stderr, fields["file"], fields["revision"]) == ("", backup, "0")
    restored = on_screen("db", "restore", backup, "--force", "--store", url(database), columns=300)
    assert restored.code == 0
    assert f"restored {database} to revision 0, as log " in restored.lines[-1]
    assert f"; what was there is kept as {database}.before-restore-" in restored.lines[-1]


def test_relative_path_of_a_backup_is_where_the_command_runs(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = piped("db", "backup", "b.db", "--json", "--store", url(database))
    assert json.loads(done.stdout)["file"] == str(tmp_path / "b.db")


def test_file_in_the_way_ends_with_1_and_names_the_option(database: Path, tmp_path: Path) -> None:
    (tmp_path / "b.db").touch()
    done = piped("db", "backup", str(tmp_path / "b.db"), "--store", url(database))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"thunderline: {tmp_path}/b.db exists; pass --force to overwrite it, or choose another name\n"


def test_file_that_is_no_backup_ends_with_1_and_is_named(database: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello " * 1000)
    done = piped("db", "restore", str(tmp_path / "notes.txt"), "--force", "--store", url(database))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"thunderline: {tmp_path}/notes.txt cannot be restored: it is not an SQLite database\n")


@pytest.mark.parametrize("action", ["status", "migrate", "backup", "restore"])
def test_help_of_each_subcommand_has_examples(action: str) -> None:
    told = parsed("db", action, "--help")
    assert told.exit_code == 0
    assert "Examples:" in told.stdout
    assert f"thunderline db {action}" in told.stdout


def test_subcommands_are_listed_without_being_asked() -> None:
    told = parsed("db")
    for action in ("status", "migrate", "backup", "restore"):
        assert f"  {action}" in told.output


@pytest.mark.parametrize(
    ("value_bytes", "told"),
    [
        (None, "-"),
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (32_768, "32.0 KiB"),
        (89_513_984, "85.4 MiB"),
        (2**31, "2.0 GiB"),
        (2**41, "2.0 TiB"),
    ],
)
def test_size_is_told_in_the_unit_that_keeps_it_short(value_bytes: int | None, told: str) -> None:
    assert size(value_bytes) == told
