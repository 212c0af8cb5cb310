"""Images drawn from the model itself: z from the prior, then x from p(x|z), noise included.

The code that an image was made from is an exact draw from that image's posterior p(z|x), which is
what reverse annealing starts from (Grosse, Ancha and Roy 2016, arXiv 1606.02275, section 3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.model.likelihoods import (
    STUDENT_T_DEGREES,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    LocationScale,
    Observation,
)
from vaebench.model.vae import VAE

__all__ = ["sample", "simulate"]

_TINY = torch.finfo(torch.float64).tiny


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform numbers in (0, 1), float64: never the ends, whose logarithm is infinite."""
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    return drawn.clamp(min=_TINY, max=1 - 2**-53)


def _gaussian(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _laplace(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return _uniform(shape, generator).log() - _uniform(shape, generator).log()


def _logistic(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.logit(_uniform(shape, generator))


def _student_t(shape: torch.Size, generator: torch.Generator) -> Tensor:
    degrees = int(STUDENT_T_DEGREES)
    chi_square = _gaussian(torch.Size((degrees, *shape)), generator).square().sum(0)
    return _gaussian(shape, generator) * (degrees / chi_square).sqrt()


_STANDARD: dict[str, Callable[[torch.Size, torch.Generator], Tensor]] = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "logistic": _logistic,
    "student_t": _student_t,
}


def _continuous_bernoulli(logits: Tensor, u: Tensor) -> Tensor:
    """The inverse of its distribution function at ``u``, free of overflow on both sides."""
    a = -logits.abs()
    small = a > -1e-6
    safe = torch.where(small, -1.0, a)
    falling = torch.where(small, u, torch.log1p(u * torch.expm1(safe)) / safe)
    return torch.where(logits > 0, 1 - falling, falling).clamp(0, 1)


def _categorical(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A grey level by the Gumbel-max trick, as a pixel in [0, 1]."""
    gumbel = -torch.log(-_uniform(logits.shape, generator).log())
    index = (logits + gumbel.to(logits)).argmax(-1)
    return index.to(logits.dtype) / (logits.shape[-1] - 1)


def sample(observed: Observation, generator: torch.Generator) -> Tensor:
    """One draw of x from p(x|z), ``(P, S, B, D)`` in units of the [0, 1] pixel.

    Noise comes from ``generator``, on the CPU, in float64, and takes the family's own dtype.

    Raises:
        TypeError: for a family that is none of `vaebench.model.likelihoods`.
    """
    if isinstance(observed, Categorical):
        return _categorical(observed.logits, generator)
    if isinstance(observed, LocationScale):
        noise = _STANDARD[observed.family](observed.mean.shape, generator)
        return observed.mean + observed.scale * noise.to(observed.mean)
    if isinstance(observed, Bernoulli | ContinuousBernoulli):
        u = _uniform(observed.logits.shape, generator).to(observed.logits)
        if isinstance(observed, Bernoulli):
            return (u < observed.logits.sigmoid()).to(observed.logits.dtype)
        return _continuous_bernoulli(observed.logits, u)
    raise TypeError(f"a family of vaebench.model.likelihoods can be drawn from; got {observed!r}")


@torch.no_grad()
def simulate(vae: VAE, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of a pack of one and the codes they were made from: ``(count, D)``, ``(count, Z)``.

    In the model's own dtype, on the CPU. Source: ancestral sampling.

    Raises:
        ValueError: for a count below 1.
    """
    if count < 1:
        raise ValueError(f"simulating needs at least 1 image; got count={count}")
    scale = vae.prior_scale
    noise = torch.randn((1, 1, count, vae.latent_dim), generator=generator, dtype=torch.float64)
    codes = noise.to(scale) * scale
    pixels = sample(vae.decode(codes), generator)
    return pixels[0, 0].cpu(), codes[0, 0].cpu()
