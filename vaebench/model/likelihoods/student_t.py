"""Student's t density with 5 degrees of freedom; sigma is its scale."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.location_scale import SCALE_FLOOR, LocationScale

_DEGREES = 5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class StudentT(LocationScale):
    """Student's t with 5 degrees of freedom, location ``mean`` and a scale for each pixel."""

    facts = LIKELIHOODS["student_t"]

    @staticmethod
    def standard_log_density(residual: Tensor) -> Tensor:
        v = float(_DEGREES)
        constant = math.lgamma((v + 1) / 2) - math.lgamma(v / 2) - 0.5 * math.log(v * math.pi)
        return constant - (v + 1) / 2 * torch.log1p(residual.square() / v)

    @staticmethod
    def standard_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        """Return the log-probability of an interval by Gauss-Legendre quadrature.

        With t = -sqrt(5) cot(phi) the probability is 8/(3 pi) times the integral of sin(phi)^4,
        which sixteen nodes integrate to rounding error, as a sum of positive terms.
        """
        root = math.sqrt(_DEGREES)
        start = torch.atan2(torch.full_like(lower, root), -lower)
        bounded = torch.atan2(root * (upper - lower), _DEGREES + lower * upper)
        stop = torch.atan2(torch.full_like(upper, root), -upper)
        width = torch.where(lower.isinf() | upper.isinf(), stop - start, bounded)
        total = torch.zeros_like(width)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            total = total + weight * torch.sin(start + (0.5 + 0.5 * node) * width) ** 4
        return torch.log(4 / (3 * math.pi) * width * total)

    @staticmethod
    def standard_sample(shape: torch.Size, generator: torch.Generator) -> Tensor:
        normal = torch.randn((_DEGREES, *shape), generator=generator, dtype=torch.float64)
        chi_square = normal.square().sum(0)
        numerator = torch.randn(shape, generator=generator, dtype=torch.float64)
        return numerator * (_DEGREES / chi_square).sqrt()

    @classmethod
    def optimal_scale(
        cls, residual: Tensor, dim: tuple[int, ...], *, start: Tensor | None = None, steps: int = 60
    ) -> Tensor:
        """Return the scale after steps of EM for Student's t as a scale mixture of Gaussians."""
        v, square = float(_DEGREES), residual.square()
        if start is None:
            start = math.sqrt(3 / 5) * square.mean(dim, keepdim=True).sqrt()
        scale = start.clamp(min=SCALE_FLOOR)
        for _ in range(steps):
            weight = (v + 1) / (v + square / scale.square())
            scale = (weight * square).mean(dim, keepdim=True).sqrt().clamp(min=SCALE_FLOOR)
        return scale
