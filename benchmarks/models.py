"""Small VAEs and artificial data to time, from fixed seeds; no data set is needed."""

from __future__ import annotations

import functools
from typing import Any

import torch

from vaebench.data.pixels import TrainingPixels, effective_levels, evaluation_pixels, grey_indices
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE

__all__ = ["IMAGE_SHAPE", "cell", "images", "split_of", "training_pixels", "vae_of"]

IMAGE_SHAPE = (1, 28, 28)
_LEVELS = 256


def cell(**axes: Any) -> Cell:
    """A design on binarised images of MNIST's shape: 784-400-20 by default."""
    usual = {"dataset": "mnist", "binarization": "dynamic", "latent_dim": 20, "epochs": 1}
    return Cell(**{**usual, **axes})


@functools.cache
def images(count: int) -> torch.Tensor:
    """Grey levels ``(count, 1, 28, 28)`` uint8, uniform noise."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, *IMAGE_SHAPE)
    return torch.randint(0, _LEVELS, shape, generator=generator, dtype=torch.uint8)


def vae_of(*cells: Cell) -> VAE:
    """The untrained pack of these cells, on their device."""
    generators = [torch.Generator().manual_seed(each.seed) for each in cells]
    levels = effective_levels(_LEVELS, cells[0].binarization)
    return VAE(cells, IMAGE_SHAPE, levels, generators, 0.3).to(cells[0].device)


def training_pixels(design: Cell, count: int) -> TrainingPixels:
    """The given number of training images as the design sees them, on its device."""
    return TrainingPixels(
        images(count), _LEVELS, design.binarization, design.dequantize, device=design.device
    )


def split_of(design: Cell, count: int) -> EvaluationSplit:
    """The given number of test images as the design sees them, with ten artificial labels."""
    pixels = evaluation_pixels(images(count), _LEVELS, design.binarization, design.dequantize)
    levels = effective_levels(_LEVELS, design.binarization)
    index = None if levels is None else grey_indices(pixels, levels, design.dequantize)
    return EvaluationSplit(pixels, index, levels, design.dequantize, torch.arange(count) % 10)
