"""Certificates for tests: real ones, of an authority that only the tests trust."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """An authority. What it issues is good for `localhost` and 127.0.0.1."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def issue(self, folder: Path, *, name: str = "server") -> tuple[Path, Path]:
        """A new certificate and its key, in files of that name."""
        issued = self._ca.issue_cert("localhost", "127.0.0.1")
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(issued.private_key_pem.bytes())
        return cert, key

    def write(self, folder: Path) -> Path:
        """The authority's own certificate, as clients take it."""
        file = folder / "authority.pem"
        self._ca.cert_pem.write_to_path(str(file))
        return file

    def trusting(self) -> ssl.SSLContext:
        """How a client connects that trusts it."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context
