"""The negative binomial mass over counts, by its mean and dispersion."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import LevelEdges, Likelihood

_LARGEST_LOG_DISPERSION = 7.0


class NegativeBinomial(Likelihood):
    """A Poisson whose rate has a gamma distribution: mean m, variance m + m^2 / r.

    Args:
        log_mean: log m, ``(P, S, B, D)``.
        log_dispersion: log r, the same shape, clipped to [-7, 7]. Above, the family is nearly a
            Poisson; below, nearly all mass is on 0.
    """

    facts = LIKELIHOODS["negative_binomial"]

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor) -> None:
        self.log_mean = log_mean
        limit = _LARGEST_LOG_DISPERSION
        self.log_dispersion = log_dispersion.clamp(-limit, limit)

    @classmethod
    def _from_output(
        cls, output: Tensor, scale: Tensor | None, levels: int | None, clip: float | None
    ) -> Self:
        return cls(*output.reshape(*output.shape[:-1], -1, 2).unbind(-1))

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def mode(self) -> Tensor:
        r = self.log_dispersion.exp()
        return (self.mean * (r - 1) / r).clamp(min=0).floor()

    def log_prob(self, x: Tensor) -> Tensor:
        r, odds = self.log_dispersion.exp(), self.log_mean - self.log_dispersion
        # log(r / (r + m)) and log(m / (r + m)) are log-sigmoids of the log-odds m / r.
        counted = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
        return (counted + r * F.logsigmoid(-odds) + x * F.logsigmoid(odds)).sum(-1)

    def log_mass(self, edges: LevelEdges) -> Tensor:
        return self.log_prob(edges.index.to(self.log_mean.dtype))

    def sample(self, generator: torch.Generator) -> Tensor:
        # torch's gamma sampler accepts no generator, so NumPy's is seeded from the given one.
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        r = self.log_dispersion.double().exp().cpu().numpy()
        rate = random.gamma(r, self.mean.double().cpu().numpy() / r)
        return torch.from_numpy(random.poisson(rate)).to(self.log_mean)

    def double(self) -> Self:
        return type(self)(self.log_mean.double(), self.log_dispersion.double())
