"""A node's new credential on its way to its file, beside everything else that its link does.

Until it is kept nothing is said with it: a process that dies before has not used it, and one that connects again with
its join token is given another.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from thunderline.client.credential import CredentialFile, CredentialNotKept
from thunderline.core.logging import get_logger

log = get_logger(__name__)

AGAIN_S: Final = 5.0
"""After a disk that did not take it."""


class Keeping:
    """At most one credential at a time; a newer one takes the place of the one before."""

    def __init__(self, file: CredentialFile | None) -> None:
        """`file` None: it is kept in memory alone."""
        self._file = file
        self._credential: str | None = None
        self._writing: asyncio.Task[None] | None = None
        self._written: str | None = None
        self._again_at: float | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether there is a credential that is not kept yet."""
        return self._credential is not None

    @property
    def children(self) -> list[asyncio.Task[Any]]:
        """What may finish next."""
        return [] if self._writing is None else [self._writing]

    @property
    def next_due(self) -> float | None:
        """When it is tried again though nothing happens until then."""
        return self._again_at

    def take(self, credential: str) -> None:
        """Keep it."""
        self._credential = credential
        self._again_at = None
        self._write()

    def settle(self, now: float) -> str | None:
        """The credential, once it is kept; then it is forgotten here."""
        if self._writing is not None and self._writing.done():
            writing, self._writing = self._writing, None
            try:
                writing.result()
            except CredentialNotKept as error:
                log.error("credential not kept, trying again", file=str(error.file), reason=error.problem)
                self._again_at = now + AGAIN_S
            else:
                if self._written == self._credential:
                    return self._kept()
                self._write()
        if self._again_at is not None and self._again_at <= now:
            self._again_at = None
            self._write()
        if self._file is None and self._credential is not None:
            log.warning("credential kept in memory only: without `credential_file` the next process has none")
            return self._kept()
        return None

    async def close(self) -> None:
        """Return when nothing is being written any more. What could not be written is lost."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self.settle(0.0)
        if self._credential is not None:
            log.error("credential lost: it was not kept before the link ended")

    def _kept(self) -> str | None:
        credential, self._credential, self._written = self._credential, None, None
        if self._file is not None:
            log.info("credential kept", file=str(self._file.file))
        return credential

    def _write(self) -> None:
        if self._file is None or self._credential is None or self._writing is not None:
            return
        self._written = self._credential
        self._writing = asyncio.create_task(asyncio.to_thread(self._file.keep, self._written), name="link credential")
