"""The messages between a run and its workers; needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell, is_own_data
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
    """A pack of cells to be trained as one program, with their identities and their grid's name.

    Attributes:
        shared: further cells with their identities. Each is measured in the training of a cell of
            the pack that has the same `training_key`, after its own number of epochs.
        keep_weights: whether the trained weights are sent back.
        checkpoints: the folder of unfinished trainings.
        trained: what the one cell is evaluated from, instead of being trained.
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
        """Every cell that gets a record, with its identity."""
        return [*zip(self.cells, self.cell_ids, strict=True), *self.shared]

    def without(self, cell_ids: Collection[str]) -> Task:
        """The task without shared cells that have their record."""
        return replace(self, shared=tuple(s for s in self.shared if s[1] not in cell_ids))

    def alone(self) -> list[Task]:
        """A task for each cell of the pack, with the cells that share its training."""
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
        """The file of the unfinished training; None to save none."""
        if self.checkpoints is None:
            return None
        digest = hashlib.sha256(" ".join(self.cell_ids).encode()).hexdigest()[:12]
        return self.checkpoints / f"{self.cell_ids[0]}.{digest}.checkpoint"


@dataclass(frozen=True)
class Outcome:
    """A record, the arrays that go with it, and a safetensors file's bytes if they are kept.

    ``trained`` is false if the time of training in the record is not time of this run.
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
    """A worker has started a task; what it did before is not part of the task's time."""


@dataclass(frozen=True)
class Progressed:
    """An epoch ended: its number, the number of epochs, and the pack's losses in nats per image."""

    epoch: int
    epochs: int
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Recorded:
    """Outcomes of shared cells, while the training that they share goes on."""

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
    """How long one timing lasts: a number of steps, or as many steps as fit into some seconds."""

    seconds: float
    steps: int | None = None

    def steps_of(self, step_seconds: float) -> int:
        """How many steps to time where one takes so long: 10 to 2,000, or the number given."""
        if self.steps is not None:
            return self.steps
        return min(max(int(self.seconds / step_seconds), _FEWEST_STEPS), _MOST_STEPS)


@dataclass(frozen=True)
class DeviceInfo:
    """A device of this machine: its environment, and why it is absent, if it is."""

    device: str
    environment: Environment
    absent: str | None


def public(cell: Cell) -> Cell:
    """The cell as it may be published: the file name of a user's data without the folder."""
    if not is_own_data(cell.dataset):
        return cell
    return cell.model_copy(update={"dataset": f"./{Path(cell.dataset).name}"})


def unfinished(task: Task, status: Status, environment: Environment | None = None) -> list[Outcome]:
    """Records of cells that were not trained to their end: a reason, no data, no numbers."""
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
