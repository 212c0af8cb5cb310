"""Trained models: to the bytes of a safetensors file, and back to a VAE."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save

from vaebench.model.vae import VAE
from vaebench.records.arrays import WeightsMissing
from vaebench.records.store import Store

__all__ = ["load_model", "packed_weights"]

_INITIAL_SCALE = "initial_scale"


def packed_weights(vae: VAE) -> bytes:
    """The state of a pack of one as a safetensors file.

    Beside the module's own tensors it holds ``initial_scale``, from which a predicted scale is
    counted.
    """
    # Copies of their own: safetensors takes neither views nor weights that two layers share.
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in vae.state_dict().items()
    }
    return save(state | {_INITIAL_SCALE: torch.tensor(vae.initial_scale, dtype=torch.float64)})


def load_model(store: Store | Path | str, cell_id: str) -> VAE:
    """The trained VAE of a cell whose weights were kept, on the CPU, ready to encode and decode.

    It is a pack of one: ``model.encode(x)`` takes pixels in [0, 1] of shape ``(1, B, D)`` and gives
    the posterior, ``model.decode(z)`` takes codes ``(1, S, B, Z)`` and gives p(x|z).

    Args:
        store: the results folder of a run with ``keep_weights``.
        cell_id: the cell's name, as in the table.

    Raises:
        WeightsMissing: the cell's weights were not kept, or are not those that it was left with.
        RecordMissing: there is no such cell.
        RecordError, StorageError: its record can't be used or read.
        ValueError: a network of one's own is no longer what it was.
    """
    store = store if isinstance(store, Store) else Store(store)
    record, state = store.read(cell_id), load(store.weights(cell_id))
    if record.data is None:
        raise WeightsMissing(f"the record of {cell_id} does not tell the shape of its images")
    initial_scale = float(state.pop(_INITIAL_SCALE))
    generators = [torch.Generator()]
    vae = VAE((record.cell,), record.data.shape, record.data.levels, generators, initial_scale)
    try:
        vae.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights of {cell_id} do not fit its network: {error}") from error
    return vae.eval()
