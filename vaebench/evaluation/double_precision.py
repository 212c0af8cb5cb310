"""What every estimator of log p(x) starts from: a float64 copy of a model, images that fit it."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from vaebench.model.vae import VAE

__all__ = ["codes_at_once", "double_copy", "double_pixels"]

_BLOCK_NUMBERS = 2**18


def double_copy(vae: VAE) -> VAE:
    """A float64 copy of a pack of one, without gradients of its weights; ``vae`` stays as it is.

    Raises:
        ValueError: for a pack of several, or a delta posterior.
    """
    if len(vae.cells) != 1:
        raise ValueError(
            f"log p(x) is estimated for one cell at a time; got a pack of {len(vae.cells)}: "
            "take vae.member(index)"
        )
    if vae.cells[0].posterior == "delta":
        raise ValueError(
            "log p(x) needs a model trained with a prior; got a delta posterior, whose plain "
            "autoencoder has none: train with posterior diagonal or full"
        )
    return copy.deepcopy(vae).double().eval().requires_grad_(False)


def double_pixels(vae: VAE, pixels: Tensor) -> Tensor:
    """``pixels (N, D)`` as float64 on the model's device.

    Raises:
        ValueError: for another shape, no image, or pixels that are not finite.
    """
    dimension = math.prod(vae.image_shape)
    if pixels.ndim != 2 or pixels.shape[1] != dimension:
        raise ValueError(
            f"images of this model are rows of {dimension} pixels; got shape "
            f"{tuple(pixels.shape)}: flatten each image into one row"
        )
    if len(pixels) == 0:
        raise ValueError("log p(x) needs at least one image; none was given")
    if not bool(pixels.isfinite().all()):
        raise ValueError("pixels must be finite; got nan or infinity: remove those images")
    return pixels.to(vae.prior_scale.device, torch.float64)


def codes_at_once(vae: VAE) -> int:
    """How many codes may be decoded together so that a layer has some 260,000 numbers."""
    cell, dimension = vae.cells[0], math.prod(vae.image_shape)
    per_channel = dimension // 4 if cell.architecture == "conv" else 1
    widest = max((vae.decoder_width, vae.latent_dim, *(per_channel * size for size in cell.hidden)))
    return max(1, _BLOCK_NUMBERS // widest)
