"""The training step: the loss of a pack, and one update of every member that is still finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaebench.grid.cell import Cell
from vaebench.model.objective import Draw, draw, importance_weighted_bound
from vaebench.model.vae import VAE

__all__ = ["PackOptimizer", "StepTerms", "learning_rate_factor", "training_loss"]

_SCALE_RATE = 10.0
"""A learned scale is a few numbers on a log axis: it moves ten times as fast as the weights."""

_BURDA_STAGES = 8


@dataclass(frozen=True)
class StepTerms:
    """Means over the batch, ``(P,)`` each, in nats per image; ``loss`` is what is minimised."""

    loss: Tensor
    reconstruction_error: Tensor
    kl: Tensor | None


def training_loss(
    vae: VAE, cells: Sequence[Cell], beta: Tensor, x: Tensor, noise: Tensor
) -> StepTerms:
    """The loss of each member on its batch ``x (P, B, D)``: the one place where beta appears.

    ``elbo``: reconstruction error + beta KL. ``iwae``: minus the importance-weighted bound over
    the S draws. With a delta posterior: reconstruction error + sparsity times the L1 norm of the
    code (the tutorial's sparse autoencoder, with L1 for the L0 that has no gradient).
    """
    drawn = draw(vae, x, noise, fit_scale=True)
    reconstruction_error = drawn.reconstruction_error().mean(-1)
    design = cells[0]
    if design.posterior == "delta":
        return StepTerms(
            _sparse_loss(drawn, cells, reconstruction_error), reconstruction_error, None
        )
    kl = drawn.kl().mean(-1)
    if design.objective == "iwae":
        bound = importance_weighted_bound(drawn.log_weights()).mean(-1)
        return StepTerms(-bound, reconstruction_error, kl)
    return StepTerms(reconstruction_error + beta * kl, reconstruction_error, kl)


def _sparse_loss(drawn: Draw, cells: Sequence[Cell], reconstruction_error: Tensor) -> Tensor:
    sparsity = [cell.sparsity for cell in cells]
    if not any(sparsity):
        return reconstruction_error
    l1 = drawn.posterior.mean.abs().sum(-1).mean(-1)
    return reconstruction_error + l1.new_tensor(sparsity) * l1


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


class PackOptimizer:
    """Fused Adam over the members of a pack, each with its own learning rate and weight decay.

    The stacked weights stay the tensors that the network computes with; the optimiser sees one
    view a member. A member whose loss is no longer finite is dropped and stays as it is, and the
    others never notice. Weight decay is coupled (added to the gradient) and leaves biases and
    scales alone.
    """

    def __init__(self, vae: VAE, cells: Sequence[Cell]) -> None:
        self._stacked = [p for p in vae.parameters() if p.requires_grad]
        self._single = len(cells) == 1
        self._views = [
            [_member(p, i, single=self._single) for p in self._stacked] for i in range(len(cells))
        ]
        decayed = [_decays(name) for name, p in vae.named_parameters() if p.requires_grad]
        scales = [
            name.endswith("raw_scale") for name, p in vae.named_parameters() if p.requires_grad
        ]
        groups: dict[tuple[int, float, float], list[Tensor]] = {}
        for member, cell in enumerate(cells):
            for view, decays, is_scale in zip(self._views[member], decayed, scales, strict=True):
                rate = cell.learning_rate * (_SCALE_RATE if is_scale else 1.0)
                key = (member, rate, cell.weight_decay if decays else 0.0)
                groups.setdefault(key, []).append(view)
        self._adam = torch.optim.Adam(
            [
                {"params": views, "lr": rate, "weight_decay": decay, "member": member, "rate": rate}
                for (member, rate, decay), views in groups.items()
            ],
            fused=True,
        )

    def set_factor(self, factor: float) -> None:
        """Set every member's learning rate to its own times ``factor``."""
        for group in self._adam.param_groups:
            group["lr"] = group["rate"] * factor

    def step(self, loss: Tensor) -> None:
        """Differentiate the members' losses ``(P,)`` and update those that are still trained."""
        for stacked in self._stacked:
            stacked.grad = None
        loss.sum().backward()  # type: ignore[no-untyped-call]  # torch's own stub lacks it
        for member, views in enumerate(self._views):
            for view, stacked in zip(views, self._stacked, strict=True):
                gradient = stacked.grad
                view.grad = gradient if gradient is None or self._single else gradient[member]
        self._adam.step()

    def drop(self, member: int) -> None:
        """Train this member no longer."""
        groups = self._adam.param_groups
        groups[:] = [group for group in groups if group["member"] != member]

    def is_finite(self, member: int) -> bool:
        """Whether all of a member's weights are finite."""
        return all(bool(view.isfinite().all()) for view in self._views[member])

    def gradient_norm(self, member: int) -> float:
        """The Euclidean norm of a member's last gradient."""
        gradients = [v.grad for v in self._views[member] if v.grad is not None]
        return float(nn.utils.get_total_norm(gradients))


def _member(stacked: Tensor, member: int, *, single: bool) -> Tensor:
    """One member's share of a stacked weight; the whole of it where there is one member."""
    view = stacked.detach()
    return view if single else view[member]


def _decays(name: str) -> bool:
    return not name.endswith(("bias", "raw_scale", "spread"))
