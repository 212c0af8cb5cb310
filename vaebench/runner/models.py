"""Save trained models as safetensors, and load them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load, save
from torch import Tensor

from vaebench.data.own_data import Kind, Reading, converted
from vaebench.data.pixels import evaluation_pixels
from vaebench.errors import DataInvalid, UsageError, WeightsMissing
from vaebench.grid.axes import DATASETS
from vaebench.grid.cell import Cell
from vaebench.model.posterior import Posterior
from vaebench.model.vae import VAE, Units
from vaebench.records.schema import CellRecord, DataFacts
from vaebench.records.store import Store

_INITIAL_SCALE, _PROBED = "initial_scale", ("probed_code", "probed_image")
Model = TypeVar("Model", bound=VAE)
_KINDS: dict[str, Kind] = {"real": "real", "counts": "counts"}
"""The name of the values of data with these supports; all others are images."""


class KeptModel(VAE):
    """A trained VAE with a description of its training data.

    Attributes:
        facts: the shape, the levels and the support of these data.
    """

    facts: DataFacts

    def prepare(self, images: ArrayLike | Tensor) -> Tensor:
        """Convert examples as in training to the pixels that `encode` takes.

        Binarisation and dequantisation draw from a fixed seed, as for test images.

        Args:
            images: examples in the layout and range of the data set, such as uint8 ``(N, H, W)``
                or the rows ``(N, D)`` of a table.

        Returns:
            Pixels ``(1, N, D)`` float32 on the device of the model.

        Raises:
            DataInvalid: layout, type or range of the examples differ from those of the data set.
        """
        plain = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        return self.prepare_array("data", np.asarray(plain), Reading.of(self.cells[0]))

    def prepare_array(self, where: str, array: NDArray[np.generic], reading: Reading) -> Tensor:
        """Convert examples with given reading settings; see `prepare`."""
        kind = _KINDS.get(self.facts.support, "images")
        levels = self._levels_of_data()
        if kind == "images" and array.dtype.kind == "f" and not reading.range:
            raise DataInvalid(
                f"{where} is {array.dtype}; images of {self.facts.name} must be integers from 0 to "
                f"{(levels or 256) - 1}: convert with astype('uint8')"
            )
        examples = converted(where, array, kind, reading)
        if examples.shape[1:] != self.facts.shape:
            raise DataInvalid(
                f"{where} must have images of shape {self.facts.shape} (C, H, W), on which the "
                f"model was trained; its shape {array.shape} gives {examples.shape[1:]}"
            )
        if kind == "images":
            examples = _in_levels(where, examples, levels or 256)
        pixels = torch.from_numpy(np.ascontiguousarray(examples))
        if kind == "images":
            binarization, dequantize = self.facts.binarization, self.facts.dequantize
            pixels = evaluation_pixels(pixels, levels, binarization, dequantize)
        return pixels.flatten(1).unsqueeze(0).to(self.prior_scale.device)

    def _levels_of_data(self) -> int | None:
        """Grey levels before binarisation."""
        if self.facts.binarization == "none":
            return self.facts.levels
        known = DATASETS.get(self.cells[0].dataset)
        return self.facts.grey_levels or (known.levels if known else 256)

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z|x) for pixels ``x (1, N, D)`` in the range of the data set; see `prepare`.

        Raises:
            UsageError: the shape is wrong, or pixels are outside the range.
        """
        dimension = math.prod(self.image_shape)
        if x.ndim != 3 or x.shape[0] != 1 or x.shape[2] != dimension or not x.is_floating_point():
            raise UsageError(
                f"x must be float pixels of shape (1, N, {dimension}); got {x.dtype} of shape "
                f"{tuple(x.shape)}: convert images with model.prepare(images)"
            )
        if not bool(self._in_range(x)):
            rules = {"real": "finite", "counts": "whole numbers from 0", "binary": "0 or 1"}
            rule = rules.get(self.facts.support, "between 0 and 1")
            raise UsageError(
                f"the values of {self.facts.name} must be {rule}; got values from "
                f"{float(x.min()):g} to {float(x.max()):g}: convert data with model.prepare(data)"
            )
        return super().encode(x)

    def _in_range(self, x: Tensor) -> Tensor:
        support = self.facts.support
        if support == "real":
            return x.isfinite().all()
        if support == "counts":
            return ((x >= 0) & (x == x.round()) & x.isfinite()).all()
        if support == "binary":
            return ((x == 0) | (x == 1)).all()
        return ((x >= 0) & (x <= 1)).all()


