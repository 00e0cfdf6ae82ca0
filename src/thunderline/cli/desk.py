"""Who is asked about tokens and the audit log.

A server over HTTP, if one is named; else the one that holds the database on this machine, over its control socket; and
where none does, the registry itself, which is opened here for as long as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar, assert_never
from urllib.parse import quote

import msgspec
import typer

from thunderline.cli.failures import DatabaseFailed
from thunderline.cli.remote import Remote
from thunderline.cli.screen import note
from thunderline.client.calls import Call, node_path
from thunderline.core.clock import SystemClock
from thunderline.core.errors import (
    Conflict,
    InvalidInput,
    NoDatabase,
    NotFound,
    Refused,
    SettingsError,
    StoreLocked,
    Unavailable,
)
from thunderline.core.ids import new_uuid7
from thunderline.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from thunderline.block.store import Store
    from thunderline.gate.control_messages import DeskAnswer, DeskRequest

A = TypeVar("A", bound="DeskAnswer")

_PAGE_MAX: Final = 1_000
"""Of one answer over HTTP."""

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        show_default="as 'thunderline serve' finds it",
        help="The database, where no server is named: sqlite:///PATH or postgresql://HOST/NAME.",
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file of settings that names the store.")]


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ask, as it was given on the command line."""

    server: str | None
    token_file: Path | None
    ca: Path | None
    store: str | None
    config: Path | None

    def ask(self, request: DeskRequest, kind: type[A]) -> A:
        """The answer to `request`. Raises: CommandFailed; SettingsError."""
        return self.collect(request, kind, lambda answer: None)[0]

    def collect(self, request: DeskRequest, kind: type[A], then: Callable[[A], DeskRequest | None]) -> list[A]:
        """The answers to `request`, and to what `then` asks after each. Raises: CommandFailed; SettingsError."""
        if self.server is not None and self.store is None:
            return self._collect_over_http(self.server, request, kind, then)
        settings = load_settings(file=self.config, flags={"store": self.store})
        # Imported here: --help need not wait for the engine.
        from thunderline.block.engines import store_from_url

        store = store_from_url(settings.store, clock=SystemClock(), ids=new_uuid7, writer_id="registry")
        upkeep = store.upkeep()
        if upkeep is None:
            raise SettingsError("store", f"{store.location} keeps no tokens", source="store")
        if upkeep.control_path is None:
            return _collect_here(store, settings, request, kind, then)
        from thunderline.cli.control import Control

        answers: list[A] = []
        asked: DeskRequest | None = request
        while asked is not None:
            control = Control.connect(upkeep.control_path)
            if control is None:
                if not Path(store.location).exists():
                    raise DatabaseFailed(f"{NoDatabase(store.location)}; start the server first, or pass --server")
                return _collect_here(store, settings, request, kind, then)
            answers.append(control.ask(asked, kind, lambda step, done, total: None))
            asked = then(answers[-1])
        return answers

    def _collect_over_http(
        self, url: str, request: DeskRequest, kind: type[A], then: Callable[[A], DeskRequest | None]
    ) -> list[A]:
        answers: list[A] = []
        asked: DeskRequest | None = request
        with Remote(url, token_file=self.token_file, ca=self.ca, warn=note) as remote:
            while asked is not None:
                answer = _ask_over_http(remote, asked)
                assert isinstance(answer, kind)  # what is asked for is what comes
                answers.append(answer)
                asked = then(answer)
        return answers


def _ask_over_http(remote: Remote, request: DeskRequest) -> DeskAnswer:
    from thunderline.gate import control_messages as told
    from thunderline.gate.access_bodies import AuditBody, IssuedBody, TokenBody, TokensBody

    match request:
        case told.TokenCreateRequest():
            body = msgspec.json.encode(_given(request.token))
            return told.IssuedAnswer(body=remote.ask(Call("POST", "/api/tokens", IssuedBody, body=body)))
        case told.ReissueRequest():
            body = msgspec.json.encode(_given(request.wanted))
            path = f"{node_path(request.node)}/reissue"
            return told.IssuedAnswer(body=remote.ask(Call("POST", path, IssuedBody, body=body)))
        case told.TokenRevokeRequest():
            # By its id: its name is free for another one at once.
            token = remote.get(f"/api/tokens/{quote(request.ref, safe='')}", TokenBody).token
            remote.delete(f"/api/tokens/{token.id}", type(None))
            return told.TokenAnswer(body=remote.get(f"/api/tokens/{token.id}", TokenBody))
        case told.TokenListRequest():
            page = (("revoked", "true" if request.revoked else "false"), *_page(request.limit, request.after))
            return told.TokensAnswer(body=remote.get("/api/tokens", TokensBody, page))
        case told.AuditRequest():
            return told.AuditAnswer(body=remote.get("/api/audit", AuditBody, _page(request.limit, request.before)))
        case _:
            assert_never(request)


def _page(limit: int, cursor: str | None) -> tuple[tuple[str, str | int], ...]:
    size = ("limit", min(limit, _PAGE_MAX))
    return (size,) if cursor is None else (size, ("cursor", cursor))


def _given(wanted: msgspec.Struct) -> dict[str, object]:
    """What a request's body says: absent is what was not given."""
    return {name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None}


def _collect_here(
    store: Store, settings: Settings, request: DeskRequest, kind: type[A], then: Callable[[A], DeskRequest | None]
) -> list[A]:
    from thunderline.core.logging import configure_logging
    from thunderline.gate.control_desk import ControlDesk
    from thunderline.link.registry import Registry

    async def collect() -> list[A]:
        answers: list[A] = []
        asked: DeskRequest | None = request
        async with Registry.open(store, settings) as registry:
            desk = ControlDesk(registry)
            while asked is not None:
                answer = await desk.answer(asked)
                assert isinstance(answer, kind)  # what is asked for is what comes
                answers.append(answer)
                asked = then(answer)
        return answers

    # Standard output is for the answer, and the registry has much to say of its start and end.
    configure_logging(level="error", format="text")
    try:
        return asyncio.run(collect())
    except StoreLocked as error:
        raise DatabaseFailed(f"{error}; ask its server: --server URL --token-file FILE") from error
    except (NotFound, Conflict, InvalidInput, Refused, Unavailable) as error:
        raise DatabaseFailed(str(error)) from error
