"""Draw images from a model: z from the prior, then x from p(x|z), including its noise.

The code of such an image is an exact draw from the posterior p(z|x) of that image. Reverse
annealing starts from it (Grosse, Ancha and Roy 2016, arXiv 1606.02275, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaebench.model.vae import VAE


@torch.no_grad()
def simulate(vae: VAE, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw images ``(count, D)`` and their codes ``(count, Z)`` from a pack of one model.

    The result has the dtype of the model and is on the CPU. Source: ancestral sampling.

    Raises:
        ValueError: for a count below 1.
    """
    if count < 1:
        raise ValueError(f"the number of images must be at least 1; got count={count}")
    noise = torch.randn((1, 1, count, vae.latent_dim), generator=generator, dtype=torch.float64)
    codes = vae.prior().draw(noise.to(vae.prior_scale), generator)
    pixels = vae.decode(codes).sample(generator)
    return pixels[0, 0].cpu(), codes[0, 0].cpu()
