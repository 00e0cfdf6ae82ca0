"""Settings: one flat struct, each field documented; from a TOML file, `THUNDERLINE_*` and flags, the later wins.

The only module of the project that reads the environment.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, get_args, get_type_hints

import msgspec
import platformdirs
from msgspec import Meta

from thunderline.core.errors import SettingsError
from thunderline.core.ids import is_uuid
from thunderline.core.inputs import InputProblem, NodeName, explain

DetectorName = Literal["deadline", "phi"]
FilePath = Annotated[str, Meta(min_length=1)]
Threshold = Annotated[float, Meta(gt=0, le=1e12)]
LogFormat = Literal["auto", "text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

ENV_PREFIX: Final = "THUNDERLINE_"
_LISTS: Final = ("allowed_hosts", "behind_proxy")
"""Settings that stand in one variable of the environment separated by commas."""
# Read by other parts than the server, so no typing mistake of one of its settings.
_OTHER_ENV: Final = frozenset(
    {"THUNDERLINE_SERVER", "THUNDERLINE_CONFIG", "THUNDERLINE_NO_DASHBOARD", "THUNDERLINE_TOKEN_FILE", "THUNDERLINE_CA"}
)


def data_folder() -> Path:
    """The user's own data directory."""
    return Path(platformdirs.user_data_dir("thunderline", appauthor=False))


