"""What a store holds, without what differs from run to run: timings, memory, environment."""

from pathlib import Path

from vaebench.records.store import Store

CLOCK_UNITS = {"s", "ms", "1/s", "MiB"}
CLOCK_ARRAYS = {"step_ms"}


def numbers(root: Path) -> dict[str, object]:
    """Everything that must be the same bit for bit, by the cell's name."""
    store = Store(root)
    return {name: _cell(store, name) for name in store.states()}


def _cell(store: Store, name: str) -> object:
    record = store.read(name)
    metrics = {
        key: (metric.value, metric.se, metric.n, metric.reason)
        for key, metric in record.metrics.items()
        if metric.unit not in CLOCK_UNITS
    }
    arrays = {
        key: (array.dtype.str, array.shape, array.tobytes())
        for key, array in store.arrays(name).items()
        if key not in CLOCK_ARRAYS
    }
    # How a cell came to be trained is told beside its numbers, as the clock is.
    warnings = [each for each in record.warnings if each.code not in ("retried", "resumed")]
    return record.status, metrics, record.series, warnings, arrays
