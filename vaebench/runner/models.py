"""Trained models: to the bytes of a safetensors file, and back to a VAE."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from vaebench.errors import WeightsMissing
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE, Units
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store

_INITIAL_SCALE, _PROBED = "initial_scale", ("probed_code", "probed_image")


def packed_weights(vae: VAE) -> bytes:
    """The state of a pack of one as a safetensors file.

    Besides the module's own tensors it holds ``initial_scale``, from which a predicted scale is
    counted, and what the model gives for `_probed`'s inputs.
    """
    # Copies, since safetensors accepts neither views nor weights that two layers share.
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in vae.state_dict().items()
    }
    state[_INITIAL_SCALE] = torch.tensor(vae.initial_scale, dtype=torch.float64)
    return save(state | _probed(vae))


@torch.no_grad()
def _probed(vae: VAE) -> dict[str, Tensor]:
    """The code and the image that the model computes from fixed inputs.

    A user's own network may have been edited since; weights of the same shapes would still load.
    """
    device = vae.prior_scale.device
    x = torch.linspace(0, 1, math.prod(vae.image_shape), device=device).view(1, 1, -1)
    z = torch.linspace(-1, 1, vae.latent_dim, device=device).view(1, 1, 1, -1)
    outputs = {"probed_code": vae.encode(x).mean, "probed_image": vae.decode(z).mean}
    return {name: output.cpu().contiguous() for name, output in outputs.items()}


def load_model(store: Store | Path | str, cell_id: str) -> VAE:
    """The trained VAE of a cell whose weights were kept, on the CPU, in evaluation mode.

    It is a pack of one: ``model.encode(x)`` takes pixels in [0, 1] of shape ``(1, B, D)`` and gives
    the posterior, ``model.decode(z)`` takes codes ``(1, S, B, Z)`` and gives p(x|z). Its weights
    ask for no gradient; ``model.requires_grad_()`` changes that. The module of a network of one's
    own is looked for in the working folder first, as in training.

    Args:
        store: the results folder of a run with ``keep_weights``.
        cell_id: the cell's name, as in the table.

    Raises:
        WeightsMissing: the cell's weights were not kept, or are not those that it was left with.
        RecordMissing: there is no such cell.
        RecordError, StorageError: its record can't be used or read.
        ValueError: a user's own network is missing or has changed.
    """
    store = store if isinstance(store, Store) else Store(store)
    return unpacked_model(store.read(cell_id), store.weights(cell_id))


def unpacked_model(record: CellRecord, weights: bytes) -> VAE:
    """The model of a cell's record from the bytes of its safetensors file; see `load_model`."""
    state = load(weights)
    if record.data is None:
        raise WeightsMissing(
            f"the record of {record.cell_id} does not record the shape of its images"
        )
    initial_scale = float(state.pop(_INITIAL_SCALE))
    probed = {name: state.pop(name) for name in _PROBED}
    generators = [torch.Generator()]
    units = None
    if "data_shift" in state:
        units = Units(state["data_shift"].flatten(), state["data_scale"].flatten())
    data = record.data
    vae = VAE((record.cell,), data.shape, data.levels, generators, initial_scale, units)
    try:
        vae.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{_changed(record.cell)}: its weights do not fit ({error})") from error
    vae.eval().requires_grad_(requires_grad=False)
    now = _probed(vae)
    # As far as rounding may differ between machines.
    if not all(torch.allclose(now[name], probed[name], rtol=1e-3, atol=1e-4) for name in _PROBED):
        raise ValueError(_changed(record.cell))
    return vae


def _changed(cell: Cell) -> str:
    return f"{cell.architecture} is no longer the network that was trained"
