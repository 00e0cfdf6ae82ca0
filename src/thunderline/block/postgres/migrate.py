"""Brings a database to this version's schema, in one transaction for each migration."""

from __future__ import annotations

from typing import Any

import asyncpg

from thunderline.block.migrations import Migration, due_at_open, load_migrations, missing_from
from thunderline.block.postgres.connection import MIGRATION_TIMEOUT_S
from thunderline.block.postgres.failures import describe, is_about
from thunderline.core.clock import Clock
from thunderline.core.errors import StoreIncompatible


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    return load_migrations("thunderline.block.postgres")


async def migrate(connection: Any, queries: Any, *, clock: Clock, post: bool = False) -> list[Migration]:
    """Apply what is missing, and give it; post migrations at the end only with `post`, or to an empty database.

    Raises: StoreIncompatible when the schema is another program's, of a later version, or may not be changed by this
    role; what the driver raises.
    """
    try:
        await _claim_schema(connection, queries)
        # On a schema in which nothing is yet there is nobody to wait for.
        post = post or not await connection.fetch(queries.select_migrations.sql)
        applied: list[Migration] = []
        while due := await _due(connection, queries, post=post):
            if not await _apply(connection, queries, due[0], clock=clock):
                continue
            applied.append(due[0])
        return applied
    except asyncpg.PostgresError as error:
        if not is_about(error, "42501"):
            raise
        raise StoreIncompatible(
            f"this role may not make the schema ({describe(error)}); run 'thunderline db migrate' as its owner, "
            "and see docs/postgresql.md for the rights that a server needs"
        ) from error


async def _claim_schema(connection: Any, queries: Any) -> None:
    """Have a schema of ours."""
    while True:
        found = await connection.fetchrow(queries.has_schema.sql)
        if found["is_ours"]:
            return
        if found["relations"]:
            raise StoreIncompatible(
                "the database has a schema named thunderline that is not ours; use another database"
            )
        try:
            async with connection.transaction():
                if not found["has_schema"]:
                    await connection.execute(queries.create_schema.sql)
                await connection.execute(queries.create_migrations.sql)
        except asyncpg.PostgresError as error:
            # Another process makes it, too, and was faster.
            if not is_about(error, "42P06", "42P07", "23505"):
                raise


async def _due(connection: Any, queries: Any, *, post: bool) -> list[Migration]:
    applied = [tuple(row) for row in await connection.fetch(queries.select_migrations.sql)]
    missing = missing_from(applied, migrations())
    return missing if post else due_at_open(missing)


async def _apply(connection: Any, queries: Any, migration: Migration, *, clock: Clock) -> bool:
    """Apply one; False when another process did so meanwhile."""
    async with connection.transaction():
        await connection.execute(queries.lock_migrations.sql)
        applied = await connection.fetch(queries.select_migrations.sql)
        if any(row["version"] == migration.version for row in applied):
            return False
        # However long it takes: what it does to a table follows from what is in there.
        await connection.execute(queries.no_statement_timeout.sql)
        await connection.execute(migration.sql, timeout=MIGRATION_TIMEOUT_S)
        row = (migration.version, migration.name, migration.sha256, clock.now_ms())
        await connection.execute(queries.insert_migration.sql, *row)
    return True
