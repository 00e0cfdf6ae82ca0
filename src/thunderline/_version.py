"""The version, as the installed package says it."""

from importlib.metadata import version
from typing import Final

__version__: Final = version("thunderline")
