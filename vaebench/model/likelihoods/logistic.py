"""The logistic density; sigma is the scale s."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import log1mexp, uniform
from vaebench.model.likelihoods.location_scale import SCALE_FLOOR, LocationScale


class Logistic(LocationScale):
    """e^-r / (s (1 + e^-r)^2) with r = (x - mean) / s for each pixel."""

    facts = LIKELIHOODS["logistic"]

    @staticmethod
    def standard_log_density(residual: Tensor) -> Tensor:
        return -residual.abs() - 2 * F.softplus(-residual.abs())

    @staticmethod
    def standard_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        """Return the log-probability of [a, b] as log(F(b) F(-a) (1 - e^-(b-a))), F the CDF."""
        return F.logsigmoid(upper) + F.logsigmoid(-lower) + log1mexp(upper - lower)

    @staticmethod
    def standard_sample(shape: torch.Size, generator: torch.Generator) -> Tensor:
        return torch.logit(uniform(shape, generator))

    @classmethod
    def optimal_scale(
        cls, residual: Tensor, dim: tuple[int, ...], *, start: Tensor | None = None, steps: int = 60
    ) -> Tensor:
        """Return the fixed point of s = mean(r tanh(r / 2s)), the score equation."""
        if start is None:
            start = math.sqrt(3) / math.pi * residual.square().mean(dim, keepdim=True).sqrt()
        scale = start.clamp(min=SCALE_FLOOR)
        for _ in range(steps):
            scale = (residual * torch.tanh(residual / (2 * scale))).mean(dim, keepdim=True)
            scale = scale.clamp(min=SCALE_FLOOR)
        return scale
