"""Which kept weights a cell can be evaluated by again, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from vaebench.errors import ArraysDamaged, UsageError, WeightsMissing
from vaebench.grid.cell import AXES, EVALUATION_SETTINGS, Cell, cell_id
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store
from vaebench.runner.messages import Arrays, Task, Trained
from vaebench.runner.plan import Planned


def tasks_again(
    cells: Sequence[Planned], store: Store, base: Task, echo: Callable[[str], None]
) -> list[Task]:
    """A task for each cell that a stored cell has weights for: its own, or of the same training.

    Two cells have the same training and the same weights if they differ in evaluation settings
    only. Weights of other data, or of an older version of the numerics, are not used.

    Args:
        cells: what to evaluate.
        store: where the weights are.
        base: a task with everything that the tasks have in common.
        echo: prints how many cells have no weights.

    Raises:
        UsageError: no cell has any.
    """
    donors = list(_with_weights(store))
    own = {record.cell_id: record for record in donors}
    by_training = {_training_of(record): record for record in donors}
    sources = {(_checksum(record), record.network_sha256) for record in donors}
    tasks = []
    for planned in cells:
        record = own.get(planned.cell_id)
        for checksum, network in sources if record is None else ():
            if cell_id(planned.cell, checksum, network) == planned.cell_id:
                key = cell_id(_evaluated_by_default(planned.cell), checksum, network)
                record = record or by_training.get(key)
        if record is None:
            continue
        arrays: Arrays = {}
        with suppress(ArraysDamaged):
            arrays = store.arrays(record.cell_id)
        with suppress(WeightsMissing):
            trained = Trained(record, arrays, store.weights(record.cell_id))
            cells_of_task, names = (planned.cell,), (planned.cell_id,)
            task = replace(base, cells=cells_of_task, cell_ids=names, trained=trained)
            tasks.append(replace(task, checkpoints=None))
    if not tasks:
        raise UsageError(
            f"no cell of {base.grid} has kept weights in {store.root} to be evaluated again: "
            "run the grid with --keep-weights first"
        )
    if len(tasks) < len(cells):
        echo(f"note: no weights were kept for {len(cells) - len(tasks)} of {len(cells)} cells")
    return tasks


def _with_weights(store: Store) -> Iterator[CellRecord]:
    """Finished cells of the present numerics whose records name weights."""
    for record in store.iter_records():
        if (
            isinstance(record, CellRecord)
            and record.status.state == "done"
            and record.weights_sha256 is not None
            and cell_id(record.cell, _checksum(record), record.network_sha256) == record.cell_id
        ):
            yield record


def _checksum(record: CellRecord) -> str:
    return "" if record.data is None else record.data.checksum


def _training_of(record: CellRecord) -> str:
    cell = _evaluated_by_default(record.cell)
    return cell_id(cell, _checksum(record), record.network_sha256)


def _evaluated_by_default(cell: Cell) -> Cell:
    return cell.model_copy(update={name: AXES[name].default for name in EVALUATION_SETTINGS})
