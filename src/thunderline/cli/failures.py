"""What ends a command with exit code 1.

CommandFailed               (a ThunderlineError)
├── RemoteError             the server could not be asked, or said no
│   ├── NoServer                nothing listens at the URL
│   ├── NoAnswer                something listens, but the answer did not come
│   ├── NotThunderline          the answer is not one of our API
│   ├── ServerRefused           the server answered with a problem (RFC 9457)
│   └── NoSuchNode              it knows no node of this name
├── DatabaseFailed          the database, or the server that holds it, said no
└── OutputLost              standard output takes no more
"""

from __future__ import annotations

from collections.abc import Sequence

from thunderline.client.errors import ServerRefused as Refusal
from thunderline.core.errors import ThunderlineError


class CommandFailed(ThunderlineError):
    """The root; the text is one sentence that says what happened and what to do."""

    code = "command_failed"


class RemoteError(CommandFailed):
    """The server could not be asked, or said no."""


class NoServer(RemoteError):
    """Nothing answers at the URL. `reason` None: the connection was refused, which needs no further words."""

    def __init__(self, url: str, *, reason: str | None = None) -> None:
        why = "" if reason is None else f" ({reason})"
        super().__init__(f"no server answers at {url}{why}; start one with 'thunderline serve' or pass --server")
        self.url = url
        self.reason = reason


class NoAnswer(RemoteError):
    """The connection stood, but the answer did not come; a change may or may not have been made."""

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(f"{url} did not answer ({reason}); look at the server's log, or try again")
        self.url = url
        self.reason = reason


class NotThunderline(RemoteError):
    """What listens there does not speak our API, or another version of it."""

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(f"{url} does not answer as a Thunderline server of this version ({reason}); check --server")
        self.url = url
        self.reason = reason


class ServerRefused(RemoteError):
    """The server said no, and why; `option` is what the person gave that the server calls `refusal.field`."""

    def __init__(self, refusal: Refusal, *, option: str | None = None) -> None:
        when = "" if refusal.retry_after_s is None else f"retry in {refusal.retry_after_s:g} s"
        # Some details already end in these words.
        text = refusal.detail if when in refusal.detail else f"{refusal.detail}; {when}"
        if option is not None and refusal.field is not None:
            text = text.replace(refusal.field, option, 1)
        super().__init__(text)
        self.status = refusal.status


class NoSuchNode(RemoteError):
    """No node has this name or id; `close` are the names nearest to it, the nearest first."""

    def __init__(self, ref: str, *, close: Sequence[str]) -> None:
        hint = f"did you mean {', '.join(close)}?" if close else "'thunderline nodes' lists those that there are"
        super().__init__(f"no node is called {ref!r}; {hint}")
        self.ref = ref
        self.close = close


class DatabaseFailed(CommandFailed):
    """The database, or the server that holds it, said no; the text is theirs."""


class OutputLost(CommandFailed):
    """Standard output takes no more, e.g. because the disk is full."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the output could not be written whole: {reason}")
        self.reason = reason
