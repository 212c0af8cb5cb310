"""The ELBO's terms and the importance-weighted bound: the one place where the bound is computed.

Training and evaluation both call these. Everything is in nats per image, summed over pixels and
latent dimensions, with all constants; the mean over images is taken by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.model.likelihoods import Likelihood
from vaebench.model.posterior import Delta, Posterior
from vaebench.model.prior import Normal, Prior, divergence
from vaebench.model.vae import VAE

__all__ = ["Draw", "draw", "importance_weighted_bound"]


@dataclass(frozen=True)
class Draw:
    """Codes drawn from q(z|x), and what the model says of them.

    Attributes:
        posterior: q(z|x).
        prior: p(z).
        noise: what the codes were drawn with, ``(P, S, B, Z)``.
        z: ``(P, S, B, Z)``.
        observed: p(x|z).
        log_likelihood: log p(x|z), ``(P, S, B)`` in nats.
    """

    vae: VAE
    posterior: Posterior
    prior: Prior
    noise: Tensor
    z: Tensor
    observed: Likelihood
    log_likelihood: Tensor

    def reconstruction_error(self) -> Tensor:
        """-E_q log p(x|z), the mean over the S draws, ``(P, B)``."""
        return -self.log_likelihood.mean(1)

    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)), ``(P, B)``: in closed form, or over the draws for a mixture.

        Raises:
            ValueError: for a delta posterior, whose divergence is infinite.
        """
        if isinstance(self.posterior, Delta):
            raise ValueError("a delta posterior has no density, hence no KL and no ELBO")
        return divergence(self.posterior, self.prior, self.z, self.noise)

    def kl_per_dimension(self) -> Tensor | None:
        """KL of each latent dimension, ``(P, B, Z)``; None for a delta posterior or a mixture."""
        if isinstance(self.posterior, Delta) or not isinstance(self.prior, Normal):
            return None
        return self.posterior.kl_per_dimension(self.prior.scale)

    def elbo(self) -> Tensor:
        """E_q log p(x|z) - KL, ``(P, B)``: Doersch 2016, eq. 5; higher is better."""
        return -self.reconstruction_error() - self.kl()

    def log_weights(self) -> Tensor:
        """log p(x, z) - log q(z|x), ``(P, S, B)``: Burda et al. 2016, eq. 8."""
        if isinstance(self.posterior, Delta):
            raise ValueError("a delta posterior has no density, hence no importance weights")
        log_prior = self.prior.log_prob(self.z)
        return self.log_likelihood + log_prior - self.posterior.log_prob(self.noise)


def draw(vae: VAE, x: Tensor, noise: Tensor, *, fit_scale: bool = False) -> Draw:
    """Encode ``x (P, B, D)``, draw codes with ``noise (P, S, B, Z)``, and score ``x`` under them.

    ``fit_scale``: let an ``optimal`` sigma follow these pixels, as training does.
    """
    q = vae.encode(x)
    z = q.rsample(noise)
    p = vae.decode(z, fit_to=x if fit_scale else None)
    return Draw(vae, q, vae.prior(), noise, z, p, p.log_prob(x.unsqueeze(1)))


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log (1/S) sum_s w_s over the second dimension: ``(P, S, B)`` to ``(P, B)``, in nats.

    A lower bound on log p(x) in expectation, that rises with S (Burda et al. 2016, theorem 1).
    """
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])
