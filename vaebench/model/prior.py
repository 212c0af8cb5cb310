"""The prior p(z): N(0, scale^2 I), or a mixture of Gaussians that is learned with the networks.

Shapes: codes are ``(P, S, B, Z)``, log-densities ``(P, S, B)`` in nats; K components. `draw`,
`mean` and `deviation` are for a pack of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.posterior import Diagonal, Full, gaussian_log_prob


@dataclass(frozen=True)
class Normal:
    """The prior N(0, scale^2 I), with ``scale (P, 1, 1)`` and ``size`` latent dimensions."""

    scale: Tensor
    size: int

    @property
    def mean(self) -> Tensor:
        """Zero for each latent dimension, ``(Z,)``."""
        return torch.zeros_like(self.deviation)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each latent dimension, ``(Z,)``."""
        return self.scale.flatten().expand(self.size)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), ``(P, S, B)``."""
        return gaussian_log_prob(z, 0.0, self.scale.unsqueeze(1))

    def score(self, z: Tensor) -> Tensor:
        """Gradient of log p(z) with respect to z, ``(P, S, B, Z)``."""
        return -z / self.scale.unsqueeze(1).square()

    def draw(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Turn standard normal numbers into codes of the same shape."""
        del generator
        return noise * self.scale.unsqueeze(1)


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians as prior, sum_k w_k N(mean_k, diag(scale_k^2)).

    Attributes:
        means: ``(P, K, Z)``.
        scale: standard deviations of the components, ``(P, K, Z)``.
        log_weights: logarithms of weights that add up to 1, ``(P, K)``.
    """

    means: Tensor
    scale: Tensor
    log_weights: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean of each latent dimension, ``(Z,)``."""
        return self.log_weights[0].exp() @ self.means[0]

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each latent dimension, ``(Z,)``."""
        squares = self.scale[0].square() + (self.means[0] - self.mean).square()
        return (self.log_weights[0].exp() @ squares).sqrt()

    def _log_joint(self, z: Tensor) -> Tensor:
        """Log of w_k N(z; mean_k, scale_k^2), ``(P, S, B, K)``."""
        means, scale = (each[:, None, None] for each in (self.means, self.scale))
        return gaussian_log_prob(z.unsqueeze(-2), means, scale) + self.log_weights[:, None, None]

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), ``(P, S, B)``."""
        return torch.logsumexp(self._log_joint(z), -1)

    def score(self, z: Tensor) -> Tensor:
        """Gradient of log p(z) with respect to z, ``(P, S, B, Z)``."""
        means, scale = (each[:, None, None] for each in (self.means, self.scale))
        shares = self._log_joint(z).softmax(-1).unsqueeze(-1)
        return (shares * (means - z.unsqueeze(-2)) / scale.square()).sum(-2)

    def draw(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Turn standard normal numbers ``(1, S, B, Z)`` into codes.

        ``generator``, on the CPU, chooses the component of each code.
        """
        weights = self.log_weights[0].exp().cpu()
        count = noise[..., 0].numel()
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        chosen = chosen.reshape(noise.shape[:-1]).to(noise.device)
        return self.means[0][chosen] + self.scale[0][chosen] * noise


Prior = Normal | Mixture


def divergence(q: Diagonal | Full, prior: Prior, z: Tensor, noise: Tensor) -> Tensor:
    """Return KL(q(z|x) || p(z)) in nats per image, ``(P, B)``.

    For a mixture, which has no closed form, it is the mean of log q(z|x) - log p(z) over the draws
    ``z = q.rsample(noise)``, ``(P, S, B, Z)``; it can be negative.
    """
    if isinstance(prior, Normal):
        return q.kl(prior.scale)
    return (q.log_prob(noise) - prior.log_prob(z)).mean(1)


def numbers_per_code(cell: Cell) -> int:
    """Return how many numbers the density of one code under the prior needs."""
    return cell.latent_dim * (1 if cell.prior == "normal" else cell.prior_components)
