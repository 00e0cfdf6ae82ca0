"""Tokens' texts, and what scopes bring along."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.access import (
    Scope,
    Token,
    TokenKind,
    digest_of,
    implied,
    is_secret_of,
    new_secret,
    read_token,
    token_text,
)
from thunderline.core.clock import from_ms
from thunderline.core.ids import TokenId, new_uuid7


def a_token(secret: bytes) -> Token:
    return Token(
        id=TokenId(new_uuid7()),
        kind=TokenKind.TOKEN,
        name="ci",
        digest=digest_of(secret),
        scopes=(Scope.READ,),
        created_at=from_ms(0),
        created_by="operator:local",
    )


def test_a_token_reads_back_and_stands_in_a_header_as_it_is() -> None:
    token_id, secret = TokenId(new_uuid7()), new_secret()
    text = token_text(token_id, secret)
    assert re.fullmatch(r"tl_[0-9a-f]{32}_[A-Za-z0-9_-]{43}", text)
    assert read_token(text) == (token_id, secret)
    assert len({new_secret() for _ in range(100)}) == 100


def test_only_its_secret_is_a_tokens_and_no_repr_tells_it() -> None:
    secret = new_secret()
    token = a_token(secret)
    assert is_secret_of(secret, token)
    assert not any(is_secret_of(bytes(other), token) for other in (new_secret(), b"", secret[:-1], secret + b"\0"))
    assert token.digest.hex() not in repr(token)
    assert str(token.digest) not in repr(token)


@given(st.text() | st.from_regex(r"tl_[0-9a-fA-F-]{30,36}_[A-Za-z0-9_=+/-]{40,46}"))
def test_whatever_else_is_sent_is_no_token_or_one_of_the_right_length(text: str) -> None:
    read = read_token(text)
    assert read is None or (len(read[0]), len(read[1])) == (36, 32)


@pytest.mark.parametrize(
    ("scopes", "brought"),
    [
        ((Scope.READ,), {"read"}),
        ((Scope.NODE,), {"node"}),
        ((Scope.READ, Scope.NODE), {"read", "node"}),
        ((Scope.OPERATOR,), {"read", "node", "operator"}),
        ((Scope.ADMIN,), {"read", "node", "operator", "admin"}),
    ],
)
def test_scopes_bring_along_what_is_less(scopes: tuple[Scope, ...], brought: set[str]) -> None:
    assert implied(scopes) == brought
