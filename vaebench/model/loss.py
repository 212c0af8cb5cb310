"""The loss that training minimises: the bound with the weights of a training recipe.

beta, its schedule, free bits and sparsity act here only; what is recorded is the unweighted bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.objective import draw, importance_weighted_bound
from vaebench.model.vae import VAE


@dataclass(frozen=True)
class StepTerms:
    """Means over the batch, ``(P,)`` each, in nats per image; ``loss`` is what is minimised."""

    loss: Tensor
    reconstruction_error: Tensor
    kl: Tensor | None

    def stacked(self) -> Tensor:
        """Return the three terms as one detached tensor ``(3, P)``; zeros if there is no KL."""
        kl = torch.zeros_like(self.loss) if self.kl is None else self.kl
        return torch.stack((self.loss, self.reconstruction_error, kl)).detach()


def training_loss(vae: VAE, penalties: Tensor, x: Tensor, noise: Tensor) -> StepTerms:
    """Compute the loss of each member of a pack (cells trained as one batched program).

    ``elbo``: reconstruction error + beta KL. With ``free_bits`` the KL of each latent dimension, a
    mean over the batch, counts with at least that value, below which it has no gradient (Kingma et
    al. 2016, arXiv 1606.04934, section 5). ``iwae``: minus the importance-weighted bound over the S
    draws. With a delta posterior: reconstruction error + sparsity times the L1 norm of the code
    (the tutorial's sparse autoencoder, with L1 for the L0 that has no gradient).
    With bfloat16 the networks are autocast; their outputs, and all that follows, are float32.

    Args:
        vae: the pack; its first cell sets the objective, the posterior and the precision.
        penalties: the result of `penalty_weights`, ``(P,)``.
        x: pixels ``(P, B, D)``.
        noise: standard normal numbers ``(P, S, B, Z)``.
    """
    design = vae.cells[0]
    half = design.precision == "bfloat16"
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
        drawn = draw(vae, x, noise, fit_scale=True)
    reconstruction_error = drawn.reconstruction_error().mean(-1)
    if design.posterior == "delta":
        size = drawn.posterior.mean.abs().sum(-1).mean(-1)
        return StepTerms(reconstruction_error + penalties * size, reconstruction_error, None)
    kl = drawn.kl().mean(-1)
    if design.objective == "iwae":
        bound = importance_weighted_bound(drawn.log_weights()).mean(-1)
        return StepTerms(-bound, reconstruction_error, kl)
    penalised, parts = kl, drawn.kl_per_dimension() if design.free_bits else None
    if parts is not None:
        penalised = parts.mean(1).clamp(min=design.free_bits).sum(-1)
    return StepTerms(reconstruction_error + penalties * penalised, reconstruction_error, kl)


def penalty_weights(cells: Sequence[Cell], device: torch.device, done: float = 0.0) -> Tensor:
    """Return the factor of the loss's second term for each member, ``(P,)`` on the device.

    It is the sparsity of a delta posterior, else beta times `schedule_factor`.

    Args:
        cells: one cell for each member.
        device: device of the result.
        done: number of completed epochs; it may have a fraction.
    """
    numbers = [
        cell.sparsity
        if cell.posterior == "delta"
        else cell.beta * schedule_factor(cell.beta_schedule, done, cell.epochs)
        for cell in cells
    ]
    return torch.tensor(numbers, device=device)


def schedule_factor(schedule: str, done: float, epochs: int) -> float:
    """Return the factor of beta when ``done`` of ``epochs`` epochs are over.

    ``linear:E`` rises from 0 to 1 over the first E epochs (Bowman et al. 2016, arXiv 1511.06349).
    ``cyclical:C`` rises from 0 to 1 over the first half of each of C equal cycles, and stays at 1
    over the second half (Fu et al. 2019, arXiv 1903.10145).
    """
    kind, _, number = schedule.partition(":")
    if kind == "linear":
        return min(1.0, done / int(number))
    if kind == "cyclical":
        cycle = epochs / int(number)
        return min(1.0, 2 * (done % cycle) / cycle)
    return 1.0
