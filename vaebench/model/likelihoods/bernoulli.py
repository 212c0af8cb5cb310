"""The Bernoulli mass on {0, 1}, also used as a cross-entropy on grey pixels."""

from __future__ import annotations

import math
from typing import Self, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.likelihoods.base import LevelEdges, Likelihood, uniform


class LogitFamily(Likelihood):
    """A family with one logit l for each pixel, ``(P, S, B, D)``."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @classmethod
    def _from_output(
        cls, output: Tensor, scale: Tensor | None, levels: int | None, clip: float | None
    ) -> Self:
        if clip is not None:
            limit = math.log((1 - clip) / clip)
            output = output.clamp(-limit, limit)
        return cls(output)

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits.dtype)

    def double(self) -> Self:
        return type(self)(self.logits.double())


class Bernoulli(LogitFamily):
    """Bernoulli likelihood, log p(x|z) = x l - log(1 + e^l) for each pixel with logit l.

    On binary pixels this is a probability mass. On grey pixels it is the cross-entropy that the
    tutorial's code minimises (Doersch 2016, section 4.1), which is not a likelihood of such data.
    """

    facts = LIKELIHOODS["bernoulli"]

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, x: Tensor) -> Tensor:
        value = _LogProb.apply(self.logits, x)  # type: ignore[no-untyped-call]  # as torch's stub has it
        return cast(Tensor, value)

    def log_mass(self, edges: LevelEdges) -> Tensor:
        if edges.levels != 2:
            raise ValueError(
                f"data for a Bernoulli likelihood must have 2 levels, not {edges.levels}: "
                "binarise them, or use another likelihood"
            )
        return self.log_prob(edges.index.to(self.logits.dtype))

    def sample(self, generator: torch.Generator) -> Tensor:
        u = uniform(self.logits.shape, generator).to(self.logits)
        return (u < self.mean).to(self.logits.dtype)


class _LogProb(torch.autograd.Function):
    """The sum over pixels of x l - log(1 + e^l), fast and accurate.

    log(1 + e^l) = max(l, 0) - log max(p, 1 - p) with p = sigmoid(l), and the gradient is x - p.
    Eight of these probabilities, each at least one half, are multiplied before the logarithm is
    taken. One logarithm thus replaces eight, with the same rounding error.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, x: Tensor) -> Tensor:
        p = logits.sigmoid()
        ctx.save_for_backward(p, x)
        product = torch.maximum(p, 1 - p)
        for _ in range(3):
            if product.shape[-1] % 2 == 0:
                one, other = product.chunk(2, dim=-1)
                product = one * other
        linear = (x * logits).sub_(logits.clamp_min(0))
        return linear.sum(-1) + product.log_().sum(-1)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        p, x = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        return (x - p).mul_(gradient.unsqueeze(-1)), None
