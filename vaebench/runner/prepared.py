"""A data set as the cells of a pack see it: loaded, split, binarised or dequantised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from vaebench.data.own_data import Reading
from vaebench.data.pixels import TrainingPixels, effective_levels, evaluation_pixels, grey_indices
from vaebench.data.sources import ImageData, Split, load
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.records.schema import DataFacts

__all__ = ["Prepared", "data_facts", "prepared_for"]


@dataclass(frozen=True)
class Prepared:
    """The splits of a data set, and where a fitted scale starts (in pixel units)."""

    data: ImageData
    pixels: TrainingPixels
    train: EvaluationSplit
    test: EvaluationSplit
    valid: EvaluationSplit | None
    initial_scale: float


@lru_cache(maxsize=2)
def _loaded(
    dataset: str,
    data_dir: Path | None,
    sizes: tuple[int | None, int, int | None],
    reading: Reading,
) -> ImageData:
    return load(dataset, data_dir, *sizes, reading=reading)


@lru_cache(maxsize=2)
def _prepared(
    dataset: str,
    data_dir: Path | None,
    sizes: tuple[int | None, int, int | None],
    reading: Reading,
    binarization: str,
    dequantize: bool,
    device: str,
) -> Prepared:
    data = _loaded(dataset, data_dir, sizes, reading)
    levels = data.levels
    pixels = TrainingPixels(data.train.images, levels, binarization, dequantize, device=device)
    train_split = _split(data.train, levels, binarization, dequantize)
    test_split = _split(data.test, levels, binarization, dequantize)
    valid_split = _split(data.valid, levels, binarization, dequantize) if len(data.valid) else None
    # Where a fitted scale starts: the spread of a pixel around its own mean over the images.
    spread = float(train_split.pixels.var(0, correction=0).mean().sqrt())
    return Prepared(data, pixels, train_split, test_split, valid_split, max(spread, 0.01))


def _split(
    split: Split, levels: int | None, binarization: str, dequantize: bool
) -> EvaluationSplit:
    pixels = evaluation_pixels(split.images, levels, binarization, dequantize)
    seen = effective_levels(levels, binarization)
    index = None if seen is None else grey_indices(pixels, seen, dequantize)
    return EvaluationSplit(pixels, index, seen, dequantize, split.labels)


def prepared_for(cell: Cell, data_dir: Path | None) -> Prepared:
    """Load the data of a cell as its likelihood sees them; the last two are kept in memory.

    Raises:
        DataMissing, DataInvalid: the data were not found, or cannot be used.
    """
    sizes = (cell.train_size, cell.valid_size, cell.test_size)
    return _prepared(
        cell.dataset,
        data_dir,
        sizes,
        Reading.of(cell),
        cell.binarization,
        cell.dequantize,
        cell.device,
    )


def data_facts(cell: Cell, prepared: Prepared) -> DataFacts:
    """Return what a record says of its data."""
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
