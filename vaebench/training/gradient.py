"""The gradient of a step's loss: as torch finds it operation by operation, or compiled as a whole.

Compiling takes some ten seconds a design and makes the step of a small VAE about twice as fast, of
one of MNIST's size a fifth; `worth_compiling` says from how many steps on that is repaid. Results
differ by rounding only, which is checked before a compiled gradient is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.step import StepTerms, training_loss

__all__ = ["Gradient", "NotCompiled", "compiled_gradient", "eager_gradient", "worth_compiling"]

_FEWEST_STEPS = 10_000
"""About a millisecond is saved a step, and ten seconds are spent on compiling."""

Gradient = Callable[[Tensor, Tensor], tuple[StepTerms, Sequence[Tensor | None]]]
"""Pixels ``(P, B, D)`` and noise ``(P, S, B, Z)`` to the terms and the gradient of every parameter
that is trained, in their order; None for one that the loss does not depend on."""


class NotCompiled(Exception):
    """A gradient could not be compiled here, or its numbers were not those of the eager one."""


def worth_compiling(steps: int) -> bool:
    """Whether so many steps of training repay compiling."""
    return steps >= _FEWEST_STEPS


def eager_gradient(vae: VAE, cells: Sequence[Cell], beta: Tensor) -> Gradient:
    """The gradient by torch's autograd."""
    trained = [p for p in vae.parameters() if p.requires_grad]

    def gradient(x: Tensor, noise: Tensor) -> tuple[StepTerms, Sequence[Tensor | None]]:
        terms = training_loss(vae, cells, beta, x, noise)
        return terms, torch.autograd.grad(terms.loss.sum(), trained, allow_unused=True)

    return gradient


def compiled_gradient(
    vae: VAE, cells: Sequence[Cell], beta: Tensor, x: Tensor, noise: Tensor
) -> Gradient:
    """The gradient as one compiled program for batches of the shapes of ``x`` and ``noise``.

    The operations of one eager gradient on this batch are written down and compiled together; the
    weights are arguments, everything else of the model is constant.

    Raises:
        NotCompiled: there is no compiler, it can't do this design, or the numbers differ.
    """
    weights = [p for p in vae.parameters() if p.requires_grad]
    traced = _Traced(vae, cells, beta)

    def flat(weights: Sequence[Tensor], x: Tensor, noise: Tensor) -> list[Tensor]:
        return traced.numbers([w.detach().requires_grad_() for w in weights], x, noise)

    detached = [w.detach() for w in weights]
    try:
        program = torch.compile(
            make_fx(flat)(detached, x, noise), dynamic=False, options={"compile_threads": 1}
        )
        with torch.no_grad():
            numbers = program(detached, x, noise)
    except Exception as error:  # whatever a compiler stumbles over, training goes on without it
        raise NotCompiled(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    for ours, theirs in zip(numbers, flat(detached, x, noise), strict=True):
        if not float((ours - theirs).norm()) <= 1e-3 * float(theirs.norm()) + 1e-5:
            raise NotCompiled("its numbers are not those of the same operations one by one")

    def gradient(x: Tensor, noise: Tensor) -> tuple[StepTerms, Sequence[Tensor | None]]:
        with torch.no_grad():
            return traced.unpacked(program([w.detach() for w in weights], x, noise))

    return gradient


class _Traced(nn.Module):
    """The loss and its gradient as a function of the weights, tensors in and tensors out."""

    def __init__(self, vae: VAE, cells: Sequence[Cell], beta: Tensor) -> None:
        super().__init__()
        self.vae, self._cells, self._beta = vae, cells, beta
        self._names = [f"vae.{name}" for name, p in vae.named_parameters() if p.requires_grad]
        self._used: list[bool] = []
        self._has_kl = True

    def forward(self, x: Tensor, noise: Tensor) -> StepTerms:
        return training_loss(self.vae, self._cells, self._beta, x, noise)

    def numbers(self, weights: Sequence[Tensor], x: Tensor, noise: Tensor) -> list[Tensor]:
        """Loss, reconstruction error, KL if there is one, and the gradients that there are."""
        terms = functional_call(self, dict(zip(self._names, weights, strict=True)), (x, noise))
        gradients = torch.autograd.grad(terms.loss.sum(), weights, allow_unused=True)
        self._used = [gradient is not None for gradient in gradients]
        self._has_kl = terms.kl is not None
        parts = (terms.loss, terms.reconstruction_error, terms.kl)
        return [
            *(part.detach() for part in parts if part is not None),
            *(gradient for gradient in gradients if gradient is not None),
        ]

    def unpacked(self, numbers: Sequence[Tensor]) -> tuple[StepTerms, Sequence[Tensor | None]]:
        """What `numbers` gave, as terms and gradients."""
        left = iter(numbers)
        loss, error = next(left), next(left)
        terms = StepTerms(loss, error, next(left) if self._has_kl else None)
        return terms, [next(left) if used else None for used in self._used]
