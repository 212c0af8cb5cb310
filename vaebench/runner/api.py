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
        overrides: axis -> values, as ``--set`` does; not with a Grid, which is already built.
        data: the data set of every cell, in place of the grid's: arrays by the names ``train``,
            ``test``, ``valid`` and ``train_labels`` and so on. An array is a NumPy array, a tensor,
            or a torch ``Dataset`` of images or of pairs of image and label. Only ``train`` must be
            given. They are kept as a file in the data folder.
        data_dir: where data files are looked for first.
        options: those of `vaebench.runner.run.run_grid`:

            * ``jobs``: worker processes, one a core by default.
            * ``retry_failed``: try again what failed, diverged or ran out of time.
            * ``wait``: wait for another run that holds the folder.
            * ``largest_pack``: how many cells of equal shapes are trained as one program at most.
            * ``time_limit``: seconds that a cell may take, evaluation included; one that takes
              longer, or hangs, is ended and recorded as ``timeout``.
            * ``keep_weights``: keep the trained weights of each cell, for `load_model`; a finished
              cell without weights in the folder is trained again.
            * ``evaluate_again``: train nothing; evaluate the cells of the grid again from kept
              weights, with the metrics and evaluation settings of now.
            * ``engine``: ``local`` trains on this machine, ``ray`` on those of a Ray cluster.

    Raises:
        UsageError: overrides for a Grid, an override that is not a list of values, or a time limit,
            a number of jobs or cells that is not positive, or there is no such engine.
        EngineError: no worker can be started.
        GridError: the grid is wrong; it carries all problems at once.
        DataMissing, DataInvalid: a data set is missing or cannot be used.
        StoreBusy, StorageError: the folder is held by another run, or cannot be written.
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
            "overrides and data go with the name, file or mapping of a grid; this grid is built"
        )
    store = Store(folder_of(output, Path("results") / grid.name))
    return run_grid(grid, store, data_dir=folder, **options)


def override_lists(overrides: Mapping[str, Iterable[object]] | None) -> dict[str, list[object]]:
    """The values of each axis as a list; numpy arrays and ranges are accepted."""
    if overrides is not None and not isinstance(overrides, Mapping):
        raise UsageError(f"overrides: needs a mapping of axis to values; got {overrides!r}")
    lists = {}
    for axis, values in (overrides or {}).items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
            raise UsageError(f"overrides: {axis} needs a list of values, [{values!r}] for one")
        lists[axis] = list(values)
    return lists
