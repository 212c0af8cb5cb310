"""Find the kept weights with which a cell can be evaluated again, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from vaebench.errors import ArraysDamaged, StorageError, UsageError, WeightsMissing
from vaebench.grid.cell import AXES, EVALUATION_SETTINGS, Cell, cell_id
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store
from vaebench.runner.messages import Arrays, Task, Trained
from vaebench.runner.plan import Planned


def tasks_again(
    cells: Sequence[Planned], store: Store, base: Task, echo: Callable[[str], None]
) -> list[Task]:
    """Return an evaluation task for each cell whose weights, or those of its training, were kept.

    Two cells have the same training and the same weights if they differ in evaluation settings
    only. Weights of other data, or of an older version of the numerics, are not used.

    Args:
        cells: the cells to evaluate.
        store: the store that holds the weights.
        base: a task with the settings that all tasks share.
        echo: called with a line about cells without weights.

    Raises:
        UsageError: no cell has kept weights.
    """
    own: dict[str, CellRecord] = {}
    by_training: dict[str, CellRecord] = {}
    sources = set()
    for record, source in _with_weights(store):
        own[record.cell_id] = record
        by_training[cell_id(_evaluated_by_default(record.cell), *source)] = record
        sources.add(source)
    tasks = []
    for planned in cells:
        donor = own.get(planned.cell_id)
        for source in sources if donor is None else ():
            if cell_id(planned.cell, *source) == planned.cell_id:
                key = cell_id(_evaluated_by_default(planned.cell), *source)
                donor = donor or by_training.get(key)
        if donor is None:
            continue
        arrays: Arrays = {}
        # The caller names the files that cannot be read.
        with suppress(WeightsMissing, StorageError):
            with suppress(ArraysDamaged):
                arrays = store.arrays(donor.cell_id)
            trained = Trained(donor, arrays, store.weights(donor.cell_id))
            cells_of_task, names = (planned.cell,), (planned.cell_id,)
            task = replace(base, cells=cells_of_task, cell_ids=names, trained=trained)
            tasks.append(replace(task, checkpoints=None))
    if not tasks:
        raise UsageError(
            f"cannot evaluate {base.grid} again: no cell has kept weights in {store.root}. Run the "
            "grid with --keep-weights first"
        )
    if len(tasks) < len(cells):
        echo(f"note: no weights were kept for {len(cells) - len(tasks)} of {len(cells)} cells")
    return tasks


def _with_weights(store: Store) -> Iterator[tuple[CellRecord, tuple[str, str | None]]]:
    """Yield finished cells with weights of the present numerics version, and their source.

    The source is the other part of a cell id: the checksums of the data and of a user's network.
    """
    for record in store.iter_records():
        if (
            isinstance(record, CellRecord)
            and record.status.state == "done"
            and record.weights_sha256 is not None
        ):
            checksum = "" if record.data is None else record.data.checksum
            source = checksum, record.network_sha256
            if cell_id(record.cell, *source) == record.cell_id:
                yield record, source


def _evaluated_by_default(cell: Cell) -> Cell:
    return cell.model_copy(update={name: AXES[name].default for name in EVALUATION_SETTINGS})
