"""The plan of a run in words, for ``vaebench run --dry-run``; nothing is trained or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaebench.cli.output import plural
from vaebench.data.catalog import locate, remedy
from vaebench.errors import DataMissing
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.engines.base import Engine
from vaebench.runner.plan import Plan, estimates, lack_of_memory, make_plan
from vaebench.runner.run import devices_of, surveyed

__all__ = ["Ask", "duration", "preview"]


@dataclass(frozen=True)
class Ask:
    """How a grid would be run; the fields are those of `run_grid`."""

    data_dir: Path | None
    jobs: int | None
    retry_failed: bool
    keep_weights: bool
    engine: Engine


def preview(grid: Grid, store: Store, ask: Ask) -> Iterator[str]:
    """Yield which cells would run, which collapse and why, and the estimated time and memory.

    Raises:
        DataMissing, DataInvalid: a data set of the user cannot be read.
        GridError: a cell asks for more images than there are, or for a missing network.
    """
    about = f" ({grid.description})" if grid.description else ""
    yield f"{grid.name}: {plural(len(grid.cells), 'cell')}{about}"
    yield from (f"note: {note}" for note in grid.notes)
    plan = _plan(grid, store, ask)
    yield from (f"  {planned.cell_id}" for planned in plan.todo)
    if plan.repeated:
        yield f"  and {plan.repeated} duplicates, which are run once"
    if plan.finished:
        yield f"  and {len(plan.finished)} that already have a record"
    for name, kind in plan.left_alone.items():
        why = "cannot be read" if kind == "unreadable" else "was written by a newer vaebench"
        yield f"  {name}: its record {why} and is left alone"
    for name in plan.data_sets():
        try:
            locate(name, ask.data_dir)
        except DataMissing:
            yield f"  data {name}: not found, and a run needs it: {remedy(name)}"
    if plan.todo:
        yield from _cost([planned.cell for planned in plan.todo], ask)
    else:
        yield "to do: nothing"


def _plan(grid: Grid, store: Store, ask: Ask) -> Plan:
    # As in a run, so that cells that it would train again do not count as done.
    found, devices = surveyed(store, ask.keep_weights), devices_of(grid, ask.engine)
    return make_plan(
        grid, found.states, devices, retry_failed=ask.retry_failed, data_dir=ask.data_dir
    )


def _cost(cells: Sequence[Cell], ask: Ask) -> Iterator[str]:
    """Yield what the machines lack for the cells, then the estimated time and memory."""
    devices = {cell.device for cell in cells}
    jobs = min(ask.engine.jobs(ask.jobs, devices), len(cells))
    elsewhere = ask.engine.elsewhere()
    if elsewhere is None:
        yield from _absent_devices(devices)
        lack = lack_of_memory(cells, jobs)
        yield from [] if lack is None else [f"  {lack}"]
    else:
        yield f"workers: on {elsewhere}"
    costs = estimates(cells)
    seconds = sum(each.seconds for each in costs) / jobs
    memory = max(each.memory_mib for each in costs)
    yield (
        f"to do: {plural(len(cells), 'cell')}, roughly {duration(seconds)} with "
        f"{plural(jobs, 'job')}, up to {memory:,.0f} MiB per job (an estimate; the first cells "
        f"will refine it)"
    )


def _absent_devices(devices: set[str]) -> Iterator[str]:
    named = sorted(devices - {"cpu", "available"})
    if named:
        from vaebench.runner.machine import absent_device

        for device in named:
            why = absent_device(device)
            if why is not None:
                yield f"  device {device}: unavailable, {why}"


def duration(seconds: float) -> str:
    """Return a time span in a readable unit.

    >>> duration(42.3), duration(600.0), duration(7300.0)
    ('42 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"
