"""Tables of text, and how they are written as Markdown, CSV and LaTeX.

Text from data (names, paths, error messages) is escaped for the language it is written in, so that
it cannot become markup, a formula or a command.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from vaebench.analysis.columns import heading
from vaebench.analysis.labels import is_missing, plain, value_text
from vaebench.records.metrics import METRICS


@dataclass(frozen=True)
class Table:
    """Text in rows and columns, ready to be written in any language.

    Attributes:
        name: a file name without an ending.
        title: one line that says what the table shows.
        header: one heading per column.
        units: one unit per column, '' where there is none.
        rows: the entries, each row as wide as the header.
        numeric: which columns hold numbers and are right-aligned.
        notes: footnotes, in the order of their marks.
        values: the same numbers in full precision; None if the rows hold all there is.
        keys: the entry of the column `design` for each row; empty if rows are not designs.
    """

    name: str
    title: str
    header: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    notes: tuple[str, ...] = ()
    values: pd.DataFrame | None = field(default=None, compare=False)
    keys: tuple[str, ...] = ()

    @property
    def numbers(self) -> pd.DataFrame:
        """The values in full precision, or else the text of the rows."""
        if self.values is not None:
            return self.values
        rows = [[None if entry == "-" else entry for entry in row] for row in self.rows]
        return pd.DataFrame(rows, columns=list(self.header))


_MARK: Final = re.compile(r"\[\d+\]")


def shortened(table: Table, most: int) -> Table:
    """Return the first `most` rows with their footnotes, and a note on where the others are."""
    if len(table.rows) <= most:
        return table
    rows = table.rows[:most]
    marks = {mark for row in rows for entry in row for mark in _MARK.findall(entry)}
    kept = [note for note in table.notes if not _MARK.match(note) or note.split()[0] in marks]
    rest = f"The first {most} of {len(table.rows):,} rows; all are in the CSV, Markdown and LaTeX."
    return dataclasses.replace(table, rows=rows, notes=(rest, *kept), keys=table.keys[:most])


_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$])")


def _markdown_text(text: str) -> str:
    escaped = _MARKDOWN.sub(r"\\\1", plain(text, 400))
    # Most readers turn a bare address into a link.
    return escaped.replace("://", ":\u200b//").replace("www.", "www\u200b.")


def _heads(table: Table) -> list[str]:
    """The headings, each with its unit in brackets."""
    pairs = zip(table.header, table.units, strict=True)
    return [f"{head} [{unit}]" if unit else head for head, unit in pairs]


def markdown(table: Table) -> str:
    """Return the table as GitHub-flavoured Markdown, with every special character escaped."""
    lines = [
        f"### {_markdown_text(table.title)}",
        "",
        "| " + " | ".join(map(_markdown_text, _heads(table))) + " |",
        "|" + "|".join("---:" if numeric else "---" for numeric in table.numeric) + "|",
    ]
    lines += ["| " + " | ".join(map(_markdown_text, row)) + " |" for row in table.rows]
    lines += [f"\n{_markdown_text(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


_LATEX: Final = str.maketrans(
    # After the end of a row, LaTeX would read a bracket or an asterisk as an argument.
    {character: rf"\{character}" for character in "{}$&#%_"}
    | {character: f"{{{character}}}" for character in "[]*"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
    | {"±": r"$\pm$", "−": r"$-$", "²": r"$^2$", "σ": r"$\sigma$", "β": r"$\beta$"}
    | {"λ": r"$\lambda$", "‖": r"$\Vert$", "→": r"$\to$", "·": r"$\cdot$", "…": r"\ldots{}"}
    | {"–": "--", "“": "``", "”": "''", "‘": "`", "’": "'", "†": r"\dag{}"}
)
_MINUS: Final = re.compile(r"(?<![\w.-])-(?=\d)")


def _latex_text(text: str, numeric: bool = False) -> str:
    """The text with every special character escaped; letters that fonts lack as their code."""
    signed = _MINUS.sub("−", text) if numeric else text
    escaped = plain(signed, 400).translate(_LATEX)
    return re.sub(r"[^\x00-\u024f]", _latex_code, escaped)


def _latex_code(found: re.Match[str]) -> str:
    return rf"\textbackslash{{}}{found[0].encode('ascii', 'backslashreplace').decode()[1:]}"


_SENTENCE: Final = 60
"""Entries with more letters than this are broken into lines."""


def latex(table: Table) -> str:
    """Return the table as a LaTeX `tabular` with the rules of booktabs.

    Data cannot form a command. A table wider than the line is scaled down, and sentences are broken
    into lines.
    """
    lines = [
        r"% needs \usepackage{booktabs}, \usepackage{textcomp} and \usepackage{adjustbox}",
        r"\begin{adjustbox}{max width=\linewidth}",
        rf"\begin{{tabular}}{{{''.join(_latex_columns(table))}}}",
        r"\toprule",
        " & ".join(map(_latex_text, _heads(table))) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(map(_latex_text, row, table.numeric)) + r" \\" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}"]
    lines += [rf"{{\footnotesize\par {_latex_text(note)}\par}}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _latex_columns(table: Table) -> Iterator[str]:
    for place, numeric in enumerate(table.numeric):
        longest = max((len(row[place]) for row in table.rows), default=0)
        yield "r" if numeric else r"p{0.5\linewidth}" if longest > _SENTENCE else "l"


_NUMBER: Final = re.compile(r"(-?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?")


def paper_latex(table: Table, columns: Sequence[str] = ()) -> str:
    """Return the table as a LaTeX float with caption, label and numbers aligned at their decimals.

    Args:
        table: what is written.
        columns: names of metrics; other metrics are left out if there are any.
    """
    metrics = {heading(name): name for name in METRICS}
    kept = [
        place
        for place, head in enumerate(table.header)
        if not columns or head not in metrics or metrics[head] in columns
    ]
    made = [_paper_column(table, place) for place in kept]
    rows = zip(*(entries for _, _, entries in made), strict=True)
    lines = [
        r"% needs \usepackage{booktabs}, \usepackage{siunitx} and \usepackage{textcomp}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_text(table.title)}.}}",
        rf"\label{{tab:{table.name}}}",
        r"\footnotesize",
        rf"\begin{{tabular}}{{{''.join(form for form, _, _ in made)}}}",
        r"\toprule",
        " & ".join(head for _, head, _ in made) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"{{\footnotesize\par {_latex_text(note)}\par}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _paper_column(table: Table, place: int) -> tuple[str, str, list[str]]:
    """The LaTeX format, heading and entries of a column; intervals have a column of theirs."""
    texts = [row[place] for row in table.rows]
    head = _latex_text(_heads(table)[place])
    found = [_NUMBER.fullmatch(text.replace(",", "")) for text in texts]
    known = [each for each in found if each]
    if not table.numeric[place] or not known:
        return "l", head, [_latex_text(text) for text in texts]
    form = f"S[table-format={_siunitx([each[1] for each in known])}]"
    halves = [each[2] for each in known if each[2]]
    entries = [
        each[1] if each else f"{{{_latex_text(text)}}}"
        for each, text in zip(found, texts, strict=True)
    ]
    if halves:
        form += rf"@{{\,\(\pm\)\,}}S[table-format={_siunitx(halves)}]"
        ends = [each[2] if each and each[2] else "{}" for each in found]
        entries = [f"{entry} & {end}" for entry, end in zip(entries, ends, strict=True)]
    return form, rf"\multicolumn{{{1 + bool(halves)}}}{{c}}{{{head}}}", entries


def _siunitx(numbers: Sequence[str]) -> str:
    """The siunitx format that has room for these numbers, e.g. '-3.2'."""
    sign = "-" if any(number.startswith("-") for number in numbers) else ""
    parts = [number.lstrip("-").partition(".") for number in numbers]
    whole, decimals = (max((len(part[i]) for part in parts), default=1) for i in (0, 2))
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _csv_entry(value: Any) -> Any:
    """Return an entry in full precision; text that a spreadsheet would execute gets a quote."""
    if is_missing(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, float, np.generic)):
        return value
    text = value_text(value)
    formula = text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r"))
    # Before Python 3.13, csv does not quote a carriage return, which would end the row.
    unbroken = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{unbroken}" if formula else unbroken


def csv_text(frame: pd.DataFrame) -> str:
    """Return the frame as CSV with '.' decimals and '\\n' line ends in every locale."""
    written = frame.copy()
    for place, (_, column) in enumerate(frame.items()):
        if column.dtype != np.float64:
            # As objects, since a column of whole numbers and gaps would become fractions.
            entries = [_csv_entry(value) for value in column.tolist()]
            written.isetitem(place, pd.Series(entries, frame.index, dtype=object).array)
    written.columns = pd.Index([_csv_entry(str(name)) for name in frame.columns])
    return written.to_csv(index=False, lineterminator="\n")


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with one type per column: numbers, booleans or text."""
    flattened = frame.copy()
    for column in flattened:
        # Columns of any other type already hold one type of value.
        if column != "sigma" and flattened[column].dtype != object:
            continue
        types = {type(value) for value in flattened[column] if not is_missing(value)}
        if len(types - {int, float}) > 1 or column == "sigma":
            flattened[column] = [
                None if is_missing(value) else value_text(value) for value in flattened[column]
            ]
    return flattened
