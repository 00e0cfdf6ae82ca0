"""TLS at the gate: the certificate, and connections that are let in before they have shown any manners.

A handshake costs the server more than the client. So a connection takes its place at the entrance before it begins one,
has so long to end it, and its protocol comes to life only then.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from thunderline.core.errors import RateLimited, SettingsError
from thunderline.core.logging import get_logger
from thunderline.core.x509 import expiry_of
from thunderline.gate.entrance import Entrance, Place
from thunderline.gate.protocol import BoundedHttpProtocol

log = get_logger(__name__)

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""From accepting a connection to the end of its handshake, which takes two or three turns of the network. Higher has
patience with worse networks, and lets those that do not mean to finish hold a file descriptor for longer."""

SHUTDOWN_TIMEOUT_S: Final = 2.0
"""How long a peer may take to answer the end of the encrypted stream before its connection is cut."""

NO_ROOM_PAUSE_S: Final = 1.0
"""Between two tries to accept when the process, or the system, has no file descriptor left."""

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Encrypted(Exception):
    """A key that needs a passphrase."""


class Certificate:
    """The certificate of `tls_cert` and its key. `context` is what new connections are encrypted with."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """`key` None: it is in `cert`. Raises: SettingsError naming the file's setting."""
        self._cert = cert
        self._key = key
        self.expires_at: datetime | None = None
        """When the first of its chain expires, None where that cannot be read."""
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again, for connections to come; if that cannot be done, all stays as it is, and is logged."""
        try:
            self.context = self._load()
        except SettingsError as error:
            log.error("certificate not read again; the old one stays in use", reason=str(error))
        else:
            log.info("certificate read again", file=str(self._cert))

    def _load(self) -> ssl.SSLContext:
        key_setting, key = ("tls_cert", self._cert) if self._key is None else ("tls_key", self._key)
        pem = _read(self._cert, "tls_cert")
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise _unusable("tls_cert", self._cert, "holds no certificate in PEM")
        if b"PRIVATE KEY-----" not in _read(key, key_setting):
            hint = "; name the file that does as tls_key" if self._key is None else ""
            raise _unusable(key_setting, key, f"holds no private key in PEM{hint}")
        _warn_of_readers(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Each costs the server a handshake, and a client as many bytes as it likes to ask for one.
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_passphrase)
        except _Encrypted as error:
            raise _unusable(key_setting, key, "is encrypted; give a key without a passphrase") from error
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise _unusable(key_setting, key, f"is not the key of the certificate in {self._cert}") from error
            raise _unusable(
                "tls_cert", self._cert, f"cannot be used with its key ({error.reason or error}); both should be PEM"
            ) from error
        except OSError as error:
            raise _unusable("tls_cert", self._cert, f"cannot be read: {error.strerror}") from error
        self.expires_at = expiry_of(pem)
        return context


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unusable(setting, file, f"cannot be read: {error.strerror}") from error


def _warn_of_readers(key: Path) -> None:
    if key.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning("every user of this machine can read the server's key", file=str(key))


def _no_passphrase() -> NoReturn:
    raise _Encrypted


def _unusable(setting: str, file: Path, problem: str) -> SettingsError:
    return SettingsError(setting, f"{file} {problem}", source=setting)


class TlsListener:
    """Accepts connections on a socket from `start` to `end`, and does their handshakes, each in a task of its own."""

    def __init__(
        self,
        listener: socket.socket,
        certificate: Certificate,
        entrance: Entrance,
        *,
        protocol: Callable[[Place], BoundedHttpProtocol],
    ) -> None:
        """`protocol` makes that of one connection. The listener stays the caller's."""
        self._listener = listener
        self._certificate = certificate
        self._entrance = entrance
        self._protocol = protocol
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Accept connections."""
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(), name="accept")

    async def end(self) -> None:
        """Accept nothing more, and give up the handshakes that are under way. Idempotent."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None
        for handshake in self._handshakes:
            handshake.cancel()
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    log.error("no room for another connection", reason=error.strerror)
                    await asyncio.sleep(NO_ROOM_PAUSE_S)
                continue  # else the peer has gone before it was its turn
            try:
                place = self._entrance.enter(str(peer[0]))
            except RateLimited:
                connection.close()
                continue
            handshake = asyncio.create_task(self._shake_hands(connection, place), name="TLS handshake")
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket, place: Place) -> None:
        protocol = self._protocol(place)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._certificate.context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except (OSError, TimeoutError) as error:
            log.debug("no TLS handshake", address=place.address, reason=str(error))
        except Exception:
            log.exception("TLS handshake failed")
        finally:
            # Who hung up in the middle of it is no error to the loop, but the protocol was never told of a connection.
            if not protocol.was_connected:
                place.leave()
                connection.close()
