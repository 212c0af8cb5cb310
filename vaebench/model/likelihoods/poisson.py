"""The Poisson mass over counts."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import LevelEdges, Likelihood


class Poisson(Likelihood):
    """Poisson likelihood, log p(x|z) = x l - e^l - log x! with the log-rate l ``(P, S, B, D)``."""

    facts = LIKELIHOODS["poisson"]

    def __init__(self, log_rate: Tensor) -> None:
        self.log_rate = log_rate

    @classmethod
    def _from_output(
        cls, output: Tensor, scale: Tensor | None, levels: int | None, clip: float | None
    ) -> Self:
        return cls(output)

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def mode(self) -> Tensor:
        return self.mean.floor()

    def log_prob(self, x: Tensor) -> Tensor:
        return (x * self.log_rate - self.mean - torch.lgamma(x + 1)).sum(-1)

    def log_mass(self, edges: LevelEdges) -> Tensor:
        return self.log_prob(edges.index.to(self.log_rate.dtype))

    def sample(self, generator: torch.Generator) -> Tensor:
        rate = self.mean.double().cpu()
        return torch.poisson(rate, generator=generator).to(self.log_rate)

    def double(self) -> Self:
        return type(self)(self.log_rate.double())
