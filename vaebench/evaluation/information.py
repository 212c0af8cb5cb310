"""The two parts of the KL: E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)).

Hoffman and Johnson 2016. q(z) is the mean of q(z|x) over the whole split, not over a batch. With N
images I_q cannot exceed log N, so a marginal KL below KL - log N cannot be detected.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaebench.evaluation.bound import mean_and_se
from vaebench.evaluation.split import EvaluationSplit
from vaebench.model.posterior import Diagonal, Full
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric

_QUERIES = 500
_LOG_2PI = math.log(2 * math.pi)


@torch.no_grad()
def information_metrics(
    vae: VAE, split: EvaluationSplit, kl: Tensor, generator: torch.Generator
) -> dict[str, Metric]:
    """Estimate mutual_information, its upper limit and marginal_kl from codes of up to 500 images.

    The estimate is the mean of log q(z_i|x_i) - log (1/N) sum_j q(z_i|x_j) over codes z_i of
    images i. It is unbiased for the N images of the split; for the whole population it is too low.

    Args:
        vae: a pack of one with a posterior density.
        split: the images.
        kl: KL(q(z|x) || p(z)) of each image, ``(N,)``, so that both parts use the same images.
        generator: source of all random numbers, on the CPU.
    """
    count = len(split)
    ceiling = Metric.measured("mutual_information_ceiling", math.log(count), n=count)
    chosen = torch.randperm(count, generator=generator)[:_QUERIES]
    queries = _posterior(vae, split.pixels[chosen])
    noise = torch.randn((1, 1, len(chosen), vae.latent_dim), generator=generator)
    noise = noise.to(queries.mean)
    z = queries.rsample(noise)
    own = queries.log_prob(noise)[0, 0]
    codes = z[0, 0]
    parts = [
        _log_density_of_all(_posterior(vae, split.pixels[rows]), codes)
        for rows in split.batches(_numbers_per_image(queries, len(codes)))
    ]
    log_densities = torch.cat(parts)
    # The density of a code under its own posterior is computed from its noise. The same value is
    # used in both terms, so that rounding cannot raise the estimate above log N.
    log_densities[chosen, torch.arange(len(chosen))] = own
    information = (own - torch.logsumexp(log_densities, 0)).cpu() + math.log(count)
    return {
        "mutual_information": mean_and_se("mutual_information", information),
        "mutual_information_ceiling": ceiling,
        "marginal_kl": mean_and_se("marginal_kl", kl[chosen] - information),
    }


def _posterior(vae: VAE, pixels: Tensor) -> Diagonal | Full:
    """Return q(z|x) in float64, because differences of large squares are computed from it."""
    q = vae.encode(pixels.to(vae.prior_scale.device, vae.prior_scale.dtype).unsqueeze(0))
    if isinstance(q, Diagonal):
        return Diagonal(q.mean.double(), q.log_variance.double())
    if isinstance(q, Full):
        return Full(q.mean.double(), q.log_diagonal.double(), q.below.double())
    raise ValueError(
        "mutual information is not defined for a delta posterior: use diagonal or full"
    )


def _numbers_per_image(q: Diagonal | Full, codes: int) -> int:
    """Return the size of the largest tensor that one image needs, counted in float32 numbers."""
    latent_dim = q.mean.shape[-1]
    if isinstance(q, Full):
        return 2 * latent_dim * (latent_dim + codes)
    return max(4 * latent_dim, 2 * codes)


def _log_density_of_all(q: Diagonal | Full, codes: Tensor) -> Tensor:
    """Return log q(z_i|x_j) of codes ``(M, Z)`` under posteriors of ``n`` images, ``(n, M)``."""
    if isinstance(q, Full):
        centred = codes.T - q.mean[0].unsqueeze(-1)
        standard = torch.linalg.solve_triangular(q.factor[0], centred, upper=False)
        # After an overflow the density is zero: the posterior is very narrow, and the code is that
        # of another image.
        square: Tensor = standard.square().nan_to_num(math.inf, math.inf)
        density = -0.5 * (square + _LOG_2PI).sum(1)
        return density - q.log_diagonal[0].sum(-1, keepdim=True)
    mean, log_variance = q.mean[0], q.log_variance[0]
    precision = (-log_variance).exp()
    square = precision @ codes.square().T - 2 * (precision * mean) @ codes.T
    square += (precision * mean.square()).sum(1, keepdim=True)
    constant = (log_variance + _LOG_2PI).sum(1, keepdim=True)
    # For a very narrow posterior rounding can make the sum of the terms negative.
    return -0.5 * (square.clamp(min=0) + constant)
