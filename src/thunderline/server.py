"""The composition root: from settings to a running server, as one async context manager."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import uvicorn

from thunderline.block.engines import store_from_url
from thunderline.block.store import Store
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import SettingsError
from thunderline.core.host import HostMeter
from thunderline.core.ids import new_uuid7
from thunderline.core.logging import get_logger
from thunderline.core.settings import Settings
from thunderline.gate.app import build_app, host_rules
from thunderline.gate.control import ControlSocket
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.link_gate import LinkGate
from thunderline.gate.stream_protocol import StreamHttpProtocol
from thunderline.gate.upgrades import Upgrades
from thunderline.link.controller import Controller
from thunderline.link.registry import Registry

log = get_logger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread keeps the interpreter. The store's thread needs it back a few times per commit, and the event loop
is busy exactly when commits matter: each time it would wait for the default of 5 ms, longer than the commit itself."""

BACKLOG: Final = 4096
"""Connections that wait to be accepted: a fleet that comes back at once."""

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

KEEP_ALIVE_S: Final = 75
"""Longer than the interval of most nodes, so that a node's beats find its connection still open."""


class Server:
    """A running server: `url` is where it listens, `gate` the task that answers; it ends early only by a failure."""

    def __init__(self, registry: Registry, url: str, gate: asyncio.Task[None]) -> None:
        self.registry = registry
        self.url = url
        self.gate = gate


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handling, which ends the process by the signal instead of with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def open_server(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Server]:
    """A server that answers by the time the block starts, and has committed everything it took when it ends.

    At the end it stops listening, lets open requests finish (`shutdown_timeout_s`), then commits what is queued and
    closes the store. Raises: SettingsError for an address that it must not or cannot listen on; what `Registry.open`
    raises.
    """
    check_exposure(settings)
    with contextlib.closing(_listen(settings)) as listener:
        url = _url(listener)
        clock = clock or SystemClock()
        store = store_from_url(settings.store, clock=clock, ids=new_uuid7, writer_id="registry")
        async with Registry.open(store, settings, clock=clock) as registry, _controlled(store):
            controller = Controller(registry, HostMeter(registry.clock), address=url)
            await controller.start()
            registry.tasks.start(controller.run(), name="controller")
            links = LinkGate(registry)
            links.start()
            server = _Uvicorn(_uvicorn_config(registry, settings, links))
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="gate")
            try:
                await _started(server, serving)
                yield Server(registry, url, serving)
            finally:
                # Streams of events end only with the registry, which in turn waits for open requests to finish.
                registry.log.end_watches()
                server.should_exit = True
                await asyncio.wait([serving])
                await registry.tasks.end("controller")
                await controller.stop()


@asynccontextmanager
async def _controlled(store: Store) -> AsyncIterator[None]:
    """A block in which the command line of this machine reaches the server, if the store has any use for that."""
    upkeep = store.upkeep()
    if upkeep is None or upkeep.control_path is None:
        yield
        return
    control = ControlSocket(upkeep, upkeep.control_path)
    try:
        await control.start()
        yield
    finally:
        await control.close()


async def serve_until_signalled(settings: Settings, *, announce: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is told the URL and where the data lies once requests are answered.

    Raises: what `open_server` raises; RuntimeError when the gate failed.
    """
    previous = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        # A second one ends the process as it would any other: nothing that was acknowledged is lost by that.
        for number in _STOPPING:
            loop.remove_signal_handler(number)

    for number in _STOPPING:
        loop.add_signal_handler(number, on_signal)
    try:
        async with open_server(settings) as server:
            # What was loaded lives as long as the process; the collector need not walk it again and again.
            gc.collect()
            gc.freeze()
            announce(server.url, server.registry.store_location)
            signalled = asyncio.create_task(stop.wait(), name="signal")
            await asyncio.wait([signalled, server.gate], return_when=asyncio.FIRST_COMPLETED)
            if not signalled.done():
                signalled.cancel()
                raise RuntimeError("the gate ended without being told to") from server.gate.exception()
            log.info("stopping")
    finally:
        sys.setswitchinterval(previous)


def check_exposure(settings: Settings) -> None:
    """Return if the address may be served as things are. Raises: SettingsError naming `host`."""
    if settings.host == "localhost":
        return
    try:
        address = ipaddress.ip_address(settings.host)
    except ValueError as error:
        raise SettingsError("host", "should be localhost or an IP address", source="host") from error
    if not address.is_loopback:
        raise SettingsError(
            "host",
            f"{settings.host} can be reached from other machines, and this version has no authentication yet; "
            "listen on 127.0.0.1 and reach it through a tunnel",
            source="host",
        )


def _listen(settings: Settings) -> socket.socket:
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it reads TCP; without it each answer waits 40 ms
    # for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, settings.port))
        # At once, and not when the store is loaded: until a socket listens, another one may still take its port.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            "port", f"cannot listen on {host}:{settings.port}: {error.strerror}; choose another --port", source="port"
        ) from error
    listener.set_inheritable(True)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _uvicorn_config(registry: Registry, settings: Settings, links: LinkGate) -> uvicorn.Config:
    encoded = EncodedEvents(registry.log)
    return uvicorn.Config(
        build_app(registry, encoded),
        http=StreamHttpProtocol,
        loop="none",
        lifespan="on",
        ws=Upgrades(host_rules(settings), links, registry, encoded),  # type: ignore[arg-type]  # our own HTTP protocol knows what it is
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout_s),
    )


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    """Return once the server answers. Raises: what ended it instead."""
    while not server.started:
        if serving.done():
            await serving
            raise RuntimeError("the gate ended before it began to serve")
        await asyncio.sleep(0.01)