def default_store() -> str:
    """Where the embedded database lies when nothing is said: in the user's own data directory."""
    return f"sqlite:///{data_folder() / 'thunderline.db'}".replace("%", "%25")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one server runs. `docs/configuration.md` is generated from this class."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on. Beyond loopback only with `auth`, and with TLS (`tls_cert`) or behind a "
            "proxy that does it (`behind_proxy`); see `docs/security.md`.",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 lets the system choose one.")] = (
        4040
    )
    store: Annotated[
        str,
        Meta(
            description="Where records are kept: `sqlite:///PATH` (absolute when PATH starts with a further slash), "
            "`postgresql://HOST/DATABASE` (see `docs/postgresql.md`), or `memory://`, which keeps nothing over a "
            "restart. Default: a file in the user's data directory."
        ),
    ] = msgspec.field(default_factory=default_store)
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Names this server answers to in `Host`, besides `localhost` and loopback addresses. One that "
            "is missing here is refused, so that a page in a browser cannot reach the server through DNS."
        ),
    ] = ()
    auth: Annotated[
        bool,
        Meta(
            description="Whether callers must show a token. A first start with it writes a token of scope `admin` to "
            "a file that only the server's user can read, and says where. Without it whoever reaches the port may do "
            "everything, which is why only loopback is then served."
        ),
    ] = False
    alerts_rules: Annotated[
        FilePath | None,
        Meta(
            description="A TOML file with rules for alerts and where they are told; see `docs/monitoring.md`. What it "
            "does not say is as it is by default: a dozen rules, told in the log."
        ),
    ] = None
    traces: Annotated[
        bool,
        Meta(
            description="Whether OpenTelemetry traces of requests, handshakes and commits are sent, over OTLP/HTTP, to "
            "where the `OTEL_*` variables say. Needs the extra `otel`; see `docs/monitoring.md`. Heartbeats are in no "
            "trace; each commit takes some tenths of a millisecond more with it."
        ),
    ] = False
    admin_token_file: Annotated[
        FilePath | None,
        Meta(
            description="Where a first start with `auth` writes its token. Default: `thunderline-admin.token` beside "
            "the SQLite file, else in the user's data directory.",
        ),
    ] = None
    tls_cert: Annotated[
        FilePath | None,
        Meta(
            description="A PEM file with the server's certificate and those between it and its authority. With it the "
            "port speaks TLS (1.2 or later) only.",
        ),
    ] = None
    tls_key: Annotated[
        FilePath | None,
        Meta(description="A PEM file with the certificate's key, if it is not in the same file."),
    ] = None
    behind_proxy: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (`10.0.0.0/24`, or single addresses) of proxies that speak TLS for this server. "
            "Only they, and this machine itself, are then answered, and what they say of their clients in "
            "`X-Forwarded-For` and `X-Forwarded-Proto` is believed. Needs `auth`."
        ),
    ] = ()
    session_ttl_s: Annotated[
        float,
        Meta(
            ge=60,
            le=2_592_000,
            description="Seconds for which a browser that logged in stays so; a restart of the server ends all such "
            "sessions. Higher is asked for tokens less often, lower leaves less behind on a shared machine.",
        ),
    ] = 43_200.0
    audit_retention_s: Annotated[
        float,
        Meta(
            ge=3600,
            le=3_153_600_000,
            description="Seconds for which the audit log is kept. Higher needs more disk, about 300 bytes a change.",
        ),
    ] = 34_560_000.0
    requests_per_second_token: Annotated[
        float,
        Meta(
            ge=1,
            le=1_000_000,
            description="HTTP requests a second that callers with one token, or one browser's session, may send over "
            "a while, ten times as many at once; what is more is answered 429. Heartbeats of one node count for "
            "themselves.",
        ),
    ] = 2_000.0
    requests_per_second_address: Annotated[
        float,
        Meta(
            ge=1,
            le=1_000_000,
            description="The same for callers without a good token, by the address that they come from, for tries to "
            "log in, too. What loopback sends is not limited as long as no token is needed.",
        ),
    ] = 20.0
    heartbeats_per_second_node: Annotated[
        float,
        Meta(
            ge=0.1,
            le=100_000,
            description="Heartbeats a second that one node may send over HTTP over a while, ten times as many at once. "
            "What is more is answered 429, and still counts as a sign of life.",
        ),
    ] = 100.0
    connections_per_address: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections open at once from one address (of IPv6: one /64) at most; beyond it a new one is "
            "closed. Proxies of `behind_proxy` and loopback are not limited. Higher lets more nodes stand behind one "
            "address translation.",
        ),
    ] = 2_000
    node_name: Annotated[
        NodeName | None,
        Meta(description="The name under which the registry is a node itself. Default: `registry@<host name>`."),
    ] = None
    heartbeat_interval_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Seconds between two beats of a node that asks for no interval of its own. Lower finds a dead "
            "node sooner and costs more beats.",
        ),
    ] = 10.0
    deadline_intervals: Annotated[
        float,
        Meta(
            ge=1.5,
            le=100,
            description="A node is `disconnected` after this many intervals of silence. 3 forgives two lost beats; "
            "lower finds a dead node sooner and convicts more healthy ones.",
        ),
    ] = 3.0
    detector: Annotated[
        DetectorName,
        Meta(
            description="What decides that a node is silent: `deadline`, as many intervals for everybody, or `phi`, "
            "which learns how each node's heartbeats come. `deadline` is easily predicted, hence the default; "
            "`phi` finds a dead node on a good link sooner and has more patience with a bad one. See "
            "`docs/liveness.md`."
        ),
    ] = "deadline"
    phi_threshold: Annotated[
        float,
        Meta(
            ge=1,
            le=15,
            description="With `phi`, how unlikely the silence of a live node must be: less than 10 to the minus this. "
            "8 is what the users of accrual detectors settled on; lower convicts sooner, and falsely more often.",
        ),
    ] = 8.0
    phi_deviation_min: Annotated[
        float,
        Meta(
            ge=0.01,
            le=2,
            description="With `phi`, the least deviation from its rhythm that a node is believed to have, in "
            "intervals. Lower convicts nodes sooner that were very regular so far; higher forgives a first "
            "irregularity.",
        ),
    ] = 0.1
    phi_pause: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="With `phi`, silence that is forgiven in any case on top, in intervals: pauses of a node or of "
            "the network that no rhythm foretells. With 0.5 one lost heartbeat on a good link still convicts nobody; "
            "each 0.1 more finds a death a tenth of an interval later.",
        ),
    ] = 0.5
    drop_grace_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds in which a link that broke may be resumed before its node is `disconnected`. Higher "
            "rides out longer network faults, lower finds a dead process sooner.",
        ),
    ] = 5.0
    offline_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds that a node stays `disconnected` (or `connecting`, never seen) before `offline`.",
        ),
    ] = 60.0
    max_heartbeats_per_second: Annotated[
        float,
        Meta(
            ge=1,
            le=10_000_000,
            description="Heartbeats a second that all nodes together should send at most: beyond it nodes are told to "
            "beat less often. Half of what one process keeps durably on two cores, by `make bench`; higher keeps short "
            "intervals in a larger fleet, lower leaves more of the machine to others.",
        ),
    ] = 5_000.0
    max_interval_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="The longest interval in seconds that a node is told because the fleet is large; it wins over "
            "`max_heartbeats_per_second`, so that detection stays bounded. A node that asks for more has it.",
        ),
    ] = 60.0
    degraded_cpu_load: Annotated[
        Threshold | None,
        Meta(
            description="A node whose heartbeats report a `cpu_load` of so many percent or more for "
            "`degraded_after_s` is `degraded`, whatever it says of itself. By default none is: a busy worker is "
            "not a sick one.",
        ),
    ] = None
    degraded_mem_used_mb: Annotated[
        Threshold | None,
        Meta(description="The same for `mem_used_mb`, in MiB; of use where all nodes are alike."),
    ] = None
    degraded_latency_ms: Annotated[
        Threshold | None,
        Meta(description="The same for `latency_ms`; about ten times what is usual is a good choice."),
    ] = None
    degraded_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds for which a figure has to be too high before its node is `degraded`, and well again "
            "before it is not. Higher forgives longer peaks; 0 goes by each heartbeat alone.",
        ),
    ] = 30.0
    degraded_hysteresis: Annotated[
        float,
        Meta(
            ge=0,
            le=0.9,
            description="A figure that was too high is well again below its threshold by this part of it. Higher keeps "
            "a node that swings around a threshold `degraded` for longer.",
        ),
    ] = 0.1
    flapping_transitions: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="A node whose status changes more often than this within `flapping_window_s` is marked "
            "`flapping`, until it is down to half of that. 6 lets a node be restarted three times. Lower marks sooner.",
        ),
    ] = 6
    flapping_window_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds in which changes of status are counted for that. Higher finds slower flapping, and "
            "takes longer to believe that it is over.",
        ),
    ] = 600.0
    forget_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=315_360_000,
            description="Seconds after which a node that is offline, by detection or by its goodbye, is deregistered; "
            "0: never. One with an override never is. Higher keeps names of machines that were replaced in lists for "
            "longer; lower forgets those that are only being repaired.",
        ),
    ] = 259_200.0
    guard_fraction: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="How much of a failure domain (zone, region, or everything) may fall silent within "
            "`guard_window_s` before the expiry of the others is spread. 0.3 is more than a rack or a rolling restart "
            "takes and less than half; lower holds back sooner, 1 switches the guard off.",
        ),
    ] = 0.3
    guard_min_nodes: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000_000,
            description="So many nodes of a failure domain may fall silent in any case. Lower guards small clusters, "
            "too, and delays what is to be told of their dead.",
        ),
    ] = 5
    guard_window_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Seconds within which nodes that fall silent count as having done so together. It should be "
            "twice a deadline or more: the victims of one fault do not fall at one moment. Higher counts more faults "
            "as one.",
        ),
    ] = 60.0
    guard_max_delay_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds that the guard delays a node's expiry at most, from its first silence until it is "
            "given up. Higher rides out longer network faults; lower tells sooner of what really died.",
        ),
    ] = 120.0
    mutation_lane_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Mutations queued at most; beyond it callers get 503 with `Retry-After`. Higher rides out "
            "longer bursts, at about 2 KiB of memory each and with a longer wait.",
        ),
    ] = 10_000
    heartbeat_lane_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Heartbeats queued at most; beyond it they are refused with 503 (liveness still counts them).",
        ),
    ] = 50_000
    heartbeat_raw_retention_s: Annotated[
        float,
        Meta(
            ge=60,
            le=31_622_400,
            description="Seconds for which each heartbeat is kept as it came. Higher lets `/heartbeats`, and series "
            "finer than a minute, reach further back, at about 60 bytes a beat on disk.",
        ),
    ] = 86_400.0
    heartbeat_rollup_retention_s: Annotated[
        float,
        Meta(
            ge=60,
            le=315_360_000,
            description="Seconds for which each node's minutes are kept as rollups, and at most what is kept at all. "
            "Higher lets series reach further back, at about 160 kB a node and day.",
        ),
    ] = 2_592_000.0
    heartbeat_history_max_bytes: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=2**62,
            description="Bytes that heartbeat history takes in the store, about; what is more goes, the oldest minutes "
            "first, whatever their age. Higher needs as much more disk; lower shortens what is kept of a large fleet.",
        ),
    ] = 4_294_967_296
    log_retention_s: Annotated[
        float,
        Meta(
            ge=60,
            le=3_153_600_000,
            description="Seconds for which the log is kept whole: how far back the past can be asked for, and a "
            "watcher go on. Higher needs more disk; about an hour more than this is kept.",
        ),
    ] = 2_592_000.0
    log_events_min: Annotated[
        int,
        Meta(
            ge=0,
            le=2**62,
            description="Events that are kept whatever their age. Higher needs more disk, about 1 KiB for each; lower "
            "forgets the past of a cluster in which little happens.",
        ),
    ] = 1_000_000
    commit_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Operations in one commit at most. Higher gives more throughput under load, lower gives the "
            "event loop back to others sooner.",
        ),
    ] = 2_000
    links_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Links open at most; beyond it a newcomer is told to come back later. Each takes a file "
            "descriptor and a few KiB of memory.",
        ),
    ] = 50_000
    handshakes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Handshakes of links under way at most; beyond it a newcomer is told to come back later. Lower "
            "spreads a fleet that comes back at once over a longer time.",
        ),
    ] = 512
    link_frames_per_second: Annotated[
        float,
        Meta(
            ge=1,
            le=1_000_000,
            description="Frames that one link may send each second, twice as many at once; what is more is refused "
            "(`rate_limited`) and still counts as a sign of life.",
        ),
    ] = 5_000.0
    body_max_bytes: Annotated[
        int, Meta(ge=1024, le=8_388_608, description="Longest request body that is read, in bytes.")
    ] = 65_536
    batch_body_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=67_108_864,
            description="Longest body of a batch (`POST /api/nodes/batch`, `POST /api/heartbeats`) that is read, in "
            "bytes; never less than `body_max_bytes`. While one is read it is held in memory whole.",
        ),
    ] = 8_388_608
    idempotency_ttl_s: Annotated[
        float,
        Meta(
            ge=60,
            le=2_592_000,
            description="Seconds for which the answer to a request with an `Idempotency-Key` is kept. Higher lets "
            "clients repeat a request after a longer outage; each answer takes about its own size on disk meanwhile.",
        ),
    ] = 86_400.0
    watch_backlog_max: Annotated[
        int,
        Meta(
            ge=16,
            le=1_000_000,
            description="Events a watcher may be behind before it is cut off, told so, and has to resume.",
        ),
    ] = 10_000
    shutdown_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="Seconds that open requests get to end at shutdown; what is queued is committed in any case.",
        ),
    ] = 10.0
    log_level: Annotated[LogLevel, Meta(description="Least severity that is logged.")] = "info"
    log_format: Annotated[
        LogFormat, Meta(description="`text` for people, `json` for machines, `auto`: text on a terminal.")
    ] = "auto"

    @property
    def heartbeat_interval_ms(self) -> int:
        """`heartbeat_interval_s` as records and frames have it."""
        return round(self.heartbeat_interval_s * 1000)

    def __post_init__(self) -> None:
        if self.node_name is not None and is_uuid(self.node_name):
            raise InputProblem("node_name", "must not be a UUID, which would read as an id")


