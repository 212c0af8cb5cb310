"""Train and evaluate one pack of cells in this process."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.evaluation.evaluate import Evaluation, evaluate
from vaebench.evaluation.guards import comparable_as
from vaebench.grid.cell import Cell
from vaebench.grid.user_code import source_digest
from vaebench.model.vae import VAE
from vaebench.records.schema import CellRecord, Metric, Note, Status, WarningCode
from vaebench.runner.early_stopping import EarlyStopping, validation_bound
from vaebench.runner.machine import environment
from vaebench.runner.memory import PeakMemory
from vaebench.runner.messages import Arrays, Outcome, Task, Trained, public
from vaebench.runner.models import packed_weights, unpacked_model
from vaebench.runner.plan import training_key
from vaebench.runner.prepared import Prepared, data_facts, prepared_for
from vaebench.runner.seeding import generator, seed_the_defaults, training_generators
from vaebench.training.checkpoint import Checkpoint
from vaebench.training.loop import Divergence, Training, train

Report = Callable[[int, int, Sequence[float]], None]


def execute(
    task: Task,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
    record: Callable[[list[Outcome]], None] | None = None,
) -> list[Outcome]:
    """Train a pack and evaluate each of its cells, and the cells that share these trainings.

    A task with a trained cell (``task.trained``) is only evaluated.

    Args:
        task: cells that share all shapes.
        report: called after each epoch with its number, the number of epochs and the losses.
        stop: called between epochs; if it returns true, training is saved and stopped.
        record: called with the outcomes of shared cells during the training; by default they are
            returned with the others.

    Returns:
        One outcome for each cell, ``done`` or ``diverged``. A shared cell has none if the training
        was resumed from a checkpoint after its last epoch.

    Raises:
        DataMissing, DataInvalid: the data are missing or cannot be used.
        ValueError: a size exceeds that of the data.
        torch.OutOfMemoryError: the pack does not fit into the memory of the device.
        Stopped: ``stop`` returned true.
    """
    if task.trained is not None:
        return [_evaluated_again(task, task.trained)]
    design = task.cells[0]
    prepared = prepared_for(design, task.data_dir)
    if design.batch_size > len(prepared.pixels):
        raise ValueError(
            f"batch_size must not exceed the {len(prepared.pixels):,} training images; "
            f"got {design.batch_size:,}"
        )
    stopping = None
    if design.early_stopping is not None:
        if prepared.valid is None:
            raise ValueError(
                "early_stopping needs validation images, there are none: set valid_size"
            )
        stopping = EarlyStopping(design.early_stopping)
    network = source_digest(design.architecture)  # before training, since the file may change
    seed_the_defaults(design.seed)
    memory = PeakMemory(design.device)
    vae = VAE(
        task.cells,
        prepared.data.shape,
        prepared.test.levels,
        [generator(cell.seed, "weights") for cell in task.cells],
        prepared.initial_scale,
        prepared.units,
    ).to(design.device)
    place = task.checkpoint
    checkpoint = None if place is None else Checkpoint(place, " ".join(task.cell_ids))
    pack = _Pack(task, vae, memory, checkpoint, network)
    outcomes: list[Outcome] = []
    seen: set[str] = set()

    def after_epoch(epoch: int, so_far: Callable[[], Training]) -> bool:
        due = [each for each in task.shared if each[0].epochs == epoch < design.epochs]
        if due:
            seen.update(name for _, name in due)
            (record or outcomes.extend)(pack.outcomes(due, so_far()))
        if stopping is None or prepared.valid is None:
            return False
        return stopping.after_epoch(epoch, validation_bound(vae, design, prepared.valid), vae)

    training = train(
        vae,
        task.cells,
        prepared.pixels,
        [training_generators(cell) for cell in task.cells],
        report,
        compiled=task.compiled,
        checkpoint=checkpoint,
        stop=stop,
        after_epoch=after_epoch,
        kept=None if stopping is None else stopping.kept,
    )
    if stopping is not None:
        stopping.restore(vae)
        pack = replace(pack, best_epoch=stopping.best_epoch)
    # Cells with fewer epochs are not evaluated yet if all members diverged before.
    left = [
        each
        for each in task.all_cells()
        if each[1] not in seen and not training.resumed_after >= each[0].epochs < design.epochs
    ]
    return [*outcomes, *pack.outcomes(left, training)]


@dataclass(frozen=True)
class _Pack:
    """A pack of cells in training, and the values that its records share.

    ``best_epoch`` is the epoch whose weights are evaluated after early stopping.
    """

    task: Task
    vae: VAE
    memory: PeakMemory
    checkpoint: Checkpoint | None
    network: str | None
    best_epoch: int | None = None

    def outcomes(self, cells: Sequence[tuple[Cell, str]], training: Training) -> list[Outcome]:
        """Evaluate cells with the present weights; training is not affected."""
        device = self.vae.prior_scale.device
        speed, step_ms = _speed(training, len(self.task.cells))
        speed["peak_memory_mib"] = self.memory.peak()
        # A user's network may draw from torch's default generators.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return [self._outcome(*each, training, speed, {"step_ms": step_ms}) for each in cells]

    def _outcome(
        self,
        cell: Cell,
        cell_id: str,
        training: Training,
        metrics: dict[str, Metric],
        arrays: Arrays,
    ) -> Outcome:
        key = training_key(cell)
        index = [training_key(each) for each in self.task.cells].index(key)
        prepared = prepared_for(cell, self.task.data_dir)
        divergence, weights = training.divergence[index], None
        warnings: tuple[Note, ...] = ()
        if divergence is None:
            member = copy.deepcopy(self.vae.member(index))
            measured = _evaluated(member, cell, prepared)
            weights = packed_weights(member) if self.task.keep_weights else None
            metrics, arrays = metrics | measured.metrics, arrays | measured.arrays
            warnings = tuple(measured.warnings)
        own = cell_id in self.task.cell_ids
        record = CellRecord(
            cell_id=cell_id,
            grid=self.task.grid,
            cell=public(cell),
            data=data_facts(cell, prepared),
            status=Status(state="done") if divergence is None else _diverged(divergence),
            metrics=metrics,
            series=training.series[index],
            warnings=[*warnings, *self._notes(prepared.data.note, training)],
            comparable=comparable_as(cell, prepared.test.levels),
            environment=environment(cell.device),
            network_sha256=self.network,
            trained_as=None if own else self.task.cell_ids[index],
        )
        return Outcome(record, arrays, weights, trained=own)

    def _notes(self, data: str | None, training: Training) -> list[Note]:
        """Return the notes of a record about its data and its training."""
        resumed, best = training.resumed_after, None
        if self.best_epoch is not None:
            epochs = len(training.series[0]["train_loss"])
            best = (
                f"trained for {epochs:,} epochs; "
                f"the weights are those after epoch {self.best_epoch:,}"
            )
        texts: dict[WarningCode, str | None] = {
            "data": data,
            "step_fallback": training.note,
            "checkpoint": None if self.checkpoint is None else self.checkpoint.note,
            "early_stopping": best,
            "resumed": f"stopped after epoch {resumed:,} and resumed" if resumed else None,
        }
        return [Note.of(code, text) for code, text in texts.items() if text is not None]


def _evaluated_again(task: Task, trained: Trained) -> Outcome:
    """Evaluate a cell with kept weights: its own, or those of a cell with the same training.

    The measurements of training and the environment are copied from the earlier record.
    """
    ((cell, cell_id),) = task.all_cells()
    earlier = trained.record
    prepared = prepared_for(cell, task.data_dir)
    model = unpacked_model(earlier, trained.weights, VAE).to(cell.device)
    measured = _evaluated(model, cell, prepared)
    of_training = {n: earlier.metrics[n] for n in _SPEED_METRICS if n in earlier.metrics}
    notes = [note for note in earlier.warnings if note.code in _NOTES_OF_TRAINING]
    again = f"evaluated again from the kept weights of {earlier.cell_id}, without training"
    own = earlier.cell_id == cell_id
    changes = {
        "cell_id": cell_id,
        "grid": task.grid,
        "cell": public(cell),
        "data": data_facts(cell, prepared),
        "metrics": of_training | measured.metrics,
        "warnings": [*measured.warnings, *notes, Note.of("evaluated_again", again)],
        "comparable": comparable_as(cell, prepared.test.levels),
        "trained_as": earlier.trained_as if own else earlier.cell_id,
        # Weights that are already in the cell's folder are not sent.
        "weights_sha256": earlier.weights_sha256 if own else None,
        "arrays_sha256": None,
    }
    arrays = {"step_ms": trained.arrays["step_ms"]} if "step_ms" in trained.arrays else {}
    weights = trained.weights if task.keep_weights and not own else None
    record = earlier.model_copy(update=changes)
    return Outcome(record, arrays | measured.arrays, weights, trained=False)


_NOTES_OF_TRAINING = ("data", "step_fallback", "checkpoint", "early_stopping", "resumed", "retried")
_SPEED_METRICS = (
    *("train_seconds", "step_ms_median", "step_ms_p95", "samples_per_second"),
    *("pack_size", "peak_memory_mib"),
)


def _evaluated(vae: VAE, cell: Cell, prepared: Prepared) -> Evaluation:
    source = generator(cell.seed, "evaluation")
    return evaluate(vae, cell, prepared.train, prepared.test, source, prepared.valid)


def _diverged(divergence: Divergence) -> Status:
    last = "there was no finite loss"
    if divergence.loss is not None:
        last = f"the last one was {divergence.loss:.6g} nats/image"
    return Status(
        state="diverged",
        reason_code="not_finite",
        reason=f"the loss was not finite at step {divergence.step}; {last}",
        step=divergence.step,
        detail={
            "last_loss": divergence.loss,
            "gradient_norm": divergence.gradient_norm,
            "sigma": divergence.sigma,
        },
    )


def _speed(training: Training, pack_size: int) -> tuple[dict[str, Metric], NDArray[np.float32]]:
    """Return the timing metrics, and the times of at most 500 evenly spaced steps.

    In a pack a step's time is divided by the pack's size.
    """
    step_ms = np.array(training.step_seconds) * 1e3 / pack_size
    seconds = training.compile_seconds + math.fsum(training.step_seconds)
    count = len(step_ms)
    values = {
        "train_seconds": seconds / pack_size,
        "step_ms_median": statistics.median(step_ms.tolist()),
        "step_ms_p95": float(np.percentile(step_ms, 95)),
        "samples_per_second": training.images * pack_size / seconds,
    }
    metrics = {name: Metric.measured(name, value, n=count) for name, value in values.items()}
    metrics["pack_size"] = Metric.measured("pack_size", float(pack_size))
    return metrics, step_ms[:: max(1, math.ceil(count / 500))].astype(np.float32)
