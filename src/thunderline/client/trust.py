"""Whom a client trusts, and who it says that it is: the TLS of its connections, and the token that it shows.

A token goes over TLS, or to this very machine, and nowhere else.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from thunderline.client.credential import check_token, read_token_file
from thunderline.core import settings
from thunderline.core.errors import InvalidInput

_TLS_SCHEMES: Final = frozenset({"https", "wss"})


class Trust:
    """What one client shows a server, and asks of it. Its token is in no `repr`."""

    __slots__ = ("tls", "token")

    def __init__(self, *, tls: ssl.SSLContext | None, token: str | None) -> None:
        self.tls = tls
        """None where the URL asks for no TLS."""
        self.token = token

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request that shows the token, if there is one."""
        return bearer(self.token)


def trust(
    url: str,
    *,
    token: str | None = None,
    token_file: str | Path | None = None,
    ca: str | Path | None = None,
) -> Trust:
    """What a client of the server at `url` shows and asks for. What is None is as the environment says.

    Raises: InvalidInput naming the argument, or the variable; `url` where a token would go over the network in the
    clear.
    """
    return Trust(tls=tls_context(url, ca=ca), token=find_token(url, token=token, token_file=token_file))


def find_token(url: str, *, token: str | None = None, token_file: str | Path | None = None) -> str | None:
    """The token to show the server at `url`; None: none. Raises: InvalidInput as `trust` does."""
    if token is not None and token_file is not None:
        raise InvalidInput("token_file", "is given beside a token; give one of the two")
    if token is not None:
        token = check_token(token, field="token")
    elif token_file is not None:
        token = read_token_file(Path(token_file), field="token_file")
    elif (named := settings.token_file()) is not None:
        token = read_token_file(named, field="THUNDERLINE_TOKEN_FILE")
    if token is not None:
        check_way(url)
    return token


def check_way(url: str) -> None:
    """Return if a token may go to `url`. Raises: InvalidInput naming `url`."""
    scheme, host = _parts(url)
    if scheme not in _TLS_SCHEMES and not _is_loopback(host):
        raise InvalidInput("url", f"a token would go to {host} in the clear; use https://, or a tunnel to its loopback")


def tls_context(url: str, *, ca: str | Path | None = None) -> ssl.SSLContext | None:
    """How connections to `url` are secured; None: not at all, as it says itself.

    With `ca`, or THUNDERLINE_CA, the authorities in that PEM file are trusted, and none besides; else the system's.

    Raises: InvalidInput naming `ca` or the variable.
    """
    if _parts(url)[0] not in _TLS_SCHEMES:
        return None
    field, file = ("ca", Path(ca)) if ca is not None else ("THUNDERLINE_CA", settings.ca_file())
    try:
        context = ssl.create_default_context(cafile=None if file is None else str(file))
    except ssl.SSLError as error:
        raise InvalidInput(field, f"{file} holds no certificate in PEM form") from error
    except OSError as error:
        raise InvalidInput(field, f"{file} cannot be read: {error.strerror}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def bearer(token: str | None) -> dict[str, str]:
    """The headers of a request that shows `token`."""
    return {} if token is None else {"authorization": f"Bearer {token}"}


def untrusted(error: BaseException) -> str | None:
    """Why the other end's certificate was not trusted, if that is behind `error`."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message or "its certificate cannot be verified"
        seen = seen.__cause__ or seen.__context__
    return None


def _parts(url: str) -> tuple[str, str]:
    """Scheme and host; both empty of what is no URL, which whoever connects to it says in its own words."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return "", ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
