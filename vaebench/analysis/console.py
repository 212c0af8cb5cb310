"""What a terminal shows of records: a summary table, one record, the hidden sigmas."""

from __future__ import annotations

from pathlib import Path

from vaebench.analysis.frame import load_results
from vaebench.analysis.overview import result_tables
from vaebench.analysis.tables import Table
from vaebench.auditing.peers import hidden_sigmas
from vaebench.records.schema import CellRecord, Metric

__all__ = ["peers_table", "record_text", "summary_table"]

_SHOWN = ("elbo", "kl", "bits_per_dim", "mse", "active units")


def summary_table(store: Path | str) -> str:
    """The designs of a store with their main metrics, one aligned table for what may be compared."""
    frame = load_results(store)
    parts = []
    for overview in result_tables(frame):
        table = overview.table
        parts.append(f"{table.title}\n{_aligned(table)}")
    return "\n\n".join(parts) if parts else "no cell of this store has a result"


def _aligned(table: Table) -> str:
    """Columns as wide as their entries; numbers flush right; no colour, no box characters."""
    keep = [i for i, name in enumerate(table.header) if not table.units[i] or _is_main(name)]
    heads = [table.header[i] + (f" [{table.units[i]}]" if table.units[i] else "") for i in keep]
    rows = [heads, *([row[i] for i in keep] for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(keep))]
    numeric = [table.numeric[i] for i in keep]
    lines = []
    for row in rows:
        entries = [
            entry.rjust(width) if right else entry.ljust(width)
            for entry, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(entries).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *table.notes])


def _is_main(heading: str) -> bool:
    return heading.lower().replace("_", " ") in {name.replace("_", " ") for name in _SHOWN}


def record_text(record: CellRecord) -> str:
    """One record for a person to read."""
    lines = [record.cell_id, f"status: {record.status.state}"]
    if record.status.reason:
        lines.append(f"why: {record.status.reason}")
    lines.append(f"comparable as: {record.comparable}")
    changed = record.cell.model_dump(mode="json", exclude_defaults=True)
    lines += ["", "cell (what is not at its default)"]
    lines += [f"  {axis:<24} {value}" for axis, value in changed.items()]
    if record.data is not None:
        data = record.data
        lines += [
            "",
            f"data: {data.name}, {data.support}, {data.n_train:,} + {data.n_test:,} images",
        ]
    lines += ["", "metrics (mean +- standard error over n)"]
    lines += [f"  {name:<30} {_metric(metric)}" for name, metric in record.metrics.items()]
    lines += [f"warning: {warning}" for warning in record.warnings]
    environment = record.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    lines += ["", f"machine: {environment.processor}, {environment.threads} threads; {versions}"]
    return "\n".join(lines)


def _metric(metric: Metric) -> str:
    if metric.value is None:
        return f"n/a ({metric.reason})"
    spread = f" +- {metric.se:.3g}" if metric.se is not None else ""
    count = f"  n = {metric.n:,}" if metric.n is not None else ""
    return f"{metric.value:.6g}{spread} {metric.unit}{count}"


def peers_table() -> str:
    """The sigma that each well-known code base hides, computed from its reductions and weights."""
    rows = [(each.peer, each.setting, f"{each.sigma:.3g}") for each in hidden_sigmas()]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(
        f"{peer.ljust(widths[0])}  {setting.ljust(widths[1])}  sigma {sigma}"
        for peer, setting, sigma in rows
    )
