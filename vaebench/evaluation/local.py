"""The posterior gap in two parts: the loss by the encoder, and the loss by the family of q.

log p(x) - ELBO is the sum of the amortisation gap, which is zero if q is optimised for each image,
and the approximation gap, which remains (Cremer, Li and Duvenaud 2018, arXiv 1801.03558).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vaebench.evaluation.bound import mean_and_se
from vaebench.model.posterior import Delta, Diagonal, Full
from vaebench.model.prior import Prior, divergence
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric

_STEPS, _DRAWS, _RATE = 500, 8, 0.05
_SAMPLES = 2_000
"""Number of codes per image with which both gaps are measured."""
_IMAGES_AT_ONCE = 50


def local_posterior(vae: VAE, x: Tensor, generator: torch.Generator) -> Diagonal:
    """Return the diagonal Gaussian of highest ELBO for each image, by 500 steps of Adam.

    Args:
        vae: a pack of one whose weights need no gradient.
        x: pixels ``(1, B, D)``.
        generator: source of the noise, on the CPU.
    """
    with torch.no_grad():
        q = vae.encode(x)
        prior, mean, log_variance = vae.prior(), q.mean.clone(), q.variance.log()
    parameters = [mean.requires_grad_(), log_variance.requires_grad_()]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        local = Diagonal(mean, log_variance)
        noise = _noise(vae, x, _DRAWS, generator)
        z = local.rsample(noise)
        log_likelihood = vae.decode(z).log_prob(x.unsqueeze(1)).mean(1)
        kl = divergence(local, prior, z, noise)
        (kl - log_likelihood).sum().backward()  # type: ignore[no-untyped-call]  # so in torch
        optimizer.step()
        schedule.step()
    return Diagonal(mean.detach(), log_variance.detach())


def gap_metrics(vae: VAE, pixels: Tensor, generator: torch.Generator) -> dict[str, Metric]:
    """Measure amortization_gap and approximation_gap of images ``(N, D)``.

    The ELBO of the encoder's q and of the local q are means over the same noise. The approximation
    gap is measured from below, since log p(x) is replaced by an importance-weighted bound.

    Args:
        vae: a pack of one.
        pixels: ``(N, D)``.
        generator: source of all noise, on the CPU.

    Raises:
        ValueError: a delta posterior.
    """
    needed = [parameter.requires_grad for parameter in vae.parameters()]
    vae.requires_grad_(requires_grad=False)
    found = list(_gaps(vae, pixels, generator))
    for parameter, before in zip(vae.parameters(), needed, strict=True):
        parameter.requires_grad_(before)
    names = ("amortization_gap", "approximation_gap")
    gaps = (torch.cat(parts) for parts in zip(*found, strict=True))
    return {name: mean_and_se(name, gap) for name, gap in zip(names, gaps, strict=True)}


def _gaps(vae: VAE, pixels: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield both gaps of blocks of images, float64."""
    for start in range(0, len(pixels), _IMAGES_AT_ONCE):
        x = pixels[start : start + _IMAGES_AT_ONCE].to(vae.prior_scale).unsqueeze(0)
        local = local_posterior(vae, x, generator)
        with torch.no_grad():
            q, prior = vae.encode(x), vae.prior()
            if isinstance(q, Delta):
                raise ValueError(
                    "the posterior gap is not defined for a delta posterior: use diagonal or full"
                )
            weights: dict[str, list[Tensor]] = {"encoder": [], "local": []}
            for _ in range(_SAMPLES // _DRAWS):
                noise = _noise(vae, x, _DRAWS, generator)
                weights["encoder"].append(_log_weights(vae, q, prior, x, noise))
                weights["local"].append(_log_weights(vae, local, prior, x, noise))
        encoder, best = (torch.cat(parts) for parts in weights.values())
        bound = torch.logsumexp(best, 0) - math.log(len(best))
        yield best.mean(0) - encoder.mean(0), bound - best.mean(0)


def _log_weights(vae: VAE, q: Diagonal | Full, prior: Prior, x: Tensor, noise: Tensor) -> Tensor:
    """Return log p(x, z) - log q(z|x), ``(S, B)`` float64."""
    z = q.rsample(noise)
    log_joint = vae.decode(z).log_prob(x.unsqueeze(1)) + prior.log_prob(z)
    return (log_joint - q.log_prob(noise))[0].double().cpu()


def _noise(vae: VAE, x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    return torch.randn((1, draws, x.shape[1], vae.latent_dim), generator=generator).to(x)
