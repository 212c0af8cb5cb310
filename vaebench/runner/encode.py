"""Encode data with a trained model whose weights were kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.data.catalog import own_arrays
from vaebench.data.own_data import SPLITS, OwnArrays, Reading
from vaebench.data.sources import SOURCES
from vaebench.errors import UsageError
from vaebench.records.arrays import pack
from vaebench.records.files import completed
from vaebench.runner.models import KeptModel, load_model

_BATCH = 1_000


@torch.no_grad()
def encode(
    store: Path | str,
    cell_id: str,
    data: Path | str,
    *,
    samples: int = 0,
    seed: int = 0,
    data_dir: Path | str | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Encode data with a model whose weights were kept; the data are converted as in training.

    Args:
        store: the results folder of a run with ``keep_weights``.
        cell_id: the name of the cell, as in the table.
        data: a value of the axis ``dataset``: a name, or the path of a file or image folder. It is
            read with the settings of the cell; examples keep the order of the source.
        samples: number of codes that are also drawn from q(z|x) for each example.
        seed: seed of these draws.
        data_dir: the folder that is searched first for data files.

    Returns:
        Arrays by name, float32: ``<split>_mean (N, Z)`` for each split of the data and, with
        ``samples``, ``<split>_samples (samples, N, Z)``.

    Raises:
        DataMissing, DataInvalid: the data were not found, or differ from those of the cell in
            shape, type or range.
        WeightsMissing: the cell's weights were not kept.
        RecordMissing, RecordError, StorageError: its record cannot be used or read.
        UsageError: a user's own network is missing or has changed.
    """
    model = load_model(store, cell_id)
    reading = Reading.of(model.cells[0])
    found = _arrays(os.fspath(data), None if data_dir is None else Path(data_dir), reading)
    generator = torch.Generator().manual_seed(seed)
    codes: dict[str, NDArray[np.float32]] = {}
    for split in SPLITS:
        if split in found.arrays:
            where = f"{found.source}: {split!r}"
            pixels = model.prepare_array(where, found.arrays[split], found.reading)
            parts = [_codes(model, x, samples, generator) for x in torch.split(pixels, _BATCH, 1)]
            codes[f"{split}_mean"] = np.concatenate([mean for mean, _ in parts])
            if samples:
                codes[f"{split}_samples"] = np.concatenate([drawn for _, drawn in parts], axis=1)
    return codes


def _arrays(data: str, data_dir: Path | None, reading: Reading) -> OwnArrays:
    if data not in SOURCES:
        return own_arrays(data, data_dir, reading)
    splits = SOURCES[data](data, data_dir)
    # Packaged images have one channel.
    arrays = {"train": splits.train.images[:, 0], "test": splits.test.images[:, 0]}
    return OwnArrays(data, arrays, reading)


def _codes(
    model: KeptModel, x: Tensor, samples: int, generator: torch.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean ``(B, Z)`` and draws ``(samples, B, Z)`` of q(z|x)."""
    q = model.encode(x)
    noise = torch.randn((1, samples, x.shape[1], model.latent_dim), generator=generator)
    return q.mean[0].float().numpy(), q.rsample(noise)[0].float().numpy()


def check_output(file: Path) -> None:
    """Check the name and folder of a file for codes.

    Raises:
        UsageError: the ending is not .npz, or the folder does not exist.
    """
    if file.suffix.lower() != ".npz":
        raise UsageError(f"the output must be an .npz file; got {file.name!r}")
    if not file.parent.is_dir():
        raise UsageError(f"cannot write {file.name}: there is no folder {file.parent}")


def write_codes(codes: dict[str, NDArray[np.float32]], file: Path) -> Path:
    """Write codes to an ``.npz`` file, completely or not at all; raises as `check_output`."""
    check_output(file)
    with completed(file) as part:
        part.write_bytes(pack(codes))
    return file