def setting_descriptions() -> list[tuple[str, str, object]]:
    """(name, description, default) of every setting, in the order of the class."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        default = "user data directory" if field.name == "store" else field.default
        rows.append((field.name, _meta(field.name).description or "", default))
    return rows


def load_settings(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of one server. `environ` None reads the process's; flags that are None count as not given.

    Raises: SettingsError that names the setting and whether the file, the environment or a flag gave it.
    """
    environ = os.environ if environ is None else environ
    if file is None and (named := environ.get("THUNDERLINE_CONFIG")):
        file = Path(named)
    merged: dict[str, object] = {}
    if file is not None:
        merged |= _checked(_read_file(file), source=str(file))
    merged |= _checked(_read_environ(environ), source="environment", from_text=True)
    merged |= _checked({k: v for k, v in (flags or {}).items() if v is not None}, source="flag")
    return msgspec.convert(merged, Settings)


def unknown_environ(environ: Mapping[str, str] | None = None) -> list[str]:
    """Variables that look like settings but are none, sorted: most are typing mistakes, so a start names them."""
    environ = os.environ if environ is None else environ
    known = {ENV_PREFIX + field.upper() for field in Settings.__struct_fields__} | _OTHER_ENV
    return sorted(name for name in environ if name.startswith(ENV_PREFIX) and name not in known)


