"""The Laplace density; sigma is the scale b."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import uniform
from vaebench.model.likelihoods.location_scale import SCALE_FLOOR, LocationScale, log_cdf_interval


class Laplace(LocationScale):
    """exp(-|x - mean| / b) / (2 b) for each pixel."""

    facts = LIKELIHOODS["laplace"]

    @staticmethod
    def standard_log_density(residual: Tensor) -> Tensor:
        return -residual.abs() - math.log(2)

    @staticmethod
    def standard_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        return log_cdf_interval(_log_cdf(lower), _log_cdf(upper))

    @staticmethod
    def standard_sample(shape: torch.Size, generator: torch.Generator) -> Tensor:
        return uniform(shape, generator).log() - uniform(shape, generator).log()

    @classmethod
    def optimal_scale(
        cls, residual: Tensor, dim: tuple[int, ...], *, start: Tensor | None = None, steps: int = 60
    ) -> Tensor:
        """Return the mean absolute residual."""
        return residual.abs().mean(dim, keepdim=True).clamp(min=SCALE_FLOOR)


def _log_cdf(r: Tensor) -> Tensor:
    below = r.clamp(max=0) - math.log(2)
    above = torch.log1p(-0.5 * torch.exp(-r.clamp(min=0)))
    return torch.where(r < 0, below, above)
