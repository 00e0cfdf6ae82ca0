"""What programs that speak to a Thunderline server import; it needs none of the server's libraries.

    async with Client("http://127.0.0.1:4040") as client:
        node = await client.ensure_node({"name": "worker-1"})
        async with client.watch("cluster.node.*") as events:
            async for event in events:
                print(event.name, event.subject)

`BlockingClient` has the same calls for programs without an event loop. The names are imported at their first use, so
that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from thunderline.client.alerts import AlertList, ToldAlert, ToldSilence
    from thunderline.client.answers import (
        CountedGroup,
        EventPage,
        FigureSeries,
        Graph,
        GraphLink,
        GraphNode,
        Health,
        HeartbeatResult,
        HeartbeatSeries,
        ItemProblem,
        KeptHeartbeat,
        NodeResult,
        OnlineNode,
        PresentNode,
        TaggedNode,
    )
    from thunderline.client.blocking import BlockingClient
    from thunderline.client.blocking_watch import BlockingWatch
    from thunderline.client.errors import (
        AnswerLost,
        BatchRefused,
        ClientError,
        Conflict,
        Forbidden,
        InvalidRequest,
        KeyReused,
        ListAgain,
        NotFound,
        NotThunderline,
        PreconditionFailed,
        ServerRefused,
        ServerUnavailable,
        ServerUnreachable,
        ServerUntrusted,
        Unauthorized,
    )
    from thunderline.client.events import ToldEvent
    from thunderline.client.http import Client
    from thunderline.client.http_watch import Watch
    from thunderline.client.link import Link
    from thunderline.client.link_errors import (
        BeatDropped,
        BeatRefused,
        LinkDeregistered,
        LinkEnded,
        LinkError,
        LinkLeft,
        LinkSuperseded,
        LinkTimeout,
        LinkUnauthorized,
    )
    from thunderline.client.link_stats import LinkStats
    from thunderline.client.past import Changed, Differences, GraphDiff, StatusHistory, StatusSpan, Timeline, Uptime

__all__ = [
    # Clients, and what watching gives
    "Client",
    "BlockingClient",
    "Watch",
    "BlockingWatch",
    "Link",
    "LinkStats",
    # Answers
    "CountedGroup",
    "EventPage",
    "Graph",
    "GraphLink",
    "GraphNode",
    "Health",
    "FigureSeries",
    "HeartbeatResult",
    "HeartbeatSeries",
    "ItemProblem",
    "KeptHeartbeat",
    "NodeResult",
    "OnlineNode",
    "PresentNode",
    "TaggedNode",
    "ToldEvent",
    # Answers about the past
    "Changed",
    "Differences",
    "GraphDiff",
    "StatusHistory",
    "StatusSpan",
    "Timeline",
    "Uptime",
    # Alerts
    "AlertList",
    "ToldAlert",
    "ToldSilence",
    # Errors
    "AnswerLost",
    "BatchRefused",
    "ClientError",
    "Conflict",
    "Forbidden",
    "InvalidRequest",
    "KeyReused",
    "ListAgain",
    "NotFound",
    "NotThunderline",
    "PreconditionFailed",
    "ServerRefused",
    "ServerUnavailable",
    "ServerUnreachable",
    "ServerUntrusted",
    "Unauthorized",
    # Errors of a link
    "BeatDropped",
    "BeatRefused",
    "LinkDeregistered",
    "LinkEnded",
    "LinkError",
    "LinkLeft",
    "LinkSuperseded",
    "LinkTimeout",
    "LinkUnauthorized",
]

_MODULES: Final = {
    "http": ("Client",),
    "http_watch": ("Watch",),
    "blocking": ("BlockingClient",),
    "blocking_watch": ("BlockingWatch",),
    "past": ("Changed", "Differences", "GraphDiff", "StatusHistory", "StatusSpan", "Timeline", "Uptime"),
    "alerts": ("AlertList", "ToldAlert", "ToldSilence"),
    "answers": (
        *("CountedGroup", "EventPage", "Graph", "GraphLink", "GraphNode", "Health", "KeptHeartbeat", "OnlineNode"),
        "PresentNode",
        *("FigureSeries", "HeartbeatResult", "HeartbeatSeries", "ItemProblem", "NodeResult", "TaggedNode"),
    ),
    "events": ("ToldEvent",),
    "link": ("Link",),
    "link_errors": (
        *("BeatDropped", "BeatRefused", "LinkDeregistered", "LinkEnded", "LinkError", "LinkLeft", "LinkSuperseded"),
        *("LinkTimeout", "LinkUnauthorized"),
    ),
    "link_stats": ("LinkStats",),
    "errors": (
        *("AnswerLost", "ClientError", "Conflict", "InvalidRequest", "ListAgain", "NotFound", "NotThunderline"),
        *("ServerRefused", "ServerUnavailable", "ServerUnreachable"),
        *("BatchRefused", "Forbidden", "KeyReused", "PreconditionFailed", "ServerUntrusted", "Unauthorized"),
    ),
}
_HOME: Final = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
