"""Families with a location and a scale for each pixel."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self, cast

import torch
from torch import Tensor

from vaebench.model.likelihoods.base import LevelEdges, Likelihood, log1mexp

SCALE_FLOOR = 1e-3
"""The lower limit of every fitted scale, in units of the [0, 1] pixel."""


class LocationScale(Likelihood):
    """A symmetric, unimodal density of (x - location) / scale, independent for each pixel.

    A subclass gives the density, the mass of an interval and the sampler of the standard member
    (location 0, scale 1), and `optimal_scale`.

    Args:
        mean: the location, ``(P, S, B, D)`` in pixel units.
        scale: broadcasts against ``mean``.
    """

    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        self._mean, self.scale = mean, scale

    @classmethod
    def _from_output(
        cls, output: Tensor, scale: Tensor | None, levels: int | None, clip: float | None
    ) -> Self:
        return cls(output, cast(Tensor, scale))

    @staticmethod
    @abstractmethod
    def standard_log_density(residual: Tensor) -> Tensor:
        """Return the log-density with location 0 and scale 1, elementwise, in nats."""

    @staticmethod
    @abstractmethod
    def standard_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        """Log-probability of [lower, upper] under the standard member, elementwise, in nats.

        Called only with intervals whose middle is at most 0.
        """

    @staticmethod
    @abstractmethod
    def standard_sample(shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draws of the standard member, float64, on the CPU."""

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def mode(self) -> Tensor:
        return self._mean

    def log_prob(self, x: Tensor) -> Tensor:
        residual = (x - self.mean) / self.scale
        log_scale = self.scale.log().expand_as(residual).sum(-1)
        return self.standard_log_density(residual).sum(-1) - log_scale

    def log_mass(self, edges: LevelEdges) -> Tensor:
        lower = (edges.lower - self.mean) / self.scale
        upper = (edges.upper - self.mean) / self.scale
        # By symmetry every interval can be moved to the lower tail, where nothing cancels.
        flip = lower + upper > 0
        lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
        return self.standard_log_interval(lower, upper).sum(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        noise = self.standard_sample(self.mean.shape, generator)
        return self.mean + self.scale * noise.to(self.mean)

    def double(self) -> Self:
        return type(self)(self.mean.double(), self.scale.double())


def log_cdf_interval(log_lower: Tensor, log_upper: Tensor) -> Tensor:
    """Return log(F(upper) - F(lower)) from log F at both ends of a lower-tail interval."""
    return log_upper + log1mexp(log_upper - log_lower)
