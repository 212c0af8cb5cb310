"""Small models and splits whose scores are known."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vaebench.data.pixels import effective_levels, evaluation_pixels, grey_indices
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE

LEVELS = 17


def cell(**axes: object) -> Cell:
    base = {
        "architecture": "linear",
        "latent_dim": 2,
        "likelihood": "gaussian",
        "sigma": 0.2,
        "tsne_points": 0,
    }
    return Cell.model_validate(base | axes)


def made(
    design: Cell,
    shape: tuple[int, int, int],
    weights: Mapping[str, ArrayLike] | None = None,
    levels: int | None = LEVELS,
) -> VAE:
    """A pack of one; the named weights are set, and all others are zero if any is named."""
    vae = VAE([design], shape, levels, [torch.Generator().manual_seed(50)], 0.3)
    if weights is not None:
        for name, parameter in vae.named_parameters():
            if name == "raw_scale":
                continue
            value = torch.as_tensor(np.asarray(weights.get(name, 0.0)), dtype=torch.float32)
            with torch.no_grad():
                parameter.copy_(value.expand(parameter[0].shape))
    return vae.eval().requires_grad_(False)


def grey_split(
    grey: Tensor,
    binarization: str = "none",
    *,
    levels: int = LEVELS,
    dequantize: bool = False,
    labels: Tensor | None = None,
) -> EvaluationSplit:
    """Grey levels ``(N, C, H, W)`` uint8 as a split."""
    pixels = evaluation_pixels(grey, levels, binarization, dequantize)
    seen = effective_levels(levels, binarization)
    assert seen is not None
    index = grey_indices(pixels, seen, dequantize)
    return EvaluationSplit(pixels, index, seen, dequantize, labels)


def real_split(pixels: Tensor, labels: Tensor | None = None) -> EvaluationSplit:
    return EvaluationSplit(pixels, None, None, False, labels)


def random_grey(
    count: int, shape: tuple[int, int, int] = (1, 4, 4), levels: int = LEVELS, seed: int = 51
) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (count, *shape), generator=source).to(torch.uint8)


def source(seed: int = 52) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def standard_error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))
