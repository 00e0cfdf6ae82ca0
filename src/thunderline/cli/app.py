"""The `thunderline` command: its subcommands, and how errors leave the process."""

from __future__ import annotations

import sys
from typing import Final

import typer

from thunderline import __version__
from thunderline.cli import serve
from thunderline.core.errors import ThunderlineError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
"""Wrong arguments, settings that cannot be used, or a store that belongs to another process."""

app = typer.Typer(
    name="thunderline",
    help="The node registry of a cluster: which nodes exist, which are alive, who is linked to whom.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)


@app.command()
def version() -> None:
    """Print the version."""
    sys.stdout.write(f"thunderline {__version__}\n")


def main() -> None:
    """Run the command line; errors that we raise on purpose are one line, never a traceback."""
    try:
        app()
    except ThunderlineError as error:
        sys.stderr.write(f"thunderline: {error}\n")
        raise SystemExit(EXIT_USAGE) from error
