"""A probability for each grey level: a softmax for each pixel."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import LevelEdges, Likelihood, uniform


class Categorical(Likelihood):
    """One class per grey level; logits ``(P, S, B, D, levels)``."""

    facts = LIKELIHOODS["categorical"]

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @classmethod
    def _from_output(
        cls, output: Tensor, scale: Tensor | None, levels: int | None, clip: float | None
    ) -> Self:
        if levels is None:
            raise ValueError(
                "a categorical likelihood needs grey levels; real-valued data have none"
            )
        return cls(output.reshape(*output.shape[:-1], -1, levels))

    @property
    def levels(self) -> int:
        return int(self.logits.shape[-1])

    @property
    def mean(self) -> Tensor:
        grey = torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return self.logits.softmax(-1) @ grey

    @property
    def mode(self) -> Tensor:
        return self.logits.argmax(-1).to(self.logits.dtype) / (self.levels - 1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_mass(torch.round(x * (self.levels - 1)).long())

    def log_mass(self, edges: LevelEdges) -> Tensor:
        if edges.levels != self.levels:
            raise ValueError(
                f"the decoder and the data must have the same number of grey levels; "
                f"they have {self.levels} and {edges.levels}"
            )
        return self._log_mass(edges.index.long())

    def _log_mass(self, index: Tensor) -> Tensor:
        index = index.expand(self.logits.shape[:-1]).unsqueeze(-1)
        return self.logits.log_softmax(-1).gather(-1, index).squeeze(-1).sum(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw x by the Gumbel-max trick."""
        gumbel = -torch.log(-uniform(self.logits.shape, generator).log())
        index = (self.logits + gumbel.to(self.logits)).argmax(-1)
        return index.to(self.logits.dtype) / (self.levels - 1)

    def double(self) -> Self:
        # A sum over levels of float32 logits is accurate enough, and saves half of the memory.
        return self
