"""The approximate posterior q(z|x), its samples and its divergence from the prior.

The prior is N(0, scale^2 I): ``prior_scale`` is a standard deviation. Shapes: ``mean`` is
``(P, B, Z)``, samples are ``(P, S, B, Z)``, divergences ``(P, B)`` in nats per image;
``prior_scale`` is a tensor that broadcasts against ``mean``, ``(P, 1, 1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_LOG_2PI = math.log(2 * math.pi)


def gaussian_log_prob(z: Tensor, mean: Tensor | float, scale: Tensor) -> Tensor:
    """Log-density of independent Gaussians, summed over the last dimension, in nats."""
    standard = (z - mean) / scale
    return -(0.5 * (standard.square() + _LOG_2PI) + scale.log()).sum(-1)


def _standard_log_prob(noise: Tensor) -> Tensor:
    """Log-density of standard normal numbers, summed over the last dimension, in nats."""
    return -0.5 * (noise.square() + _LOG_2PI).sum(-1)


class _KlToPrior(torch.autograd.Function):
    """KL(N(mean, variance) || N(0, prior_scale^2)) of each dimension in nats.

    Source: Kingma and Welling 2014, Appendix B. It uses expm1, so that it is accurate for a
    posterior close to the prior. It is one node of the graph, because for small tensors the calls
    take more time than the arithmetic.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, mean: Tensor, log_variance: Tensor, prior_scale: Tensor
    ) -> Tensor:
        log_ratio = log_variance - 2 * prior_scale.log()
        excess, standard = torch.expm1(log_ratio), mean / prior_scale
        ctx.save_for_backward(excess, standard, prior_scale)
        return torch.addcmul(excess - log_ratio, standard, standard).mul_(0.5)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        excess, standard, prior_scale = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        return gradient * standard / prior_scale, 0.5 * gradient * excess, None


def _kl_to_prior(mean: Tensor, log_variance: Tensor, prior_scale: Tensor) -> Tensor:
    kl = _KlToPrior.apply(mean, log_variance, prior_scale)  # type: ignore[no-untyped-call]  # as torch's stub has it
    return cast(Tensor, kl)


@dataclass(frozen=True)
class Diagonal:
    """N(mean, diag(exp(log_variance))), both ``(P, B, Z)``."""

    mean: Tensor
    log_variance: Tensor

    @property
    def variance(self) -> Tensor:
        """Variance of each latent, ``(P, B, Z)``."""
        return self.log_variance.exp()

    def rsample(self, noise: Tensor) -> Tensor:
        """Mean + standard deviation * noise (the reparameterisation trick), ``(P, S, B, Z)``."""
        scale = (0.5 * self.log_variance).exp()
        return torch.addcmul(self.mean.unsqueeze(1), scale.unsqueeze(1), noise)

    def log_prob(self, noise: Tensor) -> Tensor:
        """Log q(z|x) of the codes that `rsample` returns for this noise, in nats, ``(P, S, B)``.

        It is computed from the noise, not from the codes, because rounding can change a code by
        many standard deviations of a narrow posterior.
        """
        return _standard_log_prob(noise) - 0.5 * self.log_variance.sum(-1).unsqueeze(1)

    def kl(self, prior_scale: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats per image, ``(P, B)``."""
        return self.kl_per_dimension(prior_scale).sum(-1)

    def kl_per_dimension(self, prior_scale: Tensor) -> Tensor:
        """KL of each latent dimension, ``(P, B, Z)``; the sum is the total."""
        return _kl_to_prior(self.mean, self.log_variance, prior_scale)


@dataclass(frozen=True)
class Full:
    """N(mean, L L') with the Cholesky factor L: ``log_diagonal (P, B, Z)`` and the part below it.

    ``below`` is ``(P, B, Z, Z)``, zero on and above the diagonal.
    """

    mean: Tensor
    log_diagonal: Tensor
    below: Tensor

    @property
    def factor(self) -> Tensor:
        """L, ``(P, B, Z, Z)``."""
        return self.below + torch.diag_embed(self.log_diagonal.exp())

    @property
    def variance(self) -> Tensor:
        """Variance of each latent, ``(P, B, Z)``."""
        return self.factor.square().sum(-1)

    def rsample(self, noise: Tensor) -> Tensor:
        """Mean + L noise, ``(P, S, B, Z)``."""
        return self.mean.unsqueeze(1) + (self.factor.unsqueeze(1) @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, noise: Tensor) -> Tensor:
        """Log q(z|x) of the codes that `rsample` returns for this noise, in nats, ``(P, S, B)``.

        Recovering the noise from rounded codes would need a division by L, whose condition number
        exceeds 1e8 in training, so that the result could be wrong by any number of nats.
        """
        return _standard_log_prob(noise) - self.log_diagonal.sum(-1).unsqueeze(1)

    def kl(self, prior_scale: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats per image, ``(P, B)``: Doersch 2016, eq. 7."""
        scale = prior_scale.squeeze(-1)
        trace = (self.factor / prior_scale.unsqueeze(-1)).square().sum((-1, -2))
        square = (self.mean / prior_scale).square().sum(-1)
        size = self.mean.shape[-1]
        return 0.5 * (trace + square - size) + size * scale.log() - self.log_diagonal.sum(-1)

    def kl_per_dimension(self, prior_scale: Tensor) -> Tensor:
        """KL of each marginal, ``(P, B, Z)``; the sum is not the total."""
        return _kl_to_prior(self.mean, self.variance.log(), prior_scale)


@dataclass(frozen=True)
class Delta:
    """A point, as in a plain autoencoder; without a density it has no KL and no ELBO."""

    mean: Tensor

    @property
    def variance(self) -> Tensor:
        """Zero for each latent, ``(P, B, Z)``."""
        return torch.zeros_like(self.mean)

    def rsample(self, noise: Tensor) -> Tensor:
        """The mean, repeated for every draw, ``(P, S, B, Z)``."""
        return self.mean.unsqueeze(1).expand(-1, noise.shape[1], -1, -1)


Posterior = Diagonal | Full | Delta


def posterior_width(kind: str, latent_dim: int) -> int:
    """Return the number of encoder outputs for one image."""
    if kind == "full":
        return latent_dim + latent_dim * (latent_dim + 1) // 2
    return latent_dim if kind == "delta" else 2 * latent_dim


def posterior(kind: str, output: Tensor, latent_dim: int) -> Posterior:
    """Make q(z|x) from the encoder's output ``(P, B, posterior_width(kind, latent_dim))``."""
    mean = output[..., :latent_dim]
    if kind == "delta":
        return Delta(mean)
    if kind == "diagonal":
        return Diagonal(mean, output[..., latent_dim:])
    log_diagonal, entries = output[..., latent_dim:].tensor_split((latent_dim,), dim=-1)
    below = entries.new_zeros(*entries.shape[:-1], latent_dim, latent_dim)
    row, column = torch.tril_indices(latent_dim, latent_dim, -1, device=entries.device).unbind()
    below[..., row, column] = entries
    return Full(mean, log_diagonal, below)
