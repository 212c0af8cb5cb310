"""What a run would do, in words, for ``vaebench run --dry-run``; nothing is trained or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaebench.data.catalog import locate, remedy
from vaebench.errors import DataMissing
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.engines.base import Engine
from vaebench.runner.plan import Estimate, Plan, estimates, lack_of_memory, make_plan
from vaebench.runner.run import devices_of, surveyed

__all__ = ["Ask", "duration", "preview"]


@dataclass(frozen=True)
class Ask:
    """How a grid would be run."""

    data_dir: Path | None
    jobs: int | None
    retry_failed: bool
    keep_weights: bool
    engine: Engine


def preview(grid: Grid, store: Store, ask: Ask) -> Iterator[str]:
    """Lines that say which cells would run, what collapsed and why, and the estimated price.

    Raises:
        DataMissing, DataInvalid: a data set of the user's own can't be had.
        GridError: a cell asks for more images than there are, or for a network that isn't there.
    """
    about = f" ({grid.description})" if grid.description else ""
    yield f"{grid.name}: {_cells(len(grid.cells))}{about}"
    yield from (f"note: {note}" for note in grid.notes)
    plan = _plan(grid, store, ask)
    yield from (f"  {planned.cell_id}" for planned in plan.todo)
    if plan.repeated:
        stand = "stands" if plan.repeated == 1 else "stand"
        yield f"  and {plan.repeated} that {stand} there twice"
    if plan.finished:
        yield f"  and {len(plan.finished)} that have a record already"
    for name in plan.newer:
        yield f"  {name}: its record was written by a newer vaebench and is left alone"
    yield from _absent_data(plan, ask.data_dir)
    cells = [planned.cell for planned in plan.todo]
    if cells:
        yield from _machines(cells, ask)
    else:
        yield "to do: nothing"


def _machines(cells: Sequence[Cell], ask: Ask) -> Iterator[str]:
    """What the machines lack for such cells, and what so many of them cost there."""
    devices = {cell.device for cell in cells}
    jobs = ask.engine.jobs(ask.jobs, devices)
    elsewhere = ask.engine.elsewhere()
    if elsewhere is None:
        yield from _absent_devices(devices)
        yield from _lack_of_memory(cells, jobs)
    else:
        yield f"workers: on {elsewhere}"
    yield _price(estimates(cells), jobs)


def _plan(grid: Grid, store: Store, ask: Ask) -> Plan:
    # As a run has it, so that what it would do again is not taken for done.
    states, _, _ = surveyed(store) if store.root.exists() else ({}, [], set())
    for name in store.without_weights() if ask.keep_weights else []:
        states.pop(name, None)
    return make_plan(grid, states, devices_of(grid, ask.engine), retry_failed=ask.retry_failed)


def _absent_devices(devices: set[str]) -> Iterator[str]:
    named = sorted(devices - {"cpu", "available"})
    if not named:
        return
    from vaebench.runner.machine import absent_device

    for device in named:
        why = absent_device(device)
        if why is not None:
            yield f"  device {device}: unavailable, {why}"


def _absent_data(plan: Plan, data_dir: Path | None) -> Iterator[str]:
    """A plan needs no images; a run does."""
    for name in plan.data_sets():
        try:
            locate(name, data_dir)
        except DataMissing:
            yield f"  data {name}: not found, and a run needs it: {remedy(name)}"


def _lack_of_memory(cells: Sequence[Cell], jobs: int) -> Iterator[str]:
    lack = lack_of_memory(cells, min(jobs, len(cells)))
    if lack is not None:
        yield f"  {lack}"


def _price(prices: Sequence[Estimate], jobs: int) -> str:
    jobs = min(jobs, len(prices))
    seconds = sum(price.seconds for price in prices) / jobs
    memory = max(price.memory_mib for price in prices)
    words = "1 job" if jobs == 1 else f"{jobs} jobs"
    return (
        f"to do: {_cells(len(prices))}, roughly {duration(seconds)} with {words}, "
        f"up to {memory:,.0f} MiB a job (estimates; the first cells will tell)"
    )


def _cells(count: int) -> str:
    return f"{count:,} cell{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """A time span in the unit that a person would choose.

    >>> duration(42.3), duration(600.0), duration(7300.0)
    ('42 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"
