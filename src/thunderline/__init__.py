"""Thunderline: the node registry of a cluster.

The public names are imported at their first use: what a node or a command line needs of this package must not pull in
the registry with all that stands below it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from thunderline._version import __version__
    from thunderline.core.settings import Settings, load_settings
    from thunderline.link.registry import Registry

__all__ = ["Registry", "Settings", "__version__", "load_settings"]

_HOME: Final = {
    "Registry": "thunderline.link.registry",
    "Settings": "thunderline.core.settings",
    "load_settings": "thunderline.core.settings",
    "__version__": "thunderline._version",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
