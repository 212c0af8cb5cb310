"""Prepare data for a cell: load, split, binarise, dequantise and standardise them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from vaebench.data.own_data import Reading
from vaebench.data.pixels import TrainingPixels, effective_levels, evaluation_pixels, grey_indices
from vaebench.data.sources import ImageData, Split, load
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.axes import DATASETS
from vaebench.grid.cell import Cell
from vaebench.model.vae import Units
from vaebench.records.schema import DataFacts


@dataclass(frozen=True)
class Prepared:
    """The splits of a data set, the initial value of a fitted scale (in pixels), and `Units`."""

    data: ImageData
    pixels: TrainingPixels
    train: EvaluationSplit
    test: EvaluationSplit
    valid: EvaluationSplit | None
    initial_scale: float
    units: Units | None


_load = lru_cache(maxsize=2)(load)


@lru_cache(maxsize=2)
def _prepared(
    dataset: str,
    data_dir: Path | None,
    sizes: tuple[int | None, int, int | None],
    reading: Reading,
    binarization: str,
    dequantize: bool,
    standardize: bool,
    device: str,
) -> Prepared:
    data = _load(dataset, data_dir, *sizes, reading)
    levels = data.levels
    pixels = TrainingPixels(data.train.images, levels, binarization, dequantize, device=device)
    train, test, valid = (
        _split(split, data, binarization, dequantize)
        for split in (data.train, data.test, data.valid)
    )
    units = _units(data, train, standardize) if dataset not in DATASETS else None
    # The initial value of a fitted scale: the standard deviation of pixels over the images.
    seen = train.pixels if units is None else train.pixels / units.scale
    start = max(float(seen.var(0, correction=0).mean().sqrt()), 0.01)
    return Prepared(data, pixels, train, test, valid if len(valid) else None, start, units)


def _units(data: ImageData, train: EvaluationSplit, standardize: bool) -> Units | None:
    """Return the standardisation of data that are not images, from the training split."""
    pixels = train.pixels.double()
    if data.kind == "counts":
        # The networks use logarithms; a column of zeros is treated as half a count in total.
        log_mean = pixels.mean(0).clamp(min=0.5 / len(pixels)).log()
        return Units(log_mean.float(), torch.ones_like(log_mean).float())
    if data.kind == "images" or not standardize:
        return None
    deviation = pixels.std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    return Units(pixels.mean(0).float(), scale.float())


def _split(split: Split, data: ImageData, binarization: str, dequantize: bool) -> EvaluationSplit:
    named = split.labels, data.classes, data.columns
    if data.kind == "counts":
        counts = split.images.flatten(1)
        return EvaluationSplit(counts, counts.long(), None, False, *named)
    pixels = evaluation_pixels(split.images, data.levels, binarization, dequantize)
    seen = effective_levels(data.levels, binarization)
    index = None if seen is None else grey_indices(pixels, seen, dequantize)
    return EvaluationSplit(pixels, index, seen, dequantize, *named)


def prepared_for(cell: Cell, data_dir: Path | None) -> Prepared:
    """Load and convert the data of a cell; the last two results are cached.

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
        cell.standardize,
        cell.device,
    )


def data_facts(cell: Cell, prepared: Prepared) -> DataFacts:
    """Return the description of a cell's data for its record."""
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
        support=_support(cell, data, prepared.test.levels),
        grey_levels=data.levels,
        classes=list(data.classes) or None,
        columns=list(data.columns) or None,
        shift=None if prepared.units is None else prepared.units.shift.tolist(),
        scale=None if prepared.units is None else prepared.units.scale.tolist(),
    )


def _support(
    cell: Cell, data: ImageData, levels: int | None
) -> Literal["binary", "grey", "dequantised", "real", "counts"]:
    if levels is None:
        return "counts" if data.kind == "counts" else "real"
    if cell.dequantize:
        return "dequantised"
    return "binary" if levels == 2 else "grey"
