"""The terms of the ELBO and the importance-weighted bound, for training and evaluation.

All values are in nats per image, summed over pixels and latent dimensions, with all constants; the
caller takes the mean over images.
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


@dataclass(frozen=True)
class Draw:
    """Codes drawn from q(z|x), with the distributions and log-likelihoods that belong to them.

    Attributes:
        posterior: q(z|x).
        prior: p(z).
        noise: the standard normal numbers of the draws, ``(P, S, B, Z)``.
        z: the codes, ``(P, S, B, Z)``.
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
            raise ValueError("a delta posterior has no KL and no ELBO, because it has no density")
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
            raise ValueError("a delta posterior has no importance weights, it has no density")
        log_prior = self.prior.log_prob(self.z)
        return self.log_likelihood + log_prior - self.posterior.log_prob(self.noise)


def draw(vae: VAE, x: Tensor, noise: Tensor, *, fit_scale: bool = False) -> Draw:
    """Encode ``x (P, B, D)``, draw codes with ``noise (P, S, B, Z)``, and compute log p(x|z).

    With ``fit_scale`` an ``optimal`` sigma is fitted to these pixels, as in training.
    """
    q = vae.encode(x)
    z = q.rsample(noise)
    p = vae.decode(z, fit_to=x if fit_scale else None)
    return Draw(vae, q, vae.prior(), noise, z, p, p.log_prob(x.unsqueeze(1)))


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Return log (1/S) sum_s w_s over the second dimension, ``(P, S, B)`` to ``(P, B)``, in nats.

    Its expectation is a lower bound on log p(x) that rises with S (Burda et al. 2016, theorem 1).
    """
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])
