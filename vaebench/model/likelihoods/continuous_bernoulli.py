"""The continuous Bernoulli density on [0, 1] (Loaiza-Ganem and Cunningham 2019, 1907.06845)."""

from __future__ import annotations

import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import LevelEdges, uniform
from vaebench.model.likelihoods.bernoulli import LogitFamily


class ContinuousBernoulli(LogitFamily):
    """Continuous Bernoulli likelihood: a density on [0, 1] proportional to e^(l x), logit l.

    In natural form log p(x) = l (x - 1/2) - log(sinh(l/2)/(l/2)), which is accurate at every
    logit; the form with the mean parameter saturates in float32 beyond |l| = 16.
    """

    facts = LIKELIHOODS["continuous_bernoulli"]

    @property
    def mean(self) -> Tensor:
        small = self.logits.abs() < 0.1
        safe = torch.where(small, 1.0, self.logits)
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return torch.where(small, series, -1 / torch.expm1(-safe) - 1 / safe)

    def log_prob(self, x: Tensor) -> Tensor:
        return (self.logits * (x - 0.5) - _log_sinhc(self.logits / 2)).sum(-1)

    def log_mass(self, edges: LevelEdges) -> Tensor:
        lower, upper = edges.lower.clamp(min=0), edges.upper.clamp(max=1)
        middle, width = (lower + upper) / 2, upper - lower
        log_density = self.logits * (middle - 0.5) - _log_sinhc(self.logits / 2)
        return (log_density + width.log() + _log_sinhc(self.logits * width / 2)).sum(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw x by the inverse distribution function, without overflow for both signs of l."""
        u = uniform(self.logits.shape, generator).to(self.logits)
        a = -self.logits.abs()
        small = a > -1e-6
        safe = torch.where(small, -1.0, a)
        falling = torch.where(small, u, torch.log1p(u * torch.expm1(safe)) / safe)
        return torch.where(self.logits > 0, 1 - falling, falling).clamp(0, 1)


def _log_sinhc(u: Tensor) -> Tensor:
    """Return log(sinh(u)/u), by a series near 0 and else by a form that does not overflow."""
    a = u.abs()
    small = a < 0.25
    # Without this mask the gradient of the unused branch would overflow to NaN for large |u|.
    square = torch.where(small, a, 0.0).square()
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    safe = torch.where(small, 1.0, a)
    large = safe + torch.log1p(-torch.exp(-2 * safe)) - torch.log(2 * safe)
    return torch.where(small, series, large)
