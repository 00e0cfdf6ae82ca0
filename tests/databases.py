"""Databases for tests on PostgreSQL: a server, a template in which the schema is, and a copy of it for each test."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from thunderline.block.postgres import PostgresStore
from thunderline.testing.postgres import PostgresServer


class PostgresDatabases:
    """A server, and new databases on it."""

    def __init__(self) -> None:
        self.server = PostgresServer()

    def __enter__(self) -> Self:
        self.server.__enter__()
        try:
            self.server.execute("postgres", "CREATE DATABASE template_thunderline TEMPLATE template0")
            asyncio.run(_open_once(self.server.url("template_thunderline")))
        except BaseException as error:
            self.server.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    def new(self) -> str:
        """The URL of a new database in which our schema is."""
        return self.server.create_database(template="template_thunderline")

    def execute(self, url: str, statement: str) -> str:
        """What one statement gives in the database at `url`, by the superuser."""
        return self.server.execute(self.name_of(url), statement)

    def end_sessions(self, url: str) -> None:
        """End every session in the database at `url`, and return once they are gone."""
        self.server.execute(
            "postgres",
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.name_of(url)}'",
        )

    @staticmethod
    def name_of(url: str) -> str:
        """The name of the database at `url`."""
        return url.partition("@/")[2].partition("?")[0]

    def drop(self, url: str) -> None:
        """Remove it again."""
        self.server.drop_database(url)


async def _open_once(url: str) -> None:
    async with PostgresStore(url):
        pass
