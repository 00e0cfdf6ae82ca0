"""The tokens in memory: committed state, which the writer changes, indexed by id and by name."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from thunderline.core.access import Token, TokenKind
from thunderline.core.ids import TokenId


class TokenBook:
    """All tokens, the revoked ones too: a node whose credential was revoked is one that was enrolled."""

    def __init__(self) -> None:
        self._by_id: dict[TokenId, Token] = {}
        self._named: dict[str, TokenId] = {}
        self._credentials: dict[str, TokenId] = {}
        self._used: set[TokenId] = set()
        self._expiries: list[tuple[datetime, TokenId]] = []
        """Of those that expire and are not revoked, in order."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Token]:
        """In the order in which they were made."""
        return iter(self._by_id.values())

    def get(self, token_id: TokenId) -> Token | None:
        """The token with this id."""
        return self._by_id.get(token_id)

    def named(self, name: str) -> Token | None:
        """The token or join token of that name that is not revoked."""
        token_id = self._named.get(name)
        return None if token_id is None else self._by_id[token_id]

    def credential_of(self, name: str) -> Token | None:
        """The credential of the node of that name, revoked or not."""
        token_id = self._credentials.get(name)
        return None if token_id is None else self._by_id[token_id]

    def use(self, token_id: TokenId) -> None:
        """Its holder has shown the token to this process."""
        self._used.add(token_id)

    def is_used(self, token_id: TokenId) -> bool:
        """Whether its holder has shown it to this process."""
        return token_id in self._used

    def expiring(self, *, after: datetime, before: datetime) -> int:
        """How many tokens expire from `after` on and before `before`, the revoked ones aside."""
        return bisect_left(self._expiries, (before, "")) - bisect_left(self._expiries, (after, ""))

    def next_expiry(self, *, after: datetime) -> datetime | None:
        """When the next token expires, from `after` on; the revoked ones aside."""
        place = bisect_left(self._expiries, (after, ""))
        return self._expiries[place][0] if place < len(self._expiries) else None

    def page(self, *, after: TokenId | None, limit: int, revoked: bool) -> tuple[list[Token], bool]:
        """At most `limit` tokens with an id beyond `after`, by id, and whether there are more; with the revoked ones
        only if asked for."""
        ids = sorted(
            token.id
            for token in self._by_id.values()
            if (after is None or token.id > after) and (revoked or token.revoked_at is None)
        )
        found = [self._by_id[token_id] for token_id in islice(ids, limit)]
        return found, len(ids) > limit

    def put(self, token: Token) -> None:
        """Take a token's newer record."""
        self._expires_not(self._by_id.get(token.id))
        self._by_id[token.id] = token
        if token.expires_at is not None and token.revoked_at is None:
            insort(self._expiries, (token.expires_at, token.id))
        if token.kind is TokenKind.CREDENTIAL:
            self._credentials[token.name] = token.id
        elif token.revoked_at is None:
            self._named[token.name] = token.id
        elif self._named.get(token.name) == token.id:
            del self._named[token.name]

    def remove(self, token_id: TokenId) -> None:
        """Forget a token."""
        self._used.discard(token_id)
        token = self._by_id.pop(token_id, None)
        self._expires_not(token)
        if token is not None:
            for index in (self._named, self._credentials):
                if index.get(token.name) == token_id:
                    del index[token.name]

    def _expires_not(self, token: Token | None) -> None:
        if token is not None and token.expires_at is not None and token.revoked_at is None:
            del self._expiries[bisect_left(self._expiries, (token.expires_at, token.id))]
