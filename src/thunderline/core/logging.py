"""Log output: one line an event, a constant message with data as fields; readable on a terminal, JSON elsewhere.

Loggers hand everything to the standard library, so that a program that embeds the registry decides where it goes;
only a server of our own calls `configure_logging`.
"""

from __future__ import annotations

import logging
import sys
from typing import cast

import structlog

from thunderline.core.settings import LogFormat, LogLevel


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; its fields travel as `extra`."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


def configure_logging(*, level: LogLevel = "info", format: LogFormat = "auto") -> None:
    """Send this process's log to standard error; `auto` means text on a terminal and JSON otherwise.

    A process whose standard error was closed logs nothing.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    text = format == "text" or (format == "auto" and on_terminal)
    reading: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    ]
    # The plain formatter: the default one prints local variables, and so whatever secret is among them.
    writing: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback)]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    # A StreamHandler without a stream would look for sys.stderr itself.
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[*reading, *writing]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
