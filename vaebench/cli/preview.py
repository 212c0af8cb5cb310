"""What a run would do, in words, for ``vaebench run --dry-run``; nothing is trained or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vaebench.data.catalog import locate, remedy
from vaebench.errors import DataMissing
from vaebench.grid.boxes import Box, volume
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.engines.base import Engine
from vaebench.runner.plan import Estimate, Plan, estimate, lack_of_memory, make_plan
from vaebench.runner.run import devices_of, surveyed

__all__ = ["Ask", "duration", "preview"]

_LISTED_AT_MOST = 20_000
_SAMPLE = 1_000
_FIRST = 20


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

    A grid of more than 20,000 cells is counted and priced from a sample, in constant memory.

    Raises:
        DataMissing, DataInvalid: a data set of the user's own can't be had.
        GridError: a cell asks for more images than there are, or for a network that isn't there.
    """
    about = f" ({grid.description})" if grid.description else ""
    yield f"{grid.name}: {_cells(grid.count)}{about}"
    yield from (f"note: {note}" for note in grid.notes)
    yield from (_large if grid.count > _LISTED_AT_MOST else _whole)(grid, store, ask)


def _whole(grid: Grid, store: Store, ask: Ask) -> Iterator[str]:
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
        yield from _machines(cells, len(cells), ask)
    else:
        yield "to do: nothing"


def _large(grid: Grid, store: Store, ask: Ask) -> Iterator[str]:
    """The first cells, and a price scaled up from a sample."""
    first = Grid.of(grid.name, islice(grid.iter_cells(), _FIRST))
    yield from (f"  {planned.cell_id}" for planned in _plan(first, store, ask).todo)
    yield f"  ... and {grid.count - _FIRST:,} more; so large a grid is better cut into several"
    yield from _machines(list(_sample(grid)), grid.count, ask)


def _machines(cells: Sequence[Cell], count: int, ask: Ask) -> Iterator[str]:
    """What the machines lack for such cells, and what so many of them cost there."""
    devices = {cell.device for cell in cells}
    jobs = ask.engine.jobs(ask.jobs, devices)
    elsewhere = ask.engine.elsewhere()
    if elsewhere is None:
        yield from _absent_devices(devices)
        yield from _lack_of_memory(cells, jobs)
    else:
        yield f"workers: on {elsewhere}"
    yield _price([estimate(cell) for cell in cells], count, jobs)


def _plan(grid: Grid, store: Store, ask: Ask) -> Plan:
    # As a run has it, so that what it would do again is not taken for done.
    states, _, _ = surveyed(store) if store.root.exists() else ({}, [], set())
    for name in store.without_weights() if ask.keep_weights else []:
        states.pop(name, None)
    return make_plan(grid, states, devices_of(grid, ask.engine), retry_failed=ask.retry_failed)


def _sample(grid: Grid) -> Iterator[Cell]:
    """Cells drawn evenly from the whole grid, the same ones each time."""
    places = np.random.default_rng(0).integers(0, grid.count, size=_SAMPLE)
    for place in sorted(places.tolist()):
        rest = int(place)
        for box in grid.boxes:
            if rest < volume(box):
                yield Cell.model_validate(_combination(box, rest))
                break
            rest -= volume(box)


def _combination(box: Box, place: int) -> dict[str, object]:
    """The combination of a box at a place, counted with the last axis varying fastest."""
    found: dict[str, object] = {}
    for axis, values in reversed(tuple(box.items())):
        place, index = divmod(place, len(values))
        found[axis] = values[index]
    return found


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


def _price(prices: Sequence[Estimate], count: int, jobs: int) -> str:
    jobs = min(jobs, count)
    seconds = sum(price.seconds for price in prices) * count / len(prices) / jobs
    memory = max(price.memory_mib for price in prices)
    words = "1 job" if jobs == 1 else f"{jobs} jobs"
    return (
        f"to do: {_cells(count)}, roughly {duration(seconds)} with {words}, "
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
