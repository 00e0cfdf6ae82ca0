"""The composition root: from settings to a running server, as one async context manager."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn

from thunderline.block.engines import store_from_url
from thunderline.block.store import Store
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import SettingsError
from thunderline.core.host import HostMeter, host_name
from thunderline.core.ids import new_uuid7
from thunderline.core.logging import get_logger
from thunderline.core.settings import Settings, data_folder
from thunderline.core.tracing import Tracer
from thunderline.gate.app import build_app, host_rules
from thunderline.gate.control import ControlSocket
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.entrance import Entrance, Place
from thunderline.gate.first_token import FILE_NAME, give_first_token
from thunderline.gate.link_gate import LinkGate
from thunderline.gate.logins import Logins
from thunderline.gate.monitoring import Monitoring
from thunderline.gate.proxies import Proxies, address_of
from thunderline.gate.stream_protocol import StreamHttpProtocol
from thunderline.gate.tls import Certificate, TlsListener
from thunderline.gate.upgrades import Upgrades
from thunderline.link.controller import Controller
from thunderline.link.registry import Registry
from thunderline.prism.alerts.alerting import Alerting
from thunderline.prism.alerts.rules import load_config
from thunderline.prism.alerts.sinks import open_sinks
from thunderline.prism.dashboard import Bundle
from thunderline.prism.discovery import Discovery
from thunderline.prism.metrics import Metrics

log = get_logger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread keeps the interpreter. The store's thread needs it back a few times per commit, and the event loop
is busy exactly when commits matter: each time it would wait for the default of 5 ms, longer than the commit itself."""

COLLECT_AFTER: Final = (10_000, 20, 100)
"""When the collector walks what is young, less young, and all there is: the defaults walk all that ten thousand links
hold, half a second, several times while they come. What is in no cycle, as nearly all is, goes without it."""

BACKLOG: Final = 4096
"""Connections that wait to be accepted: a fleet that comes back at once."""

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

KEEP_ALIVE_S: Final = 75
"""Longer than the interval of most nodes, so that a node's beats find its connection still open."""


FILES_BESIDE_LINKS: Final = 15_536
"""Files that are open beside links: those of the store, and connections that ask, watch or shake hands."""


class Server:
    """A running server: `url` is where it listens, `gate` the task that answers; it ends early only by a failure.

    `certificate` is what it shows, None without TLS; `admin_token_file` is where a first start wrote its token.
    """

    def __init__(
        self,
        registry: Registry,
        url: str,
        gate: asyncio.Task[None],
        *,
        certificate: Certificate | None,
        admin_token_file: Path | None,
    ) -> None:
        self.registry = registry
        self.url = url
        self.gate = gate
        self.certificate = certificate
        self.admin_token_file = admin_token_file


class _Uvicorn(uvicorn.Server):
    """uvicorn with our own way of letting connections in, and without its signal handling, which ends the process by
    the signal instead of with exit code 0."""

    def __init__(self, config: uvicorn.Config, entrance: Entrance, certificate: Certificate | None) -> None:
        super().__init__(config)
        self._entrance = entrance
        self._certificate = certificate
        self._tls: TlsListener | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer on the one socket that is given."""
        assert sockets is not None
        [listener] = sockets
        loop = asyncio.get_running_loop()

        def protocol(place: Place | None = None) -> StreamHttpProtocol:
            return StreamHttpProtocol(self.config, self.server_state, {}, loop, entrance=self._entrance, place=place)

        self.servers = []
        if self._certificate is None:
            self.servers.append(await loop.create_server(protocol, sock=listener, backlog=BACKLOG))
        else:
            self._tls = TlsListener(listener, self._certificate, self._entrance, protocol=protocol)
            self._tls.start()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is not None:
            await self._tls.end()
        await super().shutdown(sockets)


@asynccontextmanager
async def open_server(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Server]:
    """A server that answers by the time the block starts, and has committed everything it took when it ends.

    At the end it stops listening, lets open requests finish (`shutdown_timeout_s`), then commits what is queued and
    closes the store. Raises: SettingsError for an address that it must not or cannot listen on; what `Registry.open`
    raises.
    """
    check_exposure(settings)
    certificate = _certificate(settings)
    alert_config = load_config(settings.alerts_rules)
    with contextlib.closing(_listen(settings)) as listener:
        url = _url(listener, "http" if certificate is None else "https")
        clock = clock or SystemClock()
        store = store_from_url(settings.store, clock=clock, ids=new_uuid7, writer_id="registry")
        async with (
            _traced(settings) as tracer,
            Registry.open(store, settings, clock=clock, tracer=tracer) as registry,
            _controlled(store, registry),
        ):
            token_file = await give_first_token(registry, _token_file(settings, store)) if settings.auth else None
            controller = Controller(registry, HostMeter(registry.clock), address=url)
            await controller.start()
            registry.tasks.start(controller.run(), name="controller")
            alerting = Alerting(
                registry,
                alert_config,
                sinks=open_sinks(alert_config, clock=clock, source=registry.owner),
                certificate_expires_at=None if certificate is None else lambda: certificate.expires_at,
            )
            await alerting.start()
            links = LinkGate(registry)
            links.start()
            entrance = Entrance(
                Proxies(settings.behind_proxy),
                connections_max=settings.connections_per_address,
                refusals=registry.access.refusals,
            )
            metrics = Metrics(
                registry,
                connections=entrance,
                alerts=alerting,
                certificate_expires_at=None if certificate is None else lambda: certificate.expires_at,
            )
            monitoring = Monitoring(metrics, Discovery(registry))
            server = _Uvicorn(_uvicorn_config(registry, settings, links, monitoring), entrance, certificate)
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="gate")
            try:
                await _started(server, serving)
                yield Server(registry, url, serving, certificate=certificate, admin_token_file=token_file)
            finally:
                # Streams of events end only with the registry, which in turn waits for open requests to finish.
                registry.log.end_watches()
                server.should_exit = True
                await asyncio.wait([serving])
                await alerting.close()
                await registry.tasks.end("controller")
                await controller.stop()


@asynccontextmanager
async def _traced(settings: Settings) -> AsyncIterator[Tracer | None]:
    """A block with somebody who takes traces, where they are wanted; at its end the last of them are sent."""
    if not settings.traces:
        yield None
        return
    try:
        from thunderline.prism.tracing import open_tracing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            "traces", "need libraries: pip install 'thunderline[otel]', or leave traces off", source="traces"
        ) from error
    async with open_tracing(instance=settings.node_name or f"registry@{host_name()}") as tracer:
        yield tracer


@asynccontextmanager
async def _controlled(store: Store, registry: Registry) -> AsyncIterator[None]:
    """A block in which the command line of this machine reaches the server, if the store has any use for that."""
    upkeep = store.upkeep()
    if upkeep is None or upkeep.control_path is None:
        yield
        return
    control = ControlSocket(upkeep, upkeep.control_path, registry)
    try:
        await control.start()
        yield
    finally:
        await control.close()


async def serve_until_signalled(settings: Settings, *, announce: Callable[[Server], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is told of the server once requests are answered.

    With TLS, SIGHUP has it read its certificate again. Raises: what `open_server` raises; RuntimeError when the gate
    failed.
    """
    raise_open_files(settings.links_max + FILES_BESIDE_LINKS)
    previous, collected_after = sys.getswitchinterval(), gc.get_threshold()
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
            if server.certificate is not None:
                loop.add_signal_handler(signal.SIGHUP, server.certificate.reload)
            # What was loaded lives as long as the process: the collector need not walk it again and again, nor once.
            gc.collect(1)
            gc.freeze()
            gc.set_threshold(*COLLECT_AFTER)
            announce(server)
            signalled = asyncio.create_task(stop.wait(), name="signal")
            await asyncio.wait([signalled, server.gate], return_when=asyncio.FIRST_COMPLETED)
            if not signalled.done():
                signalled.cancel()
                raise RuntimeError("the gate ended without being told to") from server.gate.exception()
            log.info("stopping")
    finally:
        sys.setswitchinterval(previous)
        gc.set_threshold(*collected_after)


