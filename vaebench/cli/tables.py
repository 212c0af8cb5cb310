"""Plain-text tables with aligned columns, at most `WIDEST` characters wide on a terminal.

rich.table is not used, because it wraps or shortens entries that do not fit. Here whole columns are
left out and listed below the table, so that no number is shortened.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import accumulate

from vaebench.report.tables import Table
from vaebench.system.terminal import printable

WIDEST = 110
_MARK = re.compile(r" ?\[(\d+)\]")


def aligned(table: Table, most_rows: int | None = None) -> str:
    """Return a table as text, with a row of headings, a row of units, and numbers aligned right.

    Columns that do not fit the terminal, and rows after the first `most_rows`, are left out and
    listed below the table. If the output is not a terminal, all columns are shown.
    """
    width = _width()
    texts = [tuple(map(printable, row)) for row in (table.header, table.units, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    kept = _fitting(widths, table.numeric, width)
    lines = [
        "  ".join(
            row[i].rjust(widths[i]) if table.numeric[i] else row[i].ljust(widths[i]) for i in kept
        ).rstrip()
        for row in texts
    ]
    notes = list(map(printable, selected_columns(table, kept).notes))
    left_out = len(lines[2:]) - len(lines[2:][:most_rows])
    if left_out:
        notes.insert(0, f"... {left_out} more designs are in the report")
    if len(kept) < len(widths):
        missing = ", ".join(name for i, name in enumerate(table.header) if i not in kept)
        notes.append(f"columns that do not fit: {missing} (see the report, or use a wider window)")
    wrapped = [line for note in notes for line in textwrap.wrap(note, max(width, 40))]
    rule = "  ".join("-" * widths[i] for i in kept)
    return "\n".join([*lines[:2], rule, *lines[2:][:most_rows], *wrapped])


def _width() -> int:
    """Return the width of the terminal, at most `WIDEST`; unlimited without a terminal."""
    columns = shutil.get_terminal_size((0, 0)).columns
    # sys.stdout is None if the caller has closed it, as with `>&-`.
    if columns == 0 and not (sys.stdout and sys.stdout.isatty()):
        return sys.maxsize
    return min(WIDEST, columns or WIDEST)


def _fitting(widths: Sequence[int], numeric: Sequence[bool], width: int) -> list[int]:
    """Return the columns before the first that does not fit, with two spaces between columns.

    The most important columns come first. If no column of numbers fits, all columns are returned,
    and the terminal wraps the lines.
    """
    ends = [end + 2 * place for place, end in enumerate(accumulate(widths))]
    kept = [place for place, end in enumerate(ends) if end <= width]
    shows_numbers = any(numeric[place] for place in kept) or not any(numeric)
    return kept if kept and shows_numbers else list(range(len(widths)))


def selected_columns(table: Table, kept: Sequence[int]) -> Table:
    """Return some columns of a table, with their footnotes numbered again from 1."""
    rows = [[row[i] for i in kept] for row in table.rows]
    marks = dict.fromkeys(mark for row in rows for text in row for mark in _MARK.findall(text))
    renamed = {mark: str(place) for place, mark in enumerate(marks, 1)}

    def renumbered(text: str) -> str:
        return _MARK.sub(lambda found: found[0].replace(found[1], renamed[found[1]]), text)

    notes = [(found[1], note) for note in table.notes if (found := _MARK.match(note))]
    return Table(
        name=table.name,
        title=table.title,
        header=tuple(table.header[i] for i in kept),
        units=tuple(table.units[i] for i in kept),
        rows=tuple(tuple(map(renumbered, row)) for row in rows),
        numeric=tuple(table.numeric[i] for i in kept),
        notes=tuple(sorted(renumbered(note) for mark, note in notes if mark in renamed)),
    )
