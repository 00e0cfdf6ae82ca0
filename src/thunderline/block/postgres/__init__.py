"""PostgreSQL, 14 or later: see `store`."""

from thunderline.block.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
