"""One training step: gradients of the loss by autograd, and the update of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vaebench.grid.cell import Cell
from vaebench.model.loss import penalty_weights, training_loss
from vaebench.model.vae import VAE

__all__ = ["Gradients", "TrainingStep", "learning_rate_factor", "make_optimizer"]

_SCALE_RATE = 10.0
"""Factor of the learning rate of a learned scale, which is few parameters on a log scale."""

_BURDA_STAGES = 8

Gradients = Callable[[Tensor, Tensor], tuple[Tensor, Sequence[Tensor | None]]]
"""Computes `StepTerms.stacked` and one gradient for each trained parameter from pixels
``(P, B, D)`` and noise ``(P, S, B, Z)``; None if the loss does not depend on the parameter."""


class TrainingStep:
    """The update of a pack's weights on one batch.

    Args:
        vae: the pack; its parameters are updated in place.
        cells: one for each member; they may differ only in seed, beta, sparsity, prior scale and
            the value of a fixed sigma.

    Attributes:
        parameters: the trained parameters by name.
        optimizer: holds the state of the update.
        compiled: a compiled function that replaces `gradients` for full batches, or None.

    Raises:
        ValueError: the cells differ in a setting of the optimizer.
    """

    def __init__(self, vae: VAE, cells: Sequence[Cell]) -> None:
        shared = {(c.optimizer, c.adam_beta1, c.learning_rate, c.weight_decay) for c in cells}
        if len(shared) > 1:
            raise ValueError(
                "the cells of a pack must have the same optimizer, adam_beta1, learning_rate and "
                f"weight_decay; got {sorted(shared)}: train cells that differ in them separately"
            )
        self.vae, self.cells = vae, cells
        self.batch_size = cells[0].batch_size
        self.penalties = penalty_weights(cells, vae.prior_scale.device)
        self.parameters = {name: p for name, p in vae.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(vae, cells[0])
        self.compiled: Gradients | None = None
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Update the weights on pixels ``(P, B, D)`` with noise ``(P, S, B, Z)``.

        Returns `StepTerms.stacked` before the update, ``(3, P)``.
        """
        full = x.shape[1] == self.batch_size
        compute = self.compiled if self.compiled is not None and full else self.gradients
        numbers, gradients = compute(x, noise)
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = _laid_out_as(parameter, gradient)
        self.optimizer.step()
        return numbers

    def gradients(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Compute loss and gradients eagerly; see `Gradients`."""
        terms = training_loss(self.vae, self.penalties, x, noise)
        parameters = list(self.parameters.values())
        return terms.stacked(), torch.autograd.grad(terms.loss.sum(), parameters, allow_unused=True)

    def set_penalties(self, done: float) -> None:
        """Set the weight of the second term of the loss to its value after ``done`` epochs."""
        self.penalties.copy_(penalty_weights(self.cells, self.penalties.device, done))

    def set_rate_factor(self, factor: float) -> None:
        """Set every learning rate to ``factor`` times its initial value."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes in place, except the buffers of the model."""
        states = [self.optimizer.state[p] for p in self.parameters.values()]
        tensors = [value for state in states for value in state.values()]
        return [*(p.detach() for p in self.parameters.values()), *tensors]

    def gradient_norm(self, member: int) -> float:
        """Return the Euclidean norm of one member's last gradient."""
        found = [p.grad for p in self.parameters.values() if p.grad is not None]
        return float(nn.utils.get_total_norm(self._of_member(found, member)))

    def is_finite(self, member: int) -> bool:
        """Return whether all weights of one member are finite."""
        weights = [p.detach() for p in self.parameters.values()]
        return all(bool(weight.isfinite().all()) for weight in self._of_member(weights, member))

    def _of_member(self, tensors: list[Tensor], member: int) -> list[Tensor]:
        # Parameters of a network that the user supplies have no pack dimension.
        return [each[member] for each in tensors] if len(self.vae.cells) > 1 else tensors


def make_optimizer(vae: VAE, design: Cell) -> torch.optim.Optimizer:
    """Return torch's optimizer for the stacked weights, with default constants except beta1.

    Weight decay excludes biases, scales and a learned prior. On a GPU the learning rate is a
    tensor, so that a captured step uses its present value.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in vae.named_parameters():
        if parameter.requires_grad:
            rate = design.learning_rate * (_SCALE_RATE if name.endswith("raw_scale") else 1.0)
            kept = name.endswith(("bias", "raw_scale", "spread")) or name.startswith("prior_")
            key = (rate, 0.0 if kept else design.weight_decay)
            groups.setdefault(key, []).append(parameter)
    device = vae.prior_scale.device
    on_gpu = device.type == "cuda"
    options: list[dict[str, object]] = [
        {
            "params": parameters,
            "lr": torch.tensor(rate, device=device) if on_gpu else rate,
            "weight_decay": decay,
        }
        for (rate, decay), parameters in groups.items()
    ]
    if design.optimizer == "sgd":
        return torch.optim.SGD(options, fused=True)
    kind = torch.optim.AdamW if design.optimizer == "adamw" else torch.optim.Adam
    return kind(options, betas=(design.adam_beta1, 0.999), fused=True, capturable=on_gpu)


def _laid_out_as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Return the gradient in the memory layout of the parameter, as fused Adam requires."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def learning_rate_factor(schedule: str, progress: float) -> float:
    """Return the factor of the learning rate when ``progress`` (0 to 1) of training is done.

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
