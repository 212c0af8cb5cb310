"""What a terminal shows of records: a store, one record, a comparison, the hidden sigmas.

Plain text in aligned columns, without colour; on a terminal at most `WIDEST` characters wide.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pandas as pd

from vaebench.analysis.columns import heading, unit
from vaebench.analysis.comparability import is_timing
from vaebench.analysis.comparison import Comparison
from vaebench.analysis.frame import load_with_damage, outdated_notes, without_superseded
from vaebench.analysis.kinds import common_text, kind
from vaebench.analysis.labels import plain, value_text
from vaebench.analysis.summary import number
from vaebench.analysis.timing import Bench, benches, crossovers, precisions
from vaebench.auditing.peers import hidden_sigmas
from vaebench.records.metrics import METRICS
from vaebench.records.schema import CellRecord, FactRecord, Metric
from vaebench.report.overview import result_tables, warnings_table
from vaebench.report.tables import Table
from vaebench.report.timings import timing_table
from vaebench.system.terminal import printable

__all__ = ["WIDEST", "comparison_text", "peers_table", "record_text", "store_text", "timings_text"]

WIDEST = 110
_METRICS_SHOWN = ("elbo", "kl", "bits_per_dim", "mse", "active_units")
_REASONS_SHOWN = 6
# A spread below this share of the values is that of their last digits.
_ROUNDING = 1e-9
_MARK = re.compile(r" ?\[(\d+)\]")


def _width() -> int:
    """As wide as the terminal, at most `WIDEST`; what is no terminal has room for all columns."""
    columns = shutil.get_terminal_size((0, 0)).columns
    # Without a standard output, as after `>&-`, it is None.
    if columns == 0 and not (sys.stdout and sys.stdout.isatty()):
        return sys.maxsize
    return min(WIDEST, columns or WIDEST)


def store_text(store: Path | str, most_rows: int | None = None) -> str:
    """The designs of a store with their main metrics, what warned, and what did not finish.

    Args:
        store: the results folder.
        most_rows: leave out the designs of a table after so many, and say so.
    """
    every, _ = load_with_damage(store)
    frame = without_superseded(every)
    main = {heading(name, bound) for name in _METRICS_SHOWN for bound in (True, False)}
    parts = []
    for table in result_tables(frame):
        if not table.numbers[["elbo", "mse"]].notna().any(axis=None):
            continue  # No cell of it has a result; the lines on states below say why.
        kept = [i for i, name in enumerate(table.header) if not table.units[i] or name in main]
        parts.append(f"{table.title}\n{aligned(_columns(table, kept), _width(), most_rows)}")
    return "\n\n".join(
        [*parts, "\n".join([*outdated_notes(every), *_warnings(frame), *_states(frame)])]
    )


def _columns(table: Table, kept: Sequence[int]) -> Table:
    """Some columns of a table, with the footnotes that they refer to, numbered anew."""
    rows = [[row[i] for i in kept] for row in table.rows]
    marks = dict.fromkeys(mark for row in rows for text in row for mark in _MARK.findall(text))
    renamed = {mark: str(place) for place, mark in enumerate(marks, 1)}
    notes = [(found[1], note) for note in table.notes if (found := _MARK.match(note))]
    return Table(
        name=table.name,
        title=table.title,
        header=tuple(table.header[i] for i in kept),
        units=tuple(table.units[i] for i in kept),
        rows=tuple(tuple(_renumbered(text, renamed) for text in row) for row in rows),
        numeric=tuple(table.numeric[i] for i in kept),
        notes=tuple(
            sorted((_renumbered(note, renamed) for mark, note in notes if mark in renamed))
        ),
    )


def _renumbered(text: str, renamed: dict[str, str]) -> str:
    return _MARK.sub(lambda found: found[0].replace(found[1], renamed[found[1]]), text)


def aligned(table: Table, width: int, most_rows: int | None = None) -> str:
    """The table in columns as wide as their entries, headings over units, numbers flush right.

    Columns that do not fit into `width` are left out, and named below.
    """
    texts = [tuple(map(printable, row)) for row in (table.header, table.units, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    kept = _fitting(widths, table.numeric, width)
    numeric = [table.numeric[i] for i in kept]
    lines = [_line([row[i] for i in kept], [widths[i] for i in kept], numeric) for row in texts]
    rule = "  ".join("-" * widths[i] for i in kept)
    shown = lines[2:][:most_rows]
    notes = list(_columns(table, kept).notes)
    notes = [line for note in notes for line in textwrap.wrap(printable(note), max(width, 40))]
    if len(shown) < len(lines) - 2:
        notes.insert(0, f"... and {len(lines) - 2 - len(shown)} designs more: see the report")
    if len(kept) < len(widths):
        missing = ", ".join(name for i, name in enumerate(table.header) if i not in kept)
        told = f"no room here for: {missing} (a wider window shows more, the report all)"
        notes += textwrap.wrap(told, max(width, 40))
    return "\n".join([*lines[:2], rule, *shown, *notes])


def _fitting(widths: Sequence[int], numeric: Sequence[bool], width: int) -> list[int]:
    """The columns before the first that does not fit, two spaces between them.

    The important ones come first, so none is shown in the place of one before it. Where no column
    of numbers would be left, all are, and the terminal breaks the lines.
    """
    ends = [end + 2 * place for place, end in enumerate(accumulate(widths))]
    kept = [place for place, end in enumerate(ends) if end <= width]
    shows_numbers = any(numeric[place] for place in kept) or not any(numeric)
    return kept if kept and shows_numbers else list(range(len(widths)))


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    entries = [
        entry.rjust(width) if right else entry.ljust(width)
        for entry, width, right in zip(row, widths, numeric, strict=True)
    ]
    return "  ".join(entries).rstrip()


def _warnings(frame: pd.DataFrame) -> list[str]:
    table = warnings_table(frame)
    rows = [] if table is None else table.rows
    return [
        f"warning ({count} {'cell' if count == '1' else 'cells'}): {text}"
        for text, count in rows[:_REASONS_SHOWN]
    ]


def _states(frame: pd.DataFrame) -> list[str]:
    """How many cells are in each state; of those that are not done, why and an example."""
    lines = []
    for state, rows in frame.groupby("status", sort=True):
        lines.append(f"{len(rows)} {state}")
        if state == "done":
            continue
        told = rows["status_reason"].map(lambda reason: plain(reason, 200))
        reasons = told.map(kind).value_counts()
        for reason, count in reasons.head(_REASONS_SHOWN).items():
            alike = told[told.map(kind) == reason]
            text = common_text(alike.tolist())
            # Where its numbers are cut, one cell's own say what happened.
            own = "" if text == alike.iloc[0] else f": {alike.iloc[0]}"
            example = rows.loc[alike.index[0], "cell_id"]
            lines.append(f"  {count}: {text}\n     for instance {example}{own}")
        if len(reasons) > _REASONS_SHOWN:
            lines.append(f"  and {len(reasons) - _REASONS_SHOWN} other reasons")
    return lines


def timings_text(frame: pd.DataFrame) -> str:
    """Timed training steps, a table a machine, why some have no number, and where a GPU pays."""
    return "\n\n".join(
        [
            *map(_bench_text, benches(frame)),
            "\n".join(map(printable, [*crossovers(frame), *precisions(frame)])),
        ]
    )


def _bench_text(bench: Bench) -> str:
    """The table with remarks of one word, and the reasons in full below."""
    table = timing_table(bench, "timings")
    rows = tuple((*row[:-1], row[-1].partition(":")[0]) for row in table.rows)
    lines = [printable(table.title), aligned(replace(table, rows=rows), _width())]
    remarks = dict.fromkeys(row[-1] for row in table.rows if ":" in row[-1])
    return "\n".join([*lines, *map(printable, (*remarks, *table.notes))])


def record_text(record: CellRecord) -> str:
    """One record for a person to read."""
    lines = [record.cell_id, f"status: {record.status.state}"]
    if record.status.reason:
        lines.append(f"why: {record.status.reason}")
    lines.append(f"comparable as: {record.comparable}")
    lines += ["", "cell (what is not at its default)", *_cell_lines(record)]
    if record.data is not None:
        data = record.data
        lines += [
            "",
            f"data: {data.name}, {data.support}, {data.n_train:,} + {data.n_test:,} images",
        ]
    lines += ["", "metrics (mean +- standard error over n)"]
    lines += [f"  {name:<30} {_metric(metric)}" for name, metric in record.metrics.items()]
    lines += [f"warning: {warning.text}" for warning in record.warnings]
    environment = record.environment
    if environment.versions:
        versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
        lines += [
            "",
            f"machine: {environment.processor}, {_threads(environment.threads)}; {versions}",
        ]
    trace = record.status.detail.get("traceback")
    return "\n".join([*lines, *(["", str(trace).rstrip()] if trace else [])])


def _threads(count: int | None) -> str:
    return "threads not recorded" if count is None else f"{count} thread{'s' * (count != 1)}"


def fact_text(fact: FactRecord) -> str:
    """A timing, or a finding that needs no cell, for a person to read."""
    lines = [fact.record_id, f"kind: {fact.kind}", ""]
    lines += [f"  {name:<30} {value_text(value)}" for name, value in fact.payload.items()]
    environment = fact.environment
    machine = ", ".join(filter(None, (environment.processor, environment.device_name)))
    return "\n".join([*lines, "", f"machine: {machine}, {_threads(environment.threads)}"])


def _cell_lines(record: CellRecord) -> list[str]:
    changed = record.cell.model_dump(exclude_defaults=True)
    return [f"  {axis:<24} {value_text(value)}" for axis, value in changed.items()]


def _metric(metric: Metric) -> str:
    if metric.value is None:
        return f"n/a ({metric.reason})"
    spread = f" +- {metric.se:.3g}" if metric.se is not None else ""
    count = f"  n = {metric.n:,}" if metric.n is not None else ""
    return f"{metric.value:.6g}{spread} {metric.unit}{count}"


def comparison_text(found: Comparison, names: tuple[str, str]) -> str:
    """A comparison for a person to read: what differs, a row a design, what had no partner."""
    lines = [f"A: {names[0]}", f"B: {names[1]}"]
    lines += [
        f"{heading(axis)}: {value_text(a)} in A, {value_text(b)} in B"
        for axis, (a, b) in found.apart.items()
    ]
    lines += ["", aligned(_comparison_table(found), _width())]
    lines += [
        f"{count} records of {side} have no partner in the other and are left out"
        for side, count in zip("AB", found.alone, strict=True)
        if count
    ]
    lines += [
        f"{count} of {side} without a value: {plain(reason)}"
        for side, reasons in zip("AB", found.without, strict=True)
        for reason, count in reasons.items()
    ]
    of = "measurements (the cells of a pack share one)" if is_timing(found.metric) else "seeds"
    lines.append(f"B - A: mean over pairs with its 95 % Student t interval; n: paired {of}")
    if METRICS[found.metric].better is not None:
        lines.append(f"{found.metric}: {METRICS[found.metric].better} is better")
    # A pair's index is its seed, which the rows of several designs share.
    return "\n".join([*lines, *found.notes, *_warnings(found.records.reset_index(drop=True))])


def _comparison_table(found: Comparison) -> Table:
    measured = ("a", "b", "difference", "low", "high", "n", "cells", "together")
    axes = [name for name in map(str, found.frame.columns) if name not in measured]
    name = heading(found.metric)
    return Table(
        name="comparison",
        title="",
        header=(*map(heading, axes), f"{name} A", f"{name} B", "B - A", "n", "verdict"),
        units=(*("" for _ in axes), *(unit(found.metric) for _ in range(3)), "", ""),
        rows=tuple(
            (*(value_text(row[axis]) for axis in axes), *_entries(row, found.metric))
            for row in found.frame.to_dict("records")
        ),
        numeric=(*(axis == "latent_dim" for axis in axes), True, True, True, True, False),
    )


def _entries(row: dict[Hashable, float], metric: str) -> tuple[str, ...]:
    half = (row["high"] - row["low"]) / 2
    if half < _ROUNDING * abs(row["a"]):
        half = 0.0
    spread = f" ± {number(half, half)}" if half > 0 else ""
    count = f"{row['n']:.0f}" + (f" of {row['cells']:.0f}" if row["n"] < row["cells"] else "")
    means = number(row["a"], half), number(row["b"], half)
    return (*means, f"{number(row['difference'], half)}{spread}", count, _verdict(row, metric))


def _verdict(row: dict[Hashable, float], metric: str) -> str:
    if row["n"] == 0 and row["together"]:
        return "timed as one pack"
    if row["n"] == 0:
        return "no seed has a value on both sides"
    if row["n"] == 1:
        return f"one {'measurement' if is_timing(metric) else 'seed'}: no interval"
    if row["low"] <= 0 <= row["high"]:
        return "equal" if row["low"] == row["high"] else "no difference shown"
    if row["high"] - row["low"] < _ROUNDING * abs(row["difference"]):
        return "no spread to judge by"
    higher = row["low"] > 0
    better = METRICS[metric].better
    if better is None:
        return "B is higher" if higher else "A is higher"
    return "B is better" if higher == (better == "higher") else "A is better"


def peers_table() -> str:
    """The sigma that each well-known code base hides, computed from its reductions and weights."""
    rows = [(each.peer, each.setting, f"{each.sigma:.3g}") for each in hidden_sigmas()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"{peer.ljust(widths[0])}  {setting.ljust(widths[1])}  sigma {sigma}"
        for peer, setting, sigma in rows
    )
