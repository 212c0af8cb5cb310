"""The Gaussian density; sigma is its standard deviation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.location_scale import SCALE_FLOOR, LocationScale, log_cdf_interval


class Gaussian(LocationScale):
    """N(mean, scale^2) for each pixel."""

    facts = LIKELIHOODS["gaussian"]

    @staticmethod
    def standard_log_density(residual: Tensor) -> Tensor:
        return -0.5 * (residual.square() + math.log(2 * math.pi))

    @staticmethod
    def standard_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        return log_cdf_interval(torch.special.log_ndtr(lower), torch.special.log_ndtr(upper))

    @staticmethod
    def standard_sample(shape: torch.Size, generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    @classmethod
    def optimal_scale(
        cls, residual: Tensor, dim: tuple[int, ...], *, start: Tensor | None = None, steps: int = 60
    ) -> Tensor:
        """Return the root mean square (Rybkin et al. 2021, eq. 5, where the root is missing)."""
        return residual.square().mean(dim, keepdim=True).sqrt().clamp(min=SCALE_FLOOR)
