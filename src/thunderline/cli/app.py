"""The `thunderline` command: its subcommands, and how errors leave the process."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from thunderline.cli.agent import agent
from thunderline.cli.alerts import alerts
from thunderline.cli.audit import audit
from thunderline.cli.db import backup, copy, migrate, restore, status
from thunderline.cli.diff import diff
from thunderline.cli.failures import CommandFailed
from thunderline.cli.graph import graph
from thunderline.cli.groups import group, groups
from thunderline.cli.history import history
from thunderline.cli.lift import lift
from thunderline.cli.node import node
from thunderline.cli.nodes import nodes
from thunderline.cli.screen import note
from thunderline.cli.serve import serve
from thunderline.cli.sessions import session, sessions
from thunderline.cli.simulate import simulate
from thunderline.cli.token import reissue, token
from thunderline.cli.version import version
from thunderline.cli.watch import watch
from thunderline.core.errors import ThunderlineError

EXIT_FAILED: Final = 1
"""The server could not be asked or said no, or the output could not be written."""
EXIT_USAGE: Final = 2
"""Wrong arguments, settings that cannot be used, or a store that belongs to another process."""


def _examples(*lines: str) -> str:
    # \b: the lines stay as they are, to be copied.
    return "\n".join(("\b", "Examples:", *(f"  thunderline {line}" for line in lines)))


class _ShowsOtherwise(TyperGroup):
    """The commands about one node: `node NAME` shows it, whatever else it is called than one of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="thunderline",
    help="The node registry of a cluster: which nodes exist, which are alive, who is linked to whom.",
    epilog=_examples("serve", "nodes", "nodes --help"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around usage errors would end up in logs, and [text] in them be read as markup
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=_examples("serve", "serve --port 4040 --store sqlite:///nodes.db"))(serve)
app.command(
    epilog=_examples(
        "agent --label zone=eu-1",
        "agent --name worker-1@prod --role worker --capability gpu=a100",
        "agent --peer worker-2=10.0.0.7:22 --peer worker-3=10.0.0.8:22",
    )
)(agent)
app.command(
    epilog=_examples(
        "nodes",
        "nodes --status degraded,offline --label zone=eu-1",
        "nodes --name 'gpu-*' | cut -f 1,2",
    )
)(nodes)
app.command(epilog=_examples("groups", "groups --type zone | cut -f 1"))(groups)
app.add_typer(
    group,
    epilog=_examples(
        "group create eu --type region",
        "group create eu-1 --type zone --parent eu",
        "group join eu-1 worker-1@prod",
    ),
)
app.command(epilog=_examples("sessions --node worker-1@prod", "sessions --status degraded | cut -f 1,6"))(sessions)
app.add_typer(session, epilog=_examples("session close tunnel-7 --reason 'moved to quic'"))
one_node = typer.Typer(
    name="node",
    cls=_ShowsOtherwise,
    help="Show one node in full, or give it a new credential.",
    epilog=_examples("node worker-1@prod", "node worker-1@prod | grep ^override", "node reissue worker-1@prod"),
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
one_node.command("show", epilog=_examples("node worker-1@prod", "node show reissue"))(node)
one_node.command(
    "reissue", epilog=_examples("node reissue worker-1@prod --out worker-1.credential", "node reissue edge-7 > edge-7")
)(reissue)
app.add_typer(one_node)
app.command(
    epilog=_examples("graph --include-offline", "graph --at 15m", "graph --format dot | dot -Tsvg > cluster.svg")
)(graph)
app.command(epilog=_examples("diff 2h", "diff 2026-01-31T03:00:00Z 2026-01-31T03:12:00Z | cut -f 1-3"))(diff)
app.command(epilog=_examples("history worker-1@prod", "history worker-1@prod --from 7d | grep offline"))(history)
app.command(
    epilog=_examples(
        "watch",
        "watch --match 'cluster.node.*' --since 0",
        "watch --match cluster.node.heartbeat",
        "watch --json | jq -r .subject",
    )
)(watch)
app.command(epilog=_examples("lift worker-1@prod"))(lift)
app.command(
    epilog=_examples(
        "simulate --nodes 180 --serve",
        "simulate --nodes 2000 --churn 5 --faults 0 --server http://10.0.0.5:4040",
        "simulate --offline mixed-fleet --set detector=phi",
        "simulate --offline my-cluster.toml --json | jq .fleets",
    )
)(simulate)
app.command(epilog=_examples("version", "version --json"))(version)
app.add_typer(
    token,
    epilog=_examples(
        "token create ci --scope operator --expires 30d --out ci.token",
        "token create fleet --join 'worker-*' --uses 100 > fleet.token",
        "token list",
        "token revoke ci",
    ),
)
app.add_typer(
    alerts,
    epilog=_examples(
        "alerts",
        "alerts silence zone=eu-1 rule=node-offline --for 2h --reason 'rack move'",
        "alerts ack 0f8c2d5a1b3e4f60718293a4b5c6d7e8",
        "alerts test rules.toml --from 7d",
    ),
)
app.add_typer(audit, epilog=_examples("audit list --limit 20", "audit list --json | jq '.entries[0]'"))

db = typer.Typer(
    name="db",
    help="Look at the database, back it up, restore, copy or migrate it.",
    epilog=_examples("db status", "db backup /backup/nodes.db", "db restore --help"),
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db.command(epilog=_examples("db status", "db status --json | jq .revision"))(status)
db.command(epilog=_examples("db migrate", "db migrate --store sqlite:////var/lib/thunderline/thunderline.db"))(migrate)
db.command(epilog=_examples("db backup nodes-backup.db", 'db backup "/backup/nodes-$(date +%F).db" --json'))(backup)
db.command(
    epilog=_examples(
        "db restore nodes-backup.db --store sqlite:///elsewhere.db",
        "db restore nodes-backup.db --force",
    )
)(restore)
db.command(
    epilog=_examples(
        "db copy sqlite:////var/lib/thunderline/thunderline.db postgresql://db.example/thunderline",
        "db copy postgresql:///thunderline sqlite:///copy.db --json",
    )
)(copy)
app.add_typer(db)


def main() -> None:
    """Run the command line; errors that we raise on purpose are one line, never a traceback."""
    try:
        app(prog_name="thunderline")
    except CommandFailed as error:
        _end(error, EXIT_FAILED)
    except ThunderlineError as error:
        _end(error, EXIT_USAGE)


def _end(error: Exception, code: int) -> NoReturn:
    note(str(error))
    raise SystemExit(code) from error
