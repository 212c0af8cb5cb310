"""The training step: the loss of a pack, its gradient by torch's autograd, and the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.objective import Draw, draw, importance_weighted_bound
from vaebench.model.vae import VAE
from vaebench.training.optimizer import PackOptimizer

__all__ = [
    "Step",
    "StepTerms",
    "eager_step",
    "learning_rate_factor",
    "second_weights",
    "training_loss",
]

_BURDA_STAGES = 8


@dataclass(frozen=True)
class StepTerms:
    """Means over the batch, ``(P,)`` each, in nats per image; ``loss`` is what is minimised."""

    loss: Tensor
    reconstruction_error: Tensor
    kl: Tensor | None

    def stacked(self) -> Tensor:
        """The three as one tensor ``(3, P)`` without their history; zeros where there is no KL."""
        kl = torch.zeros_like(self.loss) if self.kl is None else self.kl
        return torch.stack((self.loss, self.reconstruction_error, kl)).detach()


Step = Callable[[Tensor, Tensor], Tensor]
"""Pixels ``(P, B, D)`` and noise ``(P, S, B, Z)`` to `StepTerms.stacked`; updates the weights."""


def eager_step(
    vae: VAE,
    cells: Sequence[Cell],
    weights: Tensor,
    optimizer: PackOptimizer,
    x: Tensor,
    noise: Tensor,
) -> Tensor:
    """One update operation by operation, by torch's autograd: a `Step` of `x` and `noise`."""
    terms = training_loss(vae, cells, weights, x, noise)
    gradients = torch.autograd.grad(terms.loss.sum(), optimizer.weights, allow_unused=True)
    optimizer.step(gradients)
    return terms.stacked()


def _precision(precision: str, device: str) -> AbstractContextManager[object]:
    return (
        torch.autocast(device, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()
    )


def training_loss(
    vae: VAE, cells: Sequence[Cell], weights: Tensor, x: Tensor, noise: Tensor
) -> StepTerms:
    """The loss of each member on its batch ``x (P, B, D)``: the one place where beta appears.

    ``weights (P,)`` are what `second_weights` gives: the betas, or a delta posterior's sparsities.
    ``elbo``: reconstruction error + beta KL. ``iwae``: minus the importance-weighted bound over
    the S draws. With a delta posterior: reconstruction error + sparsity times the L1 norm of the
    code (the tutorial's sparse autoencoder, with L1 for the L0 that has no gradient).
    With bfloat16 the networks are autocast; what they give is float32 again, and so is the rest.
    """
    design = cells[0]
    with _precision(design.precision, x.device.type):
        drawn = draw(vae, x, noise, fit_scale=True)
    reconstruction_error = drawn.reconstruction_error().mean(-1)
    if design.posterior == "delta":
        return StepTerms(
            _sparse_loss(drawn, cells, weights, reconstruction_error), reconstruction_error, None
        )
    kl = drawn.kl().mean(-1)
    if design.objective == "iwae":
        bound = importance_weighted_bound(drawn.log_weights()).mean(-1)
        return StepTerms(-bound, reconstruction_error, kl)
    return StepTerms(reconstruction_error + weights * kl, reconstruction_error, kl)


def _sparse_loss(
    drawn: Draw, cells: Sequence[Cell], sparsities: Tensor, reconstruction_error: Tensor
) -> Tensor:
    if not any(cell.sparsity for cell in cells):
        return reconstruction_error
    return reconstruction_error + sparsities * drawn.posterior.mean.abs().sum(-1).mean(-1)


def second_weights(cells: Sequence[Cell], device: torch.device) -> Tensor:
    """What the loss's second term is multiplied by, a number a member, ``(P,)`` on the device.

    A step that is replayed can't bring numbers from the host, so they are there beforehand.
    """
    numbers = [cell.sparsity if cell.posterior == "delta" else cell.beta for cell in cells]
    return torch.tensor(numbers, device=device)


def learning_rate_factor(schedule: str, progress: float) -> float:
    """What the learning rate is multiplied by when ``progress`` (0 to 1) of training is done.

    ``iwae`` is the staircase of Burda et al. 2016: stage i = 0 ... 7 lasts 3^i parts of the time
    at 10^(-i/7).
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    ends = [(3 ** (i + 1) - 1) / (3**_BURDA_STAGES - 1) for i in range(_BURDA_STAGES)]
    stage = next((i for i, end in enumerate(ends) if progress < end), _BURDA_STAGES - 1)
    return float(10 ** (-stage / (_BURDA_STAGES - 1)))
