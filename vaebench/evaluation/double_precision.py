"""Float64 copies of models and images, for the estimators of log p(x)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from vaebench.model.prior import numbers_per_code
from vaebench.model.vae import VAE

_BLOCK_NUMBERS = 2**18


def double_copy(vae: VAE) -> VAE:
    """Return a float64 copy of a pack of one whose weights need no gradient.

    Raises:
        ValueError: for a pack of several, or a delta posterior.
    """
    if len(vae.cells) != 1:
        raise ValueError(
            f"the model must be a pack of one cell; got a pack of {len(vae.cells)}: "
            "pass vae.member(index)"
        )
    if vae.cells[0].posterior == "delta":
        raise ValueError(
            "the model must be trained with a prior; got a delta posterior, for which log p(x) is "
            "not defined: train with posterior diagonal or full"
        )
    return copy.deepcopy(vae).double().eval().requires_grad_(False)


def double_pixels(vae: VAE, pixels: Tensor) -> Tensor:
    """Return ``pixels (N, D)`` as float64 on the device of the model.

    Raises:
        ValueError: for another shape, no image, or pixels that are not finite.
    """
    dimension = math.prod(vae.image_shape)
    if pixels.ndim != 2 or pixels.shape[1] != dimension:
        raise ValueError(
            f"images must be rows of {dimension} pixels; got shape {tuple(pixels.shape)}: "
            "flatten each image to one row"
        )
    if len(pixels) == 0:
        raise ValueError("images must contain at least one image; none was given")
    if not bool(pixels.isfinite().all()):
        raise ValueError("pixels must be finite; some are NaN or infinity: remove those images")
    return pixels.to(vae.prior_scale.device, torch.float64)


def codes_at_once(vae: VAE) -> int:
    """Return the number of codes to decode together, so that a layer has about 260,000 numbers."""
    cell, dimension = vae.cells[0], math.prod(vae.image_shape)
    per_channel = dimension // 4 if cell.architecture == "conv" else 1
    layers = (per_channel * size for size in cell.hidden)
    widest = max(vae.decoder_width, numbers_per_code(cell), *layers)
    return max(1, _BLOCK_NUMBERS // widest)