def server_url(environ: Mapping[str, str] | None = None) -> str:
    """The server that client commands talk to when no `--server` is given."""
    return named_server(environ) or "http://127.0.0.1:4040"


def named_server(environ: Mapping[str, str] | None = None) -> str | None:
    """The server that the environment names, for commands that can do without one."""
    return (os.environ if environ is None else environ).get("THUNDERLINE_SERVER") or None


def token_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file with the token that clients show when they are given none. The token itself is no variable's value:
    those of a process stand open to more readers than a file of mode 0600."""
    return _path_in("THUNDERLINE_TOKEN_FILE", environ)


def ca_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The PEM file of the authorities that clients trust when they are given none."""
    return _path_in("THUNDERLINE_CA", environ)


def _path_in(name: str, environ: Mapping[str, str] | None) -> Path | None:
    text = (os.environ if environ is None else environ).get(name)
    return Path(text) if text else None


def _read_file(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError("config", f"cannot be read: {error.strerror}", source=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("config", f"is not TOML: {error}", source=str(file)) from error


def _read_environ(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in Settings.__struct_fields__:
        text = environ.get(ENV_PREFIX + name.upper())
        if text is None or text == "":
            continue
        if name == "port" and text.startswith("tcp://"):
            raise SettingsError(
                name,
                "holds a Kubernetes service link; set enableServiceLinks: false on the pod, or rename the service",
                source="environment",
            )
        found[name] = [part.strip() for part in text.split(",") if part.strip()] if name in _LISTS else text
    return found


def _checked(values: dict[str, object], *, source: str, from_text: bool = False) -> dict[str, object]:
    """`values` once each is known to be a setting that fits; one at a time, so that an error names its own source."""
    for name, value in values.items():
        if name not in Settings.__struct_fields__:
            close = difflib.get_close_matches(name, Settings.__struct_fields__, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(name, f"is not a setting{hint}", source=source)
        try:
            whole = msgspec.convert({name: value}, Settings, strict=not from_text)
        except msgspec.ValidationError as error:
            raise SettingsError(name, explain(error)[1], source=source) from error
        except UnicodeEncodeError as error:
            raise SettingsError(name, "holds text that is not valid Unicode", source=source) from error
        values[name] = getattr(whole, name)
    return values


def _meta(name: str) -> Meta:
    hint = get_type_hints(Settings, include_extras=True)[name]
    return next(arg for arg in get_args(hint) if isinstance(arg, Meta))
