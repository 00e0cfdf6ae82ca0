"""Every error that holding a link raises, beside those of `client/errors.py`.

LinkError                   (a ClientError)
├── LinkEnded               the registry ended the link for good; `code` says why
│   ├── LinkSuperseded          another process of this name took its place
│   ├── LinkDeregistered        somebody removed the node
│   └── LinkUnauthorized        a token is needed, or this one is not good, or no longer
├── LinkTimeout             no link within `open_timeout_s`
├── LinkLeft                this end left before the beat was acknowledged
├── BeatRefused             the registry does not take this beat; `code` says why
├── BeatDropped             the beat fell out of the backlog before it could be delivered
└── ConnectionLost          between a link and its transport: the connection is gone
"""

from __future__ import annotations

from typing import Final

from thunderline.client.errors import ClientError


class LinkError(ClientError):
    """The root of what holding a link raises."""

    code = "link_error"


class LinkEnded(LinkError):
    """The registry ended the link for good, or refused it; connecting again would not help."""

    code = "link_ended"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """The registry's word for the cause, as in `core/errors.py`."""


class LinkSuperseded(LinkEnded):
    """Another process of the same name announced itself later: this one is no longer the node."""


class LinkDeregistered(LinkEnded):
    """Somebody removed the node from the registry while it was linked."""


class LinkUnauthorized(LinkEnded):
    """The registry has to know who this is: it was shown no token, or one that is not good, or no longer.

    `code` tells which: `unauthenticated`, `token_unknown`, `token_expired`, `token_revoked`.
    """


class LinkTimeout(LinkError):
    """No link within the time that was given; `__cause__` is what stood in the way last, if anything did."""

    code = "link_timeout"
    retryable = True

    def __init__(self, url: str, *, timeout_s: float) -> None:
        super().__init__(f"no link to {url} within {timeout_s:g} s")
        self.url = url
        self.timeout_s = timeout_s


class LinkLeft(LinkError):
    """The link was left, or given up, before this was acknowledged; it may or may not be kept."""

    code = "link_left"

    def __init__(self) -> None:
        super().__init__("the link was left before the acknowledgement came; open a new one to send more")


class BeatRefused(LinkError):
    """The registry does not take this beat, now or later."""

    code = "beat_refused"

    def __init__(self, seq: int, *, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.seq = seq


class BeatDropped(LinkError):
    """The beat waited for longer, or behind more others, than the backlog keeps; the registry will not see it."""

    code = "beat_dropped"

    def __init__(self, seq: int) -> None:
        super().__init__(f"beat {seq} fell out of the backlog before the registry could take it")
        self.seq = seq


class ConnectionLost(LinkError):
    """The connection is gone. `close_code` None: it broke, or never closed properly."""

    code = "connection_lost"
    retryable = True

    def __init__(self, *, close_code: int | None, reason: str) -> None:
        said = f"closed with {close_code}" if close_code is not None else "broken"
        super().__init__(f"the connection is {said}{f' ({reason})' if reason else ''}")
        self.close_code = close_code
        self.reason = reason


_ENDINGS: Final[dict[str, type[LinkEnded]]] = {
    "superseded": LinkSuperseded,
    "deregistered": LinkDeregistered,
    **dict.fromkeys(("unauthenticated", "token_unknown", "token_expired", "token_revoked"), LinkUnauthorized),
}


def link_ended(code: str, message: str) -> LinkEnded:
    """The error for a link that the registry ended for good, by the code that it gave."""
    return _ENDINGS.get(code, LinkEnded)(code, message)
