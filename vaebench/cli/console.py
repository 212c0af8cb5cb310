"""Text on the terminal for a store, a record, timings or a comparison."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from vaebench.analysis.columns import heading, unit_of_rows
from vaebench.analysis.comparability import is_timing
from vaebench.analysis.comparison import Comparison
from vaebench.analysis.contrasts import LEVEL
from vaebench.analysis.frame import load_with_damage, outdated_notes, without_superseded
from vaebench.analysis.kinds import by_kind
from vaebench.analysis.labels import plain, value_text
from vaebench.analysis.summary import number
from vaebench.analysis.timing import benches, crossovers, precisions
from vaebench.cli.tables import aligned, selected_columns
from vaebench.grid.values import plural
from vaebench.records.metrics import METRICS
from vaebench.records.schema import CellRecord, Environment, FactRecord, Metric
from vaebench.report.overview import result_tables, warnings_table
from vaebench.report.tables import Table
from vaebench.report.timings import timing_table
from vaebench.system.terminal import printable

_METRICS_SHOWN = ("elbo", "kl", "bits_per_dim", "mse", "active_units")
_MOST_REASONS = 6
# A spread below this share of the values is rounding.
_ROUNDING = 1e-9


def store_text(store: Path | str, most_rows: int | None = None) -> str:
    """Return the text of `frame_text` for a results folder."""
    return frame_text(load_with_damage(store)[0], most_rows)


def frame_text(every: pd.DataFrame, most_rows: int | None = None) -> str:
    """Return the designs of a store with their main metrics, the warnings, and the states.

    Args:
        every: the tidy frame of the store.
        most_rows: the largest number of designs in a table; a note gives the number left out.
    """
    frame = without_superseded(every)
    main = {heading(name, bound) for name in _METRICS_SHOWN for bound in (True, False)}
    parts = []
    for table in result_tables(frame):
        if not table.numbers[["elbo", "mse"]].notna().any(axis=None):
            continue  # no cell of the table has a result; `_state_lines` gives the reasons
        kept = [i for i, name in enumerate(table.header) if not table.units[i] or name in main]
        parts.append(f"{table.title}\n{aligned(selected_columns(table, kept), most_rows)}")
    lines = [*outdated_notes(every), *_warning_lines(frame), *_state_lines(frame)]
    return "\n\n".join([*parts, "\n".join(lines)])


def _warning_lines(frame: pd.DataFrame) -> list[str]:
    """Return a line for each warning, with the number of cells that have it."""
    table = warnings_table(frame)
    rows = [] if table is None else table.rows[:_MOST_REASONS]
    return [f"warning ({plural(int(count), 'cell')}): {text}" for text, count in rows]


def _state_lines(frame: pd.DataFrame) -> list[str]:
    """Return the number of cells in each state, and reasons with an example for cells not done."""
    lines = []
    for state, rows in frame.groupby("status", sort=True):
        lines.append(f"{len(rows)} {state}")
        if state == "done":
            continue
        reasons = rows["status_reason"].map(lambda reason: plain(reason, 200))
        kinds = sorted(by_kind(reasons), key=lambda group: -len(group[1]))
        for text, similar in kinds[:_MOST_REASONS]:
            # If numbers were removed from the text, the example shows those of one cell.
            own = "" if text == similar.iloc[0] else f": {similar.iloc[0]}"
            example = rows.loc[similar.index[0], "cell_id"]
            lines.append(f"  {len(similar)}: {text}\n     for instance {example}{own}")
        if len(kinds) > _MOST_REASONS:
            lines.append(f"  and {len(kinds) - _MOST_REASONS} other reasons")
    return lines


def timings_text(frame: pd.DataFrame) -> str:
    """Return tables of timed steps per machine, remarks, and sizes at which a GPU is faster."""
    parts = []
    for bench in benches(frame):
        table = timing_table(bench, "timings")
        # The last column has the first words of a remark; the whole remark is below the table.
        rows = tuple((*row[:-1], row[-1].partition(":")[0]) for row in table.rows)
        reasons = dict.fromkeys(row[-1] for row in table.rows if ":" in row[-1])
        text = [printable(table.title), aligned(replace(table, rows=rows))]
        parts.append("\n".join([*text, *map(printable, (*reasons, *table.notes))]))
    return "\n\n".join(
        [*parts, "\n".join(map(printable, [*crossovers(frame), *precisions(frame)]))]
    )


def record_text(record: CellRecord) -> str:
    """Return the record of a cell as text."""
    lines = [record.cell_id, f"status: {record.status.state}"]
    images = not record.is_of_rows
    if record.status.reason:
        lines.append(f"why: {record.status.reason}")
    changed = record.cell.model_dump(exclude_defaults=True)
    lines += [f"comparable as: {record.comparable}", "", "cell (values that are not defaults)"]
    lines += [f"  {axis:<24} {value_text(value)}" for axis, value in changed.items()]
    if record.data is not None:
        data = record.data
        examples = "images" if images else "rows"
        counts = f"{data.n_train:,} + {data.n_test:,} {examples}"
        lines += ["", f"data: {data.name}, {data.support}, {counts}"]
    lines += ["", "metrics (mean +- standard error over n)"]
    lines += [
        f"  {name:<30} {_metric_text(metric, images)}" for name, metric in record.metrics.items()
    ]
    lines += [f"warning: {warning.text}" for warning in record.warnings]
    if record.environment.versions:
        lines += ["", _machine(record.environment)]
    trace = record.status.detail.get("traceback")
    return "\n".join([*lines, *(["", str(trace).rstrip()] if trace else [])])


def fact_text(fact: FactRecord) -> str:
    """Return the record of a timing, or of a finding without cells, as text."""
    lines = [fact.record_id, f"kind: {fact.kind}", ""]
    lines += [f"  {name:<30} {value_text(value)}" for name, value in fact.payload.items()]
    return "\n".join([*lines, "", _machine(fact.environment)])


def _machine(environment: Environment) -> str:
    names = filter(None, (environment.processor, environment.device_name))
    count = environment.threads
    threads = "threads not recorded" if count is None else plural(count, "thread")
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return f"machine: {', '.join((*names, threads))}{f'; {versions}' if versions else ''}"


def _metric_text(metric: Metric, images: bool) -> str:
    if metric.value is None:
        return f"n/a ({metric.reason})"
    spread = f" +- {metric.se:.3g}" if metric.se is not None else ""
    count = f"  n = {metric.n:,}" if metric.n is not None else ""
    return (
        f"{metric.value:.6g}{spread} {metric.unit if images else unit_of_rows(metric.unit)}{count}"
    )


def comparison_text(found: Comparison, names: tuple[str, str]) -> str:
    """Return a comparison as text: the axes that differ, a row per design, and missing pairs."""
    lines = [f"A: {names[0]}", f"B: {names[1]}"]
    lines += [
        f"{heading(axis)}: {value_text(a)} in A, {value_text(b)} in B"
        for axis, (a, b) in found.apart.items()
    ]
    lines += ["", aligned(_comparison_table(found))]
    lines += [
        f"{count} records of {side} have no partner in the other store and are left out"
        for side, count in zip("AB", found.alone, strict=True)
        if count
    ]
    lines += [
        f"{count} records of {side} have no value: {plain(reason)}"
        for side, reasons in zip("AB", found.without, strict=True)
        for reason, count in reasons.items()
    ]
    pairs = "measurements (the cells of a pack share one)" if is_timing(found.metric) else "seeds"
    lines.append(
        f"B - A: mean over pairs with its 95 % Student t interval; n: paired {pairs}; p: p-value "
        "of the paired t test, Holm-adjusted for the rows"
    )
    better = METRICS[found.metric].better
    if better is not None:
        lines.append(f"{found.metric}: {better} is better")
    # The index of a pair is its seed, which the rows of several designs share.
    return "\n".join([*lines, *found.notes, *_warning_lines(found.records.reset_index(drop=True))])


def _comparison_table(found: Comparison) -> Table:
    measured = ("a", "b", "difference", "low", "high", "p", "n", "cells", "together")
    axes = [name for name in map(str, found.frame.columns) if name not in measured]
    name = heading(found.metric)
    return Table(
        name="comparison",
        title="",
        header=(*map(heading, axes), f"{name} A", f"{name} B", "B - A", "n", "p", "verdict"),
        units=(*("" for _ in axes), *(found.unit for _ in range(3)), "", "", ""),
        rows=tuple(
            (*(value_text(row[axis]) for axis in axes), *_entries(row, found.metric))
            for row in found.frame.to_dict("records")
        ),
        numeric=(*(axis == "latent_dim" for axis in axes), *(True,) * 5, False),
    )


def _entries(row: dict[Hashable, float], metric: str) -> tuple[str, ...]:
    """Return the entries of a row: means, difference, number of pairs, p-value and verdict."""
    half = (row["high"] - row["low"]) / 2
    if half < _ROUNDING * abs(row["a"]):
        half = 0.0
    spread = f" ± {number(half, half)}" if half > 0 else ""
    count = f"{row['n']:.0f}" + (f" of {row['cells']:.0f}" if row["n"] < row["cells"] else "")
    means = number(row["a"], half), number(row["b"], half)
    return (
        *means,
        f"{number(row['difference'], half)}{spread}",
        count,
        "n/a" if math.isnan(row["p"]) else f"{row['p']:.2g}",
        comparison_verdict(row, metric),
    )


def comparison_verdict(row: dict[Hashable, float], metric: str) -> str:
    """Return the verdict on a row of a comparison in words."""
    if row["n"] == 0:
        return "timed as one pack" if row["together"] else "no seed has a value on both sides"
    if row["n"] == 1:
        return f"one {'measurement' if is_timing(metric) else 'seed'}: no interval"
    if row["low"] == row["high"] == 0:
        return "equal"
    if row["high"] - row["low"] < _ROUNDING * abs(row["difference"]):
        return "no spread between pairs: no interval"
    if row["p"] >= LEVEL:
        return "no difference shown"
    higher = row["difference"] > 0
    better = METRICS[metric].better
    word = "higher" if better is None else "better"
    return f"{'B' if higher == (better != 'lower') else 'A'} is {word}"
