"""Migrations: append-only SQL files, `0001_name.sql`, each applied once and never changed afterwards.

`0002_name.post.sql` is one that the version before cannot live with, such as a column that goes. Where several
processes of two versions may work on one database it waits until the last of the old ones has ended; a migration that
comes after it does not, and brings it along.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Final

import msgspec

from thunderline.core.errors import StoreIncompatible

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)(\.post)?\.sql")


class Migration(msgspec.Struct, frozen=True):
    """One file of an engine's `migrations/`."""

    version: int
    name: str
    sql: str
    is_post: bool = False

    @property
    def sha256(self) -> str:
        """What tells that an applied file was changed afterwards."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def title(self) -> str:
        """The migration as people are told of it."""
        return title_of(self.version, self.name)


def title_of(version: int, name: str) -> str:
    """A migration as people are told of it."""
    return f"{version:04d}_{name}"


def load_migrations(package: str) -> list[Migration]:
    """All migrations of the engine in `package`, in order."""
    files = (resources.files(package) / "migrations").iterdir()
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"), is_post=match[3] is not None)
        for file in files
        if (match := _FILE.fullmatch(file.name)) is not None
    ]
    return sorted(found, key=lambda migration: migration.version)


def missing_from(applied: Iterable[tuple[int, str, str]], known: Sequence[Migration]) -> list[Migration]:
    """Those of `known` that a database lacks which has `applied`: version, name and checksum of each.

    Raises: StoreIncompatible when it has one that is not known, or that was another when it was applied.
    """
    by_version = {migration.version: migration for migration in known}
    done = set()
    for version, name, sha256 in applied:
        ours = by_version.get(version)
        if ours is None:
            raise StoreIncompatible(
                f"the database has migration {title_of(version, name)}, which this version does not know; "
                "it was written by a later Thunderline"
            )
        if ours.sha256 != sha256:
            raise StoreIncompatible(
                f"migration {title_of(version, name)} is not the one that was applied to this database"
            )
        done.add(version)
    return [migration for migration in known if migration.version not in done]


def due_at_open(missing: Sequence[Migration]) -> list[Migration]:
    """Those of `missing` that an open applies while others may still use the database: all but the last post ones."""
    end = len(missing)
    while end and missing[end - 1].is_post:
        end -= 1
    return list(missing[:end])
