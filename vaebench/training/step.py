"""The training step: the loss of a pack, and one update of every member that is still finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

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

    The stacked weights stay the tensors that the network computes with. Members that share rate
    and decay are updated by one call; a member whose loss is no longer finite is dropped and stays
    as it is, and the others never notice. Weight decay is coupled (added to the gradient) and
    leaves biases and scales alone. This is the functional form of `torch.optim.Adam` with its
    defaults: the class's own bookkeeping adds a third to the update of a small VAE.
    """

    def __init__(self, vae: VAE, cells: Sequence[Cell]) -> None:
        named = [(name, p) for name, p in vae.named_parameters() if p.requires_grad]
        self._cells = cells
        self._stacked = [p for _, p in named]
        self._decays = [_decays(name) for name, _ in named]
        self._rates = [_SCALE_RATE if name.endswith("raw_scale") else 1.0 for name, _ in named]
        self._gradients: Sequence[Tensor | None] = [None for _ in named]
        self._slots: dict[tuple[float, float], list[_Slot]] = {}
        for member in range(len(cells)):
            for key, slot in self._slots_of(member):
                self._slots.setdefault(key, []).append(slot)
        # On a GPU a tensor, which a step that is replayed reads anew.
        device = self._stacked[0].device
        self._factored: dict[tuple[float, float], float | Tensor] = {
            key: torch.tensor(key[0], device=device) if device.type == "cuda" else key[0]
            for key in self._slots
        }

    def set_factor(self, factor: float) -> None:
        """Set every member's learning rate to its own times ``factor``."""
        for key, rate in self._factored.items():
            if isinstance(rate, Tensor):
                rate.fill_(key[0] * factor)
            else:
                self._factored[key] = key[0] * factor

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Update the members that are still trained by the stacked parameters' gradients."""
        self._gradients = gradients
        for key, slots in self._slots.items():
            used = [
                (slot, _laid_out_as(slot.weight, self._of(gradient, slot.member)))
                for slot in slots
                if (gradient := self._gradients[slot.index]) is not None
            ]
            adam(
                [slot.weight for slot, _ in used],
                [gradient for _, gradient in used],
                [slot.first_moment for slot, _ in used],
                [slot.second_moment for slot, _ in used],
                [],
                [slot.steps for slot, _ in used],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self._factored[key],
                weight_decay=key[1],
                eps=1e-8,
                maximize=False,
            )

    def drop(self, member: int) -> None:
        """Train this member no longer."""
        self._slots = {
            key: [slot for slot in slots if slot.member != member]
            for key, slots in self._slots.items()
        }

    def state(self) -> list[Tensor]:
        """Every tensor besides the weights that a step changes."""
        slots = [slot for slots in self._slots.values() for slot in slots]
        return [t for slot in slots for t in (slot.first_moment, slot.second_moment, slot.steps)]

    def is_finite(self, member: int) -> bool:
        """Whether all of a member's weights are finite."""
        return all(bool(self._of(p, member).isfinite().all()) for p in self._stacked)

    def gradient_norm(self, member: int) -> float:
        """The Euclidean norm of a member's last gradient."""
        gradients = [self._of(g, member) for g in self._gradients if g is not None]
        return float(nn.utils.get_total_norm(gradients))

    def _of(self, stacked: Tensor, member: int) -> Tensor:
        """One member's part; a single cell's weights need not be stacks: a user's own are not."""
        return stacked if len(self._cells) == 1 else stacked[member]

    def _slots_of(self, member: int) -> Iterator[tuple[tuple[float, float], _Slot]]:
        cell = self._cells[member]
        for index, weight in enumerate(self._stacked):
            rate, decay = cell.learning_rate * self._rates[index], self._decays[index]
            part = self._of(weight.detach(), member)
            slot = _Slot(
                member,
                index,
                part,
                torch.zeros_like(part),
                torch.zeros_like(part),
                torch.zeros((), device=part.device),
            )
            yield (rate, cell.weight_decay if decay else 0.0), slot


@dataclass(frozen=True)
class _Slot:
    """What Adam updates as one tensor: one member's part of a stacked weight.

    Never the whole stack, though that were one tensor for many: the kernel on a CPU treats the
    last few numbers of a tensor in another way, so a cell would not get the same bits as alone.
    """

    member: int
    index: int
    weight: Tensor
    first_moment: Tensor
    second_moment: Tensor
    steps: Tensor


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory layout of the weight: Adam's kernel reads both in order."""
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _decays(name: str) -> bool:
    return not name.endswith(("bias", "raw_scale", "spread"))
