"""Tables of text, and how they are written as Markdown, CSV and LaTeX.

Whatever came from data (names, paths, error messages) is escaped for the language it is written
in; nothing of it can become markup, a formula or a command.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from vaebench.analysis.labels import is_missing, plain, value_text

__all__ = ["Table", "csv_text", "latex", "markdown", "shortened"]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns, ready to be written in any language.

    Attributes:
        name: a file name without an ending.
        title: one line that says what the table shows.
        header: one heading a column.
        units: one unit a column, '' where there is none.
        rows: the entries, each as wide as the header.
        numeric: which columns hold numbers and are set flush right.
        notes: footnotes, in the order of their marks.
    """

    name: str
    title: str
    header: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    notes: tuple[str, ...] = ()


_MARK: Final = re.compile(r"\[\d+\]")


def shortened(table: Table, most: int) -> Table:
    """The table's first `most` rows, the footnotes they refer to, and a note on where the rest is.

    A table that is no longer is returned as it is.
    """
    if len(table.rows) <= most:
        return table
    rows = table.rows[:most]
    marks = {mark for row in rows for entry in row for mark in _MARK.findall(entry)}
    kept = [note for note in table.notes if not _MARK.match(note) or note.split()[0] in marks]
    rest = f"The first {most} of {len(table.rows):,} rows; all are in the CSV, Markdown and LaTeX."
    return dataclasses.replace(table, rows=rows, notes=(rest, *kept))


_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$])")


def _markdown_text(text: str) -> str:
    escaped = _MARKDOWN.sub(r"\\\1", plain(text, 400))
    # A bare address would become a link in most readers.
    return escaped.replace("://", ":\u200b//").replace("www.", "www\u200b.")


def _with_unit(heading: str, unit: str) -> str:
    return f"{heading} [{unit}]" if unit else heading


def markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, every special character escaped."""
    heads = [_with_unit(*pair) for pair in zip(table.header, table.units, strict=True)]
    lines = [
        f"### {_markdown_text(table.title)}",
        "",
        "| " + " | ".join(map(_markdown_text, heads)) + " |",
        "|" + "|".join("---:" if numeric else "---" for numeric in table.numeric) + "|",
    ]
    lines += ["| " + " | ".join(map(_markdown_text, row)) + " |" for row in table.rows]
    lines += [f"\n{_markdown_text(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


_LATEX: Final[dict[str, str]] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # After a row's end, a bracket or an asterisk would be read as its argument.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "²": r"$^2$",
    "σ": r"$\sigma$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "‖": r"$\Vert$",
    "→": r"$\to$",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "–": "--",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "†": r"\dag{}",
}


_LATEX_TABLE: Final = str.maketrans(_LATEX)


_MINUS: Final = re.compile(r"(?<![\w.-])-(?=\d)")


def _latex_number(text: str) -> str:
    return _latex_text(_MINUS.sub("−", text))


def _latex_text(text: str) -> str:
    escaped = plain(text, 400).translate(_LATEX_TABLE)
    return escaped if escaped.isascii() else re.sub(r"[^\x00-\u024f]", _latex_code, escaped)


def _latex_code(found: re.Match[str]) -> str:
    """A letter that LaTeX's fonts lack, by its code, so that names stay apart."""
    return rf"\textbackslash{{}}{found[0].encode('ascii', 'backslashreplace').decode()[1:]}"


def latex(table: Table) -> str:
    """The table as a LaTeX `tabular` with booktabs' rules; data can form no command.

    It is made narrower where it is wider than the line; sentences are broken into lines.
    """
    heads = [_with_unit(*pair) for pair in zip(table.header, table.units, strict=True)]
    lines = [
        r"% needs \usepackage{booktabs}, \usepackage{textcomp} and \usepackage{adjustbox}",
        r"\begin{adjustbox}{max width=\linewidth}",
        rf"\begin{{tabular}}{{{''.join(_latex_columns(table))}}}",
        r"\toprule",
        " & ".join(map(_latex_text, heads)) + r" \\",
        r"\midrule",
    ]
    written = [_latex_number if numeric else _latex_text for numeric in table.numeric]
    for row in table.rows:
        entries = (write(entry) for write, entry in zip(written, row, strict=True))
        lines.append(" & ".join(entries) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}"]
    lines += [rf"{{\footnotesize\par {_latex_text(note)}\par}}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _latex_columns(table: Table) -> Iterator[str]:
    for place, numeric in enumerate(table.numeric):
        longest = max((len(row[place]) for row in table.rows), default=0)
        wide = r"p{0.5\linewidth}" if longest > _SENTENCE else "l"
        yield "r" if numeric else wide


_SENTENCE: Final = 60
"""Letters above which an entry is set in lines."""


def _csv_entry(value: object) -> str:
    """Numbers in full precision; text that a spreadsheet would run as a formula is disarmed."""
    if is_missing(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, (int, float)):
        return "" if is_missing(number) else repr(number)
    text = value_text(value)
    formula = text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r"))
    # Before Python 3.13, csv leaves a carriage return unquoted: it would end the row.
    unbroken = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{unbroken}" if formula else unbroken


def _csv_column(column: "pd.Series[Any]") -> list[str]:
    """The entries of a column; a value that stands there often is looked at once."""
    if column.isna().all():
        return [""] * len(column)
    if column.dtype == np.float64:
        return ["" if value != value else repr(value) for value in column.tolist()]
    known: dict[tuple[type, object], str] = {}
    entries = []
    for value in column.tolist():
        # Zero and minus zero are equal, but not the same entry; nor are 1 and True.
        if type(value) is float or not isinstance(value, Hashable):
            entries.append(_csv_entry(value))
            continue
        key = (type(value), value)
        if key not in known:
            known[key] = _csv_entry(value)
        entries.append(known[key])
    return entries


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV with '.' decimals and '\\n' line ends in every locale."""
    columns: Sequence[str] = [str(column) for column in frame.columns]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(_csv_entry(column) for column in columns)
    writer.writerows(
        zip(*(_csv_column(frame.iloc[:, i]) for i in range(len(columns))), strict=True)
    )
    return sink.getvalue()
