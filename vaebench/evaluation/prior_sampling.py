"""Estimate log p(x) with codes from the prior: unbiased for p(x), but useless in practice.

(1/k) sum_s p(x|z_s) with z_s ~ p(z) needs about exp(KL(p(z|x) || p(z))) codes until one of them
falls into the region of the posterior (Doersch 2016, arXiv 1606.05908, section 2; Chatterjee and
Diaconis 2018, theorem 1.1). It is provided for comparison with the other estimators.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.evaluation.double_precision import codes_at_once, double_copy, double_pixels
from vaebench.model.vae import VAE


@torch.no_grad()
def prior_log_weights(
    vae: VAE,
    pixels: Tensor,
    k: int,
    generator: torch.Generator,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Return log p(x|z) for ``k`` codes from the prior per image, ``(N, k)`` float64 in nats.

    These are the importance weights for q(z|x) = p(z). `importance_bound` computes the estimate
    from them, with its curve over k and its effective share. Memory use is limited.

    Args:
        vae: a pack of one.
        pixels: ``(N, D)``.
        k: codes per image, at least 1.
        generator: source of the noise, on the CPU.
        progress: called with the number of completed images.

    Raises:
        ValueError: for k below 1, no image, images of another size, or a delta posterior.
    """
    if k < 1:
        raise ValueError(f"k, the number of codes per image, must be at least 1; got k={k}")
    model = double_copy(vae)
    images = double_pixels(model, pixels)
    rows, block = [], codes_at_once(model)
    for done, x in enumerate(images, start=1):
        blocks = (min(block, k - start) for start in range(0, k, block))
        rows.append(torch.cat([_log_likelihood(model, x, size, generator) for size in blocks]))
        if progress is not None:
            progress(done)
    return torch.stack(rows)


def _log_likelihood(vae: VAE, x: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """Return log p(x|z) of one image ``(D,)`` for codes from the prior, ``(codes,)``."""
    noise = torch.randn((1, codes, 1, vae.latent_dim), generator=generator, dtype=torch.float64)
    z = vae.prior().draw(noise.to(x.device), generator)
    return vae.decode(z).log_prob(x)[0, :, 0].cpu()
