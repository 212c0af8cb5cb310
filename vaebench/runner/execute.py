"""Train and evaluate one pack of cells in this process."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vaebench.data.pixels import TrainingPixels, effective_levels, evaluation_pixels, grey_indices
from vaebench.data.sources import ImageData, Split, load
from vaebench.evaluation.evaluate import Evaluation, evaluate
from vaebench.evaluation.guards import comparable_as
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.grid.user_code import source_digest
from vaebench.model.vae import VAE
from vaebench.records.schema import CellRecord, DataFacts, Metric, Note, Status, WarningCode
from vaebench.runner.machine import environment
from vaebench.runner.memory import PeakMemory
from vaebench.runner.messages import Arrays, Outcome, Task, public
from vaebench.runner.models import packed_weights
from vaebench.runner.seeding import generator, seed_the_defaults, training_generators
from vaebench.training.checkpoint import Checkpoint
from vaebench.training.loop import Divergence, Training, train

__all__ = ["execute"]

Report = Callable[[int, int, Sequence[float]], None]


@dataclass(frozen=True)
class _Prepared:
    """A data set as the cells of a pack see it."""

    data: ImageData
    pixels: TrainingPixels
    train: EvaluationSplit
    test: EvaluationSplit
    valid: EvaluationSplit | None
    initial_scale: float


@lru_cache(maxsize=2)
def _loaded(
    dataset: str, data_dir: Path | None, sizes: tuple[int | None, int, int | None], channels: int
) -> ImageData:
    return load(dataset, data_dir, *sizes, channels=channels)


@lru_cache(maxsize=2)
def _prepared(
    dataset: str,
    data_dir: Path | None,
    sizes: tuple[int | None, int, int | None],
    channels: int,
    binarization: str,
    dequantize: bool,
    device: str,
) -> _Prepared:
    data = _loaded(dataset, data_dir, sizes, channels)
    levels = data.levels
    pixels = TrainingPixels(data.train.images, levels, binarization, dequantize, device=device)
    train_split = _split(data.train, levels, binarization, dequantize)
    test_split = _split(data.test, levels, binarization, dequantize)
    valid_split = _split(data.valid, levels, binarization, dequantize) if len(data.valid) else None
    # Where a fitted scale starts: the spread of a pixel around its own mean over the images.
    spread = float(train_split.pixels.var(0, correction=0).mean().sqrt())
    return _Prepared(data, pixels, train_split, test_split, valid_split, max(spread, 0.01))


def _split(
    split: Split, levels: int | None, binarization: str, dequantize: bool
) -> EvaluationSplit:
    pixels = evaluation_pixels(split.images, levels, binarization, dequantize)
    seen = effective_levels(levels, binarization)
    index = None if seen is None else grey_indices(pixels, seen, dequantize)
    return EvaluationSplit(pixels, index, seen, dequantize, split.labels)


def execute(
    task: Task, report: Report | None = None, stop: Callable[[], bool] = lambda: False
) -> list[Outcome]:
    """Train a pack and evaluate each of its cells.

    Args:
        task: cells that share all shapes.
        report: called after each epoch with its number, their count and the cells' losses.
        stop: asked between epochs whether to keep the training in its checkpoint and stop.

    Returns:
        One outcome a cell, ``done`` or ``diverged``.

    Raises:
        DataMissing, DataInvalid: the data can't be had, or not be used.
        ValueError: a size does not fit the data.
        torch.OutOfMemoryError: the device's memory does not hold the pack.
        Stopped: ``stop`` said so.
    """
    design = task.cells[0]
    sizes = (design.train_size, design.valid_size, design.test_size)
    prepared = _prepared(
        design.dataset,
        task.data_dir,
        sizes,
        design.channels,
        design.binarization,
        design.dequantize,
        design.device,
    )
    _fits(design, prepared)
    network = source_digest(design.architecture)  # as it is when it is made
    seed_the_defaults(design.seed)
    memory = PeakMemory(design.device)
    vae = VAE(
        task.cells,
        prepared.data.shape,
        prepared.test.levels,
        [generator(cell.seed, "weights") for cell in task.cells],
        prepared.initial_scale,
    ).to(design.device)
    sources = [training_generators(cell) for cell in task.cells]
    place = task.checkpoint
    checkpoint = None if place is None else Checkpoint(place, " ".join(task.cell_ids))
    training = train(
        vae, task.cells, prepared.pixels, sources, report, checkpoint=checkpoint, stop=stop
    )
    notes = _notes(prepared.data, training, checkpoint)
    speed = _speed(training, len(task.cells), memory.peak())
    return [
        _outcome(task, i, vae, prepared, training, speed, notes, network)
        for i in range(len(task.cells))
    ]


def _notes(data: ImageData, training: Training, checkpoint: Checkpoint | None) -> list[Note]:
    """Return what a record says about how its data were read and how its training went."""
    resumed = training.resumed_after
    texts: dict[WarningCode, str | None] = {
        "data": data.note,
        "step_fallback": training.note,
        "checkpoint": None if checkpoint is None else checkpoint.note,
        "resumed": f"stopped after epoch {resumed:,} and resumed" if resumed else None,
    }
    return [Note.of(code, text) for code, text in texts.items() if text is not None]


def _fits(cell: Cell, prepared: _Prepared) -> None:
    if cell.batch_size > len(prepared.pixels):
        raise ValueError(
            f"batch_size must not exceed the {len(prepared.pixels):,} training images; "
            f"got {cell.batch_size:,}"
        )


def _outcome(
    task: Task,
    index: int,
    vae: VAE,
    prepared: _Prepared,
    training: Training,
    speed: _Speed,
    notes: list[Note],
    network: str | None,
) -> Outcome:
    cell, divergence = task.cells[index], training.divergence[index]
    metrics, arrays, warnings = dict(speed.metrics), dict(speed.arrays), []
    weights = None
    if divergence is None:
        member = vae.member(index)
        measured = _evaluated(member, cell, prepared)
        weights = packed_weights(member) if task.keep_weights else None
        metrics |= measured.metrics
        arrays |= measured.arrays
        warnings = list(measured.warnings)
    record = CellRecord(
        cell_id=task.cell_ids[index],
        grid=task.grid,
        cell=public(cell),
        data=_facts(cell, prepared),
        status=Status(state="done") if divergence is None else _diverged(divergence),
        metrics=metrics,
        series=training.series[index],
        warnings=[*warnings, *notes],
        comparable=comparable_as(cell, prepared.test.levels),
        environment=environment(cell.device),
        network_sha256=network,
    )
    return Outcome(record, arrays, weights)


def _evaluated(vae: VAE, cell: Cell, prepared: _Prepared) -> Evaluation:
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


def _facts(cell: Cell, prepared: _Prepared) -> DataFacts:
    data = prepared.data
    return DataFacts(
        name=data.name,
        checksum=data.checksum,
        shape=data.shape,
        levels=prepared.test.levels,
        binarization=cell.binarization,
        dequantize=cell.dequantize,
        n_train=len(data.train),
        n_valid=len(data.valid),
        n_test=len(data.test),
        support=_support(cell, prepared.test.levels),
    )


def _support(cell: Cell, levels: int | None) -> Literal["binary", "grey", "dequantised", "real"]:
    if levels is None:
        return "real"
    if cell.dequantize:
        return "dequantised"
    return "binary" if levels == 2 else "grey"


@dataclass(frozen=True)
class _Speed:
    metrics: dict[str, Metric]
    arrays: Arrays


def _speed(training: Training, pack_size: int, memory: Metric) -> _Speed:
    """Timings of training; in a pack a step's time is divided by the pack's size."""
    step_ms = np.array(training.step_seconds) * 1e3 / pack_size
    seconds = training.compile_seconds + math.fsum(training.step_seconds)
    count = len(step_ms)
    metrics = {
        "train_seconds": Metric.measured("train_seconds", seconds / pack_size, n=count),
        "step_ms_median": Metric.measured(
            "step_ms_median", statistics.median(step_ms.tolist()), n=count
        ),
        "step_ms_p95": Metric.measured("step_ms_p95", float(np.percentile(step_ms, 95)), n=count),
        "samples_per_second": Metric.measured(
            "samples_per_second", training.images * pack_size / seconds, n=count
        ),
        "pack_size": Metric.measured("pack_size", float(pack_size)),
        "peak_memory_mib": memory,
    }
    return _Speed(metrics, {"step_ms": _thinned(step_ms)})


def _thinned(step_ms: NDArray[np.float64]) -> NDArray[np.float32]:
    """At most 500 raw step times, evenly spaced: enough for a spread, small enough to keep."""
    stride = max(1, math.ceil(len(step_ms) / 500))
    return step_ms[::stride].astype(np.float32)
