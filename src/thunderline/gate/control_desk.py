"""What the control socket is asked of the registry, as whoever has this machine's word for being its operator.

The command line uses the same where no server holds the database: it opens the registry itself, and asks that.
"""

from __future__ import annotations

from typing import assert_never

from thunderline.core.ids import AuditId, TokenId
from thunderline.gate.access_bodies import AuditBody, IssuedBody, TokenBody, TokensBody, shown_token
from thunderline.gate.control_messages import (
    PAGE_MAX,
    AuditAnswer,
    AuditRequest,
    DeskAnswer,
    DeskRequest,
    IssuedAnswer,
    ReissueRequest,
    TokenAnswer,
    TokenCreateRequest,
    TokenListRequest,
    TokenRevokeRequest,
    TokensAnswer,
)
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.link.registry import Registry


class ControlDesk:
    """Answers what is about tokens and the audit log."""

    def __init__(self, registry: Registry) -> None:
        self._tokens = registry.tokens

    async def answer(self, request: DeskRequest) -> DeskAnswer:
        """Do what is asked. Raises: ThunderlineError."""
        actor, tokens = LOCAL_OPERATOR, self._tokens
        match request:
            case TokenCreateRequest():
                issued = await tokens.create_token(request.token, actor=actor)
                return IssuedAnswer(body=IssuedBody(token=shown_token(issued.token), text=issued.text))
            case ReissueRequest():
                issued = await tokens.reissue(request.node, request.wanted, actor=actor)
                return IssuedAnswer(body=IssuedBody(token=shown_token(issued.token), text=issued.text))
            case TokenRevokeRequest():
                return TokenAnswer(body=TokenBody(token=shown_token(await tokens.revoke(request.ref, actor=actor))))
            case TokenListRequest():
                after = None if request.after is None else TokenId(request.after)
                limit = min(request.limit, PAGE_MAX)
                page, more = tokens.list_tokens(actor=actor, revoked=request.revoked, after=after, limit=limit)
                body = TokensBody(
                    tokens=[shown_token(each) for each in page], next_cursor=page[-1].id if more else None
                )
                return TokensAnswer(body=body)
            case AuditRequest():
                before = None if request.before is None else AuditId(request.before)
                limit = min(request.limit, PAGE_MAX)
                entries = await tokens.read_audit(actor=actor, before=before, limit=limit)
                cursor = entries[-1].id if len(entries) == limit else None
                return AuditAnswer(body=AuditBody(entries=entries, next_cursor=cursor))
            case _:
                assert_never(request)