def raise_open_files(wanted: int) -> None:
    """Let the process have so many open files, or as many as it may: the usual limit is 1,024."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and now < wanted:
        now = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))
    log.info("open files", limit=now, links_max_may_need=wanted)


def check_exposure(settings: Settings) -> None:
    """Return if the address may be served as things are: what other machines can reach needs tokens and encryption.

    Raises: SettingsError.
    """
    if settings.tls_key is not None and settings.tls_cert is None:
        raise SettingsError("tls_key", "is of no use without the certificate; name that as tls_cert", source="tls_key")
    is_behind_proxy = bool(Proxies(settings.behind_proxy))
    if is_behind_proxy and not settings.auth:
        raise SettingsError(
            "behind_proxy",
            "lets everybody do everything who reaches the proxy; switch on auth (--auth), too",
            source="behind_proxy",
        )
    if settings.host == "localhost":
        return
    address = address_of(settings.host) if settings.host.count(":") != 1 else None
    if address is None or settings.host.startswith("["):
        raise SettingsError("host", "should be localhost or an IP address", source="host")
    if address.is_loopback:
        return
    missing = [
        what
        for what, is_there in (
            ("auth (--auth)", settings.auth),
            (
                "tls_cert (--tls-cert FILE), or behind_proxy (--behind-proxy NETWORK) where a proxy speaks TLS for it",
                settings.tls_cert is not None or is_behind_proxy,
            ),
        )
        if not is_there
    ]
    if missing:
        raise SettingsError(
            "host",
            f"{settings.host} can be reached from other machines; that needs {', and '.join(missing)}. "
            "Or listen on 127.0.0.1. See docs/security.md",
            source="host",
        )
    if not settings.allowed_hosts:
        log.warning(
            "no allowed_hosts: requests are refused that name this server in another way than by its address",
            host=settings.host,
        )


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None:
        return None
    return Certificate(Path(settings.tls_cert), None if settings.tls_key is None else Path(settings.tls_key))


def _token_file(settings: Settings, store: Store) -> Path:
    if settings.admin_token_file is not None:
        return Path(settings.admin_token_file)
    upkeep = store.upkeep()
    control_path = None if upkeep is None else upkeep.control_path
    return (data_folder() if control_path is None else control_path.parent) / FILE_NAME


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


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _uvicorn_config(registry: Registry, settings: Settings, links: LinkGate, monitoring: Monitoring) -> uvicorn.Config:
    encoded = EncodedEvents(registry.log)
    doorkeeper = Doorkeeper(registry, Logins(registry))
    return uvicorn.Config(
        build_app(registry, encoded, doorkeeper, monitoring, dashboard=Bundle.installed()),
        http=StreamHttpProtocol,
        loop="none",
        interface="asgi3",
        lifespan="off",  # the gate begins and ends with the registry
        ws=Upgrades(host_rules(settings), doorkeeper, links, registry, encoded),  # type: ignore[arg-type]  # our own HTTP protocol knows what it is
        log_config=None,
        access_log=False,
        # Our own protocol knows whom to believe; uvicorn would believe everybody on this machine.
        proxy_headers=False,
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
