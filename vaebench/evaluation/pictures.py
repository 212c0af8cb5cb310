"""A few pictures a cell: originals, reconstructions, prior samples, interpolations, a traversal.

All are E[x|z] as uint8 images, ``(n, H, W)``, or ``(n, H, W, C)`` for colour.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.evaluation.split import EvaluationSplit
from vaebench.model.vae import VAE

__all__ = ["pictures"]

_SHOWN, _SAMPLES, _PAIRS, _STEPS, _GRID = 10, 36, 4, 9, 8


@torch.no_grad()
def pictures(
    vae: VAE, split: EvaluationSplit, kl_per_dimension: Tensor | None, generator: torch.Generator
) -> dict[str, NDArray[np.uint8]]:
    """Pictures of a pack of one; the same images of the split for every cell.

    Prior samples are codes from N(0, prior_scale^2 I). Interpolations are straight lines between
    the posterior means of pairs of images. The traversal goes through the quantiles of the prior
    along the two latent dimensions of highest KL, with the others at 0.
    """
    device, scale = vae.prior_scale.device, float(vae.prior_scale)
    x = split.pixels[:_SHOWN].to(device)
    mean = vae.encode(x.unsqueeze(0)).mean[0]
    noise = torch.randn((_SAMPLES, vae.latent_dim), generator=generator).to(device)
    shown = {
        "originals": _images(vae, x),
        "reconstructions": _decoded(vae, mean),
        "prior_samples": _decoded(vae, scale * noise),
    }
    pairs = min(_PAIRS, len(mean) // 2)
    if pairs:
        weight = torch.linspace(0, 1, _STEPS, device=device).view(1, -1, 1)
        start, stop = mean[:pairs].unsqueeze(1), mean[pairs : 2 * pairs].unsqueeze(1)
        line = _decoded(vae, torch.lerp(start, stop, weight).flatten(0, 1))
        shown["interpolations"] = line.reshape(pairs, _STEPS, *line.shape[1:])
    if vae.latent_dim >= 2 and kl_per_dimension is not None:
        picture = _decoded(vae, _traversal(vae, kl_per_dimension, scale))
        shown["traversal"] = picture.reshape(_GRID, _GRID, *picture.shape[1:])
    return shown


def _traversal(vae: VAE, kl_per_dimension: Tensor, scale: float) -> Tensor:
    first, second = torch.topk(kl_per_dimension, 2).indices.tolist()
    normal = NormalDist(0, scale)
    steps = torch.tensor([normal.inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)])
    codes = torch.zeros((_GRID, _GRID, vae.latent_dim))
    codes[..., first] = steps.view(-1, 1)
    codes[..., second] = steps.view(1, -1)
    return codes.flatten(0, 1).to(vae.prior_scale.device)


def _decoded(vae: VAE, codes: Tensor) -> NDArray[np.uint8]:
    return _images(vae, vae.decode(codes.unsqueeze(0).unsqueeze(0)).mean[0, 0])


def _images(vae: VAE, pixels: Tensor) -> NDArray[np.uint8]:
    levels = (pixels.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    channels_last = levels.reshape(-1, *vae.image_shape).movedim(-3, -1)
    shown = channels_last.squeeze(-1) if vae.image_shape[0] == 1 else channels_last
    return np.asarray(shown.numpy(), dtype=np.uint8)
