"""Thunderline: the node registry of a cluster."""

from importlib.metadata import version

from thunderline.core.settings import Settings, load_settings
from thunderline.link.registry import Registry

__version__ = version("thunderline")

__all__ = ["Registry", "Settings", "__version__", "load_settings"]
