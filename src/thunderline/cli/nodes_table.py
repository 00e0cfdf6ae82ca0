"""The list of nodes as a table on a terminal.

No part of a name or a reason is left out: what does not fit its column goes on in the next line.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from thunderline.cli.figures import ago, mebibytes, percent
from thunderline.cli.marks import count_line, flapping_reason, left_on_purpose, status_text
from thunderline.cli.screen import plain
from thunderline.client.answers import PresentNode

SLUG_WIDTH: Final = 16
"""Cells that a role or a domain keeps in a line when there is not room for everything."""
SHARED_WIDTH_MIN: Final = 16
"""Cells for name and reason together; with fewer, columns would be harder to read than none."""

Columns: TypeAlias = dict[str, list[Text]]
"""The cells below each heading, in the order of the columns."""

_FIGURES: Final = frozenset({"CPU", "MEM"})


def show_table(console: Console, found: Sequence[PresentNode], now: datetime, *, more: bool) -> None:
    """Print `found`, which holds one node at least, and their count; `more` says that others match, too."""
    columns = {
        "NAME": [plain(node.name) for node in found],
        "STATUS": [status_text(node.status, left=left_on_purpose(node)) for node in found],
        "ROLE": [plain(node.role) for node in found],
        "DOMAIN": [plain(node.domain) for node in found],
        "CPU": [plain(percent(node.cpu_load)) for node in found],
        "MEM": [plain(mebibytes(node.mem_used_mb)) for node in found],
        "LAST SEEN": [plain(ago(node.presence.last_seen_at, now)) for node in found],
        "REASON": [plain(_reason(node)) for node in found],
    }
    summary = count_line(node.status for node in found)
    gap = 2
    if _natural(columns, gap) > console.width:
        gap = 1
        ages, reasons = columns.pop("LAST SEEN"), columns.pop("REASON")
        columns["SEEN"] = [plain(age.plain.removesuffix(" ago")) for age in ages]
        columns["REASON"] = reasons
        domain = columns["DOMAIN"][0]
        if _natural(columns, gap) > console.width and all(cell == domain for cell in columns["DOMAIN"]):
            del columns["DOMAIN"]
            summary += f"; all in domain {domain}"
    widths = _widths(columns, console.width, gap)
    if widths is None:
        _show_blocks(console, columns)
    else:
        _show_columns(console, columns, widths, gap)
    console.print(f"\n{summary}{'; there are more, see --limit' if more else ''}")


def _show_columns(console: Console, columns: Columns, widths: dict[str, int], gap: int) -> None:
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for heading, width in widths.items():
        justify: Literal["left", "right"] = "right" if heading in _FIGURES else "left"
        table.add_column(heading, justify=justify, overflow="fold", width=width)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)


def _show_blocks(console: Console, columns: Columns) -> None:
    """For a terminal too narrow for columns: each node's name and status, and below them the rest in words."""
    names, statuses = columns["NAME"], columns["STATUS"]
    others = [(heading, cells) for heading, cells in columns.items() if heading not in ("NAME", "STATUS")]
    for at, name in enumerate(names):
        console.print(Text.assemble(name, "  ", statuses[at]))
        words = ", ".join(f"{heading.lower()} {cells[at]}" for heading, cells in others)
        console.print(Padding(Text(words, style="dim"), (0, 0, 0, 2)))


def _reason(node: PresentNode) -> str:
    overridden = node.override is not None and node.override.status is node.status
    return f"override: {node.status_reason}" if overridden else flapping_reason(node)


def _column_width(heading: str, cells: Sequence[Text]) -> int:
    return max(cell_len(heading), *(cell.cell_len for cell in cells))


def _natural(columns: Columns, gap: int) -> int:
    """The cells that a line takes when nothing is folded."""
    return sum(_column_width(*column) for column in columns.items()) + gap * (len(columns) - 1)


def _widths(columns: Columns, width: int, gap: int) -> dict[str, int] | None:
    """Widths that fill the line: name and reason share what the others leave. None: that is too little."""
    natural = {heading: _column_width(heading, cells) for heading, cells in columns.items()}
    for slug in ("ROLE", "DOMAIN"):
        if slug in natural and _natural(columns, gap) > width:
            natural[slug] = min(natural[slug], SLUG_WIDTH)
    others = sum(natural.values()) - natural["NAME"] - natural["REASON"] + gap * (len(columns) - 1)
    shared = width - others
    if shared < SHARED_WIDTH_MIN:
        return None
    name = min(natural["NAME"], max(shared - natural["REASON"], shared * 6 // 10))
    return {**natural, "NAME": name, "REASON": min(natural["REASON"], shared - name)}
