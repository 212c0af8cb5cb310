"""log p(x) by codes from the prior: unbiased for p(x), and hopeless.

(1/k) sum_s p(x|z_s) with z_s ~ p(z) needs of the order of exp(KL(p(z|x) || p(z))) codes before
one of them lies where the posterior does (Doersch 2016, arXiv 1606.05908, section 2; Chatterjee
and Diaconis 2018, theorem 1.1). It is here to be seen beside the estimators that work.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.evaluation.double_precision import codes_at_once, double_copy, double_pixels
from vaebench.model.vae import VAE

__all__ = ["prior_log_weights"]


@torch.no_grad()
def prior_log_weights(
    vae: VAE,
    pixels: Tensor,
    k: int,
    generator: torch.Generator,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """log p(x|z) for ``k`` codes from the prior an image, ``(N, k)`` float64 in nats.

    These are the importance weights of q(z|x) = p(z): `importance_bound` turns them into the
    estimate, its curve over k and its effective share. Decoded in blocks, in bounded memory.

    Args:
        vae: a pack of one.
        pixels: ``(N, D)``.
        k: codes an image, at least 1.
        generator: of the noise, on the CPU.
        progress: called with the number of images done.

    Raises:
        ValueError: for k below 1, no image, images of another size, or a delta posterior.
    """
    if k < 1:
        raise ValueError(f"sampling the prior needs k of at least 1 code an image; got k={k}")
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
    """log p(x|z) of one image ``(D,)`` at so many codes from the prior, ``(codes,)``."""
    noise = torch.randn((1, codes, 1, vae.latent_dim), generator=generator, dtype=torch.float64)
    z = noise.to(x.device) * vae.prior_scale.unsqueeze(1)
    return vae.decode(z).log_prob(x)[0, :, 0].cpu()
