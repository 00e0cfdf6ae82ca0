"""Where a database is: its URL, and how that may be shown."""

from __future__ import annotations

import re
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from thunderline.core.errors import SettingsError

FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full"

OPTIONS: Final = frozenset(
    {
        *("host", "port", "user", "password", "dbname", "database", "passfile", "service", "servicefile"),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib", "target_session_attrs"),
        *("application_name", "options"),
    }
)
"""What may stand behind the `?`; the driver would hand anything else to the server as a setting."""

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@]*)(:[0-9]{1,5})?")
_NAME: Final = re.compile(r"[a-z_]+")


class Address(msgspec.Struct, frozen=True):
    """`url` as the driver takes it; `shown` for people, without anything secret."""

    url: str
    shown: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address that `url` is. Raises: SettingsError naming `store`; its words show no part of the URL."""
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, keep_blank_values=True)
        except ValueError as error:
            raise SettingsError("store", f"should be {FORM}", source="store") from error
        hosts = parts.netloc.rpartition("@")[2]
        if parts.fragment or not all(_HOST.fullmatch(each) for each in hosts.split(",")) or "@" in parts.path:
            # A part of the password, most likely, from where on the rest was taken for something else.
            what = "in a user or a password, / ? # @ : have to be written as %2F %3F %23 %40 %3A"
            raise SettingsError("store", f"{what}; should be {FORM}", source="store")
        if (unknown := next((name for name, _ in query if name not in OPTIONS), None)) is not None:
            shown = f"{unknown!r} is no option; " if _NAME.fullmatch(unknown) and "@" not in parts.query else ""
            raise SettingsError("store", f"{shown}should be {FORM}", source="store")
        given = dict(query)
        host = hosts or given.get("host", "")
        database = unquote(parts.path.removeprefix("/")) or given.get("dbname") or given.get("database") or ""
        shown = f"postgresql://{unquote(host)}/{database}"
        url = url if "application_name" in given else f"{url}{'&' if query else '?'}application_name=thunderline"
        return cls(url, shown)