def _in_levels(where: str, images: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Check grey levels; for two levels, map the higher value to 1, as in training."""
    values = np.unique(images)
    top = int(values[-1]) if len(values) else 0
    if levels == 2 and top > 1:
        if len(values) > 2 or (len(values) == 1 and top != 255):
            raise DataInvalid(
                f"{where}: examples must have two values, 0 and 1 or 0 and 255, like the data set; "
                f"they have {len(values)}, up to {top}"
            )
        return np.asarray(images == top, dtype=np.uint8)
    if top >= levels:
        raise DataInvalid(
            f"{where}: grey levels must be 0 ... {levels - 1} as in the data set; got {top}"
        )
    return images


def packed_weights(vae: VAE) -> bytes:
    """Return the state of a pack of one as the bytes of a safetensors file.

    It also holds ``initial_scale``, to which a predicted scale is relative, and the outputs of the
    model for fixed inputs (see `_probed`), which are compared when the file is loaded.
    """
    # Copies, because safetensors accepts neither views nor weights shared by two layers.
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in vae.state_dict().items()
    }
    state[_INITIAL_SCALE] = torch.tensor(vae.initial_scale, dtype=torch.float64)
    return save(state | _probed(vae))


@torch.no_grad()
def _probed(vae: VAE) -> dict[str, Tensor]:
    """Return the code and the image that the model computes from fixed inputs.

    They detect a user's network that was edited after training but has weights of equal shapes.
    """
    device = vae.prior_scale.device
    x = torch.linspace(0, 1, math.prod(vae.image_shape), device=device).view(1, 1, -1)
    z = torch.linspace(-1, 1, vae.latent_dim, device=device).view(1, 1, 1, -1)
    # `VAE.encode` without the range check, which these inputs would fail for some data sets.
    outputs = {"probed_code": VAE.encode(vae, x).mean, "probed_image": vae.decode(z).mean}
    return {name: output.cpu().contiguous() for name, output in outputs.items()}


def load_model(store: Store | Path | str, cell_id: str) -> KeptModel:
    """Load the trained VAE of a cell whose weights were kept, on the CPU, in evaluation mode.

    ``model.prepare(images)`` converts data as in training to pixels ``(1, N, D)``,
    ``model.encode(x)`` returns the posterior of such pixels, and ``model.decode(z)`` returns p(x|z)
    for codes ``(1, S, N, Z)``. The weights do not require gradients; call
    ``model.requires_grad_()`` to change that. The module of a user's network is searched in the
    working folder first, as in training.

    Args:
        store: the results folder of a run with ``keep_weights``.
        cell_id: the name of the cell, as in the table.

    Raises:
        WeightsMissing: the weights were not kept, or differ from the checksum in the record.
        RecordMissing: the cell has no record.
        RecordError, StorageError: the record is not valid or cannot be read.
        ValueError: a user's network is missing or has changed.
    """
    store = store if isinstance(store, Store) else Store(store)
    record = store.read(cell_id)
    model = unpacked_model(record, store.weights(cell_id), KeptModel)
    model.facts = _facts(record)
    return model


def _facts(record: CellRecord) -> DataFacts:
    if record.data is None:
        raise WeightsMissing(f"cannot load {record.cell_id}: its record has no shape of the images")
    return record.data


def unpacked_model(record: CellRecord, weights: bytes, kind: type[Model]) -> Model:
    """Load the model of a record from the bytes of its safetensors file; see `load_model`."""
    data, state = _facts(record), load(weights)
    initial_scale = float(state.pop(_INITIAL_SCALE))
    probed = {name: state.pop(name) for name in _PROBED}
    generators = [torch.Generator()]
    units = None
    if "data_shift" in state:
        units = Units(state["data_shift"].flatten(), state["data_scale"].flatten())
    vae = kind((record.cell,), data.shape, data.levels, generators, initial_scale, units)
    try:
        vae.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(f"{_changed(record.cell)}: its weights do not fit ({error})") from error
    vae.eval().requires_grad_(requires_grad=False)
    now = _probed(vae)
    # The tolerance covers rounding differences between machines.
    if not all(torch.allclose(now[name], probed[name], rtol=1e-3, atol=1e-4) for name in _PROBED):
        raise UsageError(_changed(record.cell))
    return vae


def _changed(cell: Cell) -> str:
    return f"{cell.architecture} must be the network that was trained, but its code has changed"
