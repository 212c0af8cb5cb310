"""``vaebench.run``: the runner for Python callers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Unpack

from vaebench.data.own_data import keep_arrays
from vaebench.data.places import storage_folder
from vaebench.errors import UsageError
from vaebench.grid.spec import Grid
from vaebench.records.store import Store, folder_of
from vaebench.runner.run import RunOptions, RunSummary, run_grid


def run(
    grid: Grid | str | Path | Mapping[str, object],
    output: Path | str | None = None,
    *,
    overrides: Mapping[str, Iterable[object]] | None = None,
    data: Mapping[str, object] | None = None,
    data_dir: Path | str | None = None,
    **options: Unpack[RunOptions],
) -> RunSummary:
    """Run a grid; a cell that already has a record is not run again.

    Args:
        grid: a Grid, the name of a packaged grid, a TOML file, or a mapping of its content.
        output: the results folder, by default ``results/<grid>``.
        overrides: maps an axis to its values, like ``--set``; not allowed with a Grid.
        data: a data set that replaces that of the grid: maps ``train``, ``test``, ``valid``,
            ``train_labels`` and so on to arrays. An array is a NumPy array, a tensor, or a torch
            ``Dataset`` of images or of pairs of image and label. Only ``train`` is required. The
            arrays are saved in a file in the data folder.
        data_dir: the folder that is searched first for data files.
        options: those of `vaebench.runner.run.run_grid`:

            * ``jobs``: number of worker processes; by default one for each core.
            * ``retry_failed``: train cells again that failed, diverged or exceeded the time limit.
            * ``wait``: wait if another run uses the folder.
            * ``largest_pack``: the largest number of cells that are trained as one program.
            * ``time_limit``: seconds that a cell may take, including evaluation; a cell that takes
              longer is stopped and recorded as ``timeout``.
            * ``keep_weights``: keep the trained weights of each cell, for `load_model`; a finished
              cell without weights in the folder is trained again.
            * ``evaluate_again``: do not train; evaluate the cells of the grid again from kept
              weights, with the present metrics and evaluation settings.
            * ``engine``: ``local`` trains on this machine, ``ray`` on a Ray cluster.

    Raises:
        UsageError: overrides or data with a Grid, an override that is not a list of values, an
            option that is not positive, or an unknown engine.
        EngineError: no worker can be started.
        GridError: the grid is not valid; the error lists all problems.
        DataMissing, DataInvalid: a data set is missing or cannot be used.
        StoreBusy, StorageError: another run uses the folder, or it cannot be written.
    """
    forced = override_lists(overrides)
    folder = None if data_dir is None else Path(data_dir)
    if data is not None:
        forced["dataset"] = [str(keep_arrays(data, storage_folder(folder)))]
    if isinstance(grid, Mapping):
        grid = Grid.from_dict(grid, forced)
    elif not isinstance(grid, Grid):
        grid = Grid.load(str(grid), forced)
    elif forced:
        raise UsageError(
            "overrides and data cannot be given with a Grid object: pass the name, file or mapping "
            "of the grid, or change the grid itself"
        )
    store = Store(folder_of(output, Path("results") / grid.name))
    return run_grid(grid, store, data_dir=folder, **options)


def override_lists(overrides: Mapping[str, Iterable[object]] | None) -> dict[str, list[object]]:
    """Return the values of each axis as a list; NumPy arrays and ranges are accepted."""
    if overrides is not None and not isinstance(overrides, Mapping):
        raise UsageError(f"overrides must map each axis to a list of values; got {overrides!r}")
    lists = {}
    for axis, values in (overrides or {}).items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
            raise UsageError(f"overrides: {axis} must be a list of values, such as [{values!r}]")
        lists[axis] = list(values)
    return lists
