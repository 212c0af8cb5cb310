"""Print the plan of a run for ``vaebench run --dry-run``, without training or writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vaebench.data.catalog import absent_data, remedy
from vaebench.errors import ExitCode
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.grid.values import plural
from vaebench.records.store import Store
from vaebench.runner.engines import engine_of
from vaebench.runner.plan import Plan, estimates, lack_of_memory, make_plan
from vaebench.runner.run import devices_of, surveyed
from vaebench.system.terminal import waiting


def preview(
    grid: Grid, store: Store, options: Mapping[str, Any], echo: Callable[[str], None]
) -> set[ExitCode]:
    """Print the cells that would be trained, the notes of the grid, and estimates of the cost.

    Args:
        grid: the cells of the run.
        store: the results folder.
        options: the options of `vaebench.run`.
        echo: called with each line.

    Returns:
        The exit codes of the run that are due to missing data or devices.

    Raises:
        DataMissing, DataInvalid: a user's data set cannot be read.
        GridError: a size exceeds the number of images, or a user's network does not exist.
    """
    with engine_of(options["engine"]) as engine:
        about = f" ({grid.description})" if grid.description else ""
        echo(f"{grid.name}: {plural(len(grid.cells), 'cell')}{about}")
        for note in grid.notes:
            echo(f"note: {note}")
        # As in a run, so that cells that would be trained again are not counted as done.
        found = surveyed(store, options["keep_weights"])
        keys = ("retry_failed", "data_dir")
        with waiting("reading the data", echo):
            plan = make_plan(
                grid, found.states, devices_of(grid, engine), **{key: options[key] for key in keys}
            )
        for line in _plan_lines(plan):
            echo(line)
        missing = absent_data(plan.data_sets(), options["data_dir"])
        for name in missing:
            echo(f"  data {name}: not found; the run needs it: {remedy(name)}")
        cells = [planned.cell for planned in plan.todo]
        jobs = min(engine.jobs(options["jobs"], {cell.device for cell in cells}), len(cells))
        elsewhere = engine.elsewhere()
    absent = {} if elsewhere else _absent_devices(cells)
    for device, why in absent.items():
        echo(f"  device {device}: unavailable, {why}")
    lack = lack_of_memory(cells, jobs) if cells and not elsewhere else None
    if lack is not None:
        echo(f"  {lack}")
    if elsewhere and cells:
        echo(f"workers: on {elsewhere}")
    echo(_cost(cells, jobs))
    if missing:
        echo(f"this run cannot start: data sets are missing ({', '.join(missing)})")
        return {ExitCode.DATA}
    if absent:
        count = sum(cell.device in absent for cell in cells)
        echo(f"this run would record {plural(count, 'cell')} as unavailable: the device is missing")
        return {ExitCode.SOME_FAILED}
    return set()


def _plan_lines(plan: Plan) -> Iterator[str]:
    yield from (f"  {planned.cell_id}" for planned in plan.todo)
    yield from (f"note: {note}" for note in plan.notes)
    if plan.repeated:
        yield f"  {plan.repeated} duplicate cells, each run once"
    if plan.finished:
        yield f"  {len(plan.finished)} cells that already have a record"
    for name, kind in plan.left_alone.items():
        why = "cannot be read" if kind == "unreadable" else "was written by a newer vaebench"
        yield f"  {name}: its record {why} and is not replaced"


def _absent_devices(cells: Sequence[Cell]) -> dict[str, str]:
    """Return why a device of the cells is absent, by its name."""
    named = sorted({cell.device for cell in cells} - {"cpu", "available"})
    if not named:
        return {}
    from vaebench.runner.machine import absent_device  # imports torch

    reasons = {device: absent_device(device) for device in named}
    return {device: why for device, why in reasons.items() if why is not None}


def _cost(cells: Sequence[Cell], jobs: int) -> str:
    if not cells:
        return "to do: nothing"
    costs = estimates(cells)
    seconds = sum(each.seconds for each in costs) / jobs
    memory = max(each.memory_mib for each in costs)
    return (
        f"to do: {plural(len(cells), 'cell')}, roughly {duration(seconds)} with "
        f"{plural(jobs, 'job')}, up to {memory:,.0f} MiB per job (an estimate; the run updates it "
        f"after the first cells)"
    )


def duration(seconds: float) -> str:
    """Return a duration with a suitable unit.

    >>> duration(42.3), duration(600.0), duration(7300.0)
    ('42 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"
