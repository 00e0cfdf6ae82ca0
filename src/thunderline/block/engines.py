"""From a store's URL to the store, importing the engine only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from thunderline.block.store import Store
from thunderline.core.clock import Clock
from thunderline.core.errors import SettingsError
from thunderline.core.ids import IdSource

_ENGINES: Final = {
    "sqlite": "thunderline.block.sqlite.store:SqliteStore",
    "postgresql": "thunderline.block.postgres.store:PostgresStore",
    "postgres": "thunderline.block.postgres.store:PostgresStore",
    "memory": "thunderline.block.memory:MemoryStore",
}
_EXTRAS: Final = {"asyncpg": "postgres"}
"""What the base install does without, and the extra that brings it."""
_FORMS: Final = "sqlite:///relative/path.db, sqlite:////absolute/path.db, postgresql://HOST/DATABASE or memory://"


def store_from_url(url: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Store:
    """The store that `url` names, not yet opened. Raises: SettingsError naming `store`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _ENGINES:
        raise SettingsError("store", f"should be {_FORMS}", source="store")
    module, _, name = _ENGINES[scheme].partition(":")
    try:
        engine: type[Store] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if (extra := _EXTRAS.get(error.name or "")) is None:
            raise
        raise SettingsError(
            "store", f"{scheme}:// needs a library: pip install 'thunderline[{extra}]'", source="store"
        ) from error
    return engine.from_url(rest, clock=clock, ids=ids, writer_id=writer_id)
