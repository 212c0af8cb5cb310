"""The messages between a run and its workers; needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.grid.rules import is_own_data
from vaebench.grid.user_code import source_digest
from vaebench.records.schema import CellRecord, Environment, Status
from vaebench.runner.plan import training_key

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Trained:
    """A cell that was trained: its record, its arrays, and the bytes of its safetensors file."""

    record: CellRecord
    arrays: Arrays
    weights: bytes


@dataclass(frozen=True)
class Task:
    """A pack of cells to train as one program, with their ids and the name of their grid.

    Attributes:
        shared: further cells with their identities. Each is measured in the training of a cell of
            the pack that has the same `training_key`, after its own number of epochs.
        keep_weights: whether the trained weights are sent back.
        checkpoints: the folder of unfinished trainings.
        trained: a trained cell; the one cell of the task is evaluated from it without training.
        compiled: whether the training step is compiled.
    """

    cells: tuple[Cell, ...]
    cell_ids: tuple[str, ...]
    grid: str
    data_dir: Path | None
    keep_weights: bool = False
    checkpoints: Path | None = None
    shared: tuple[tuple[Cell, str], ...] = ()
    trained: Trained | None = None
    compiled: bool = False

    def all_cells(self) -> list[tuple[Cell, str]]:
        """Every cell that gets a record, with its id."""
        return [*zip(self.cells, self.cell_ids, strict=True), *self.shared]

    def without(self, cell_ids: Collection[str]) -> Task:
        """Return the task without the shared cells of these ids."""
        return replace(self, shared=tuple(s for s in self.shared if s[1] not in cell_ids))

    def alone(self) -> list[Task]:
        """Return a task for each cell of the pack, with the cells that share its training."""
        return [
            replace(
                self,
                cells=(cell,),
                cell_ids=(name,),
                shared=tuple(s for s in self.shared if training_key(s[0]) == training_key(cell)),
            )
            for cell, name in zip(self.cells, self.cell_ids, strict=True)
        ]

    @property
    def checkpoint(self) -> Path | None:
        """The file of the unfinished training, or None if it is not saved."""
        if self.checkpoints is None:
            return None
        digest = hashlib.sha256(" ".join(self.cell_ids).encode()).hexdigest()[:12]
        return self.checkpoints / f"{self.cell_ids[0]}.{digest}.checkpoint"


@dataclass(frozen=True)
class Outcome:
    """A record with its arrays, and the bytes of a safetensors file if weights are kept.

    ``trained`` is false if the training time in the record was not spent in this run.
    """

    record: CellRecord
    arrays: Arrays
    weights: bytes | None = None
    trained: bool = True


@dataclass(frozen=True)
class StopRequest:
    """Asks a worker to save its training at the end of the epoch and to end its task."""

    reason: str


@dataclass(frozen=True)
class Begun:
    """A worker has started a task; the time of the task begins now."""


@dataclass(frozen=True)
class Progressed:
    """The end of an epoch: its number, the number of epochs, and the losses in nats per image."""

    epoch: int
    epochs: int
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Recorded:
    """Outcomes of cells that share a training, sent before the training ends."""

    outcomes: list[Outcome]


@dataclass(frozen=True)
class Finished:
    """A pack ended: one outcome per cell, and the seconds that the worker spent on it."""

    outcomes: list[Outcome]
    seconds: float


Message = Begun | Progressed | Recorded | Finished
"""The messages of a worker during a task, in this order."""


_FEWEST_STEPS, _MOST_STEPS = 10, 2_000


@dataclass(frozen=True)
class TimingBudget:
    """The length of a timing, as a number of steps or in seconds."""

    seconds: float
    steps: int | None = None

    def steps_of(self, step_seconds: float) -> int:
        """Return the number of steps to time if one takes `step_seconds`: 10 to 2,000."""
        if self.steps is not None:
            return self.steps
        return min(max(int(self.seconds / step_seconds), _FEWEST_STEPS), _MOST_STEPS)


@dataclass(frozen=True)
class DeviceInfo:
    """A device of this machine: its environment, and the reason if it is absent."""

    device: str
    environment: Environment
    absent: str | None


def public(cell: Cell) -> Cell:
    """Return the cell for publication: the path of a user's data without its folder."""
    if not is_own_data(cell.dataset):
        return cell
    return cell.model_copy(update={"dataset": f"./{Path(cell.dataset).name}"})


def unfinished(task: Task, status: Status, environment: Environment | None = None) -> list[Outcome]:
    """Return records of cells whose training did not finish: a reason and no measurements."""
    return [
        Outcome(
            CellRecord(
                cell_id=cell_id,
                grid=task.grid,
                cell=public(cell),
                data=None,
                status=status,
                comparable=LIKELIHOODS[cell.likelihood].kind,
                environment=environment or Environment(),
                network_sha256=source_digest(cell.architecture),
            ),
            {},
        )
        for cell, cell_id in task.all_cells()
    ]
