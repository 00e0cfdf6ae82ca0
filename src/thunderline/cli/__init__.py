"""What people run. `main` is the `thunderline` command."""

from thunderline.cli.app import main

__all__ = ["main"]
