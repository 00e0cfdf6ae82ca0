"""How output leaves: tables and colour to a terminal, tab-separated text to anything else.

What a server sent is data: it passes `clean` on its way out and is never read as markup, so no name or reason can
move the cursor, colour the screen or add a column.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from thunderline.cli.failures import OutputLost

NOTHING: Final = "-"
"""What stands in a cell without a value, so that columns can be counted."""

_SPACES: Final = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_CONTROL: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def on_terminal() -> bool:
    """Whether a person reads along; a pipe or a file gets plain text."""
    return sys.stdout.isatty()


def clean(text: str) -> str:
    """`text` on one line, without control and formatting characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char for char in _SPACES.sub(" ", text) if unicodedata.category(char) not in _CONTROL)


def cell(value: object) -> str:
    """`value` as a cell: cleaned, `-` where there is nothing."""
    return (clean(str(value)).strip() if value is not None else "") or NOTHING


def plain(value: object, style: str = "") -> Text:
    """`value` as a cell of a table on the screen."""
    return Text(cell(value), style=style)


def open_console() -> Console:
    """Where tables go. It honours NO_COLOR and TERM, and reads no markup."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A shape that the terminal's encoding lacks becomes `?`; the word beside it says the same.
        sys.stdout.reconfigure(errors="replace")
    return Console(markup=False, highlight=False, emoji=False)


def write_line(text: str) -> None:
    """Write one cleaned line to standard output."""
    write_lines([clean(text)])


def write_lines(lines: Iterable[str]) -> None:
    """Write lines that are clean already, all at once."""
    _write("".join(f"{line}\n" for line in lines).encode(sys.stdout.encoding, "replace"))


def write_if_read(lines: Iterable[str]) -> None:
    """Write cleaned lines if standard output takes them, for a command whose output is not what it is for."""
    if sys.stdout is None:
        return
    try:
        write_lines(map(clean, lines))
    except BrokenPipeError:
        _take_no_more()
    except OutputLost:
        return


def write_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows, tab-separated; each cell is cleaned and none is empty."""
    write_lines(["\t".join(header), *map(_row, rows)])


def write_header(header: Sequence[str]) -> None:
    """Write the names of columns whose rows come one by one."""
    write_lines(["\t".join(header)])


def write_row(row: Sequence[object]) -> None:
    """Write one row below a header, at once."""
    write_lines([_row(row)])


def write_json(body: bytes) -> None:
    """Write one JSON document: as it came into a pipe, indented and escaped on a terminal."""
    if on_terminal():
        body = escape_json(msgspec.json.format(body, indent=2).decode()).encode()
    _write(body + b"\n")


def write_json_line(body: bytes) -> None:
    """Write one of several JSON documents, each on a line of its own, at once."""
    if on_terminal():
        body = escape_json(body.decode()).encode()
    _write(body + b"\n")


def escape_json(text: str) -> str:
    r"""The same document with what `clean` takes out written as `\uXXXX`; such characters occur in strings alone."""
    return "".join(_escaped(char) if char != "\n" and unicodedata.category(char) in _CONTROL else char for char in text)


def note(text: str) -> None:
    """Tell the person at the terminal something that is not the answer, if there is a terminal."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"thunderline: {clean(text)}\n")


def _row(row: Sequence[object]) -> str:
    return "\t".join(map(cell, row))


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _write(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        # Here and not at exit: a pipe that its reader closed is then found out where it ends the command quietly.
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _take_no_more()
        raise OutputLost(error.strerror or str(error)) from error


def _take_no_more() -> None:
    """Lose what is left in the buffer: it would fail once more, with a traceback, when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
