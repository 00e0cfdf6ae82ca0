"""The embedded store: one SQLite file, one process, every commit flushed before it is answered."""

from thunderline.block.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
