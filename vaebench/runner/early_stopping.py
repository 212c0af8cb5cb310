"""Early stopping: training ends when the bound of validation images no longer rises."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from vaebench.evaluation.bound import score
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.runner.seeding import generator

_EPOCH, _BOUND, _WEIGHTS = "best_epoch", "best_bound", "weights."


class EarlyStopping:
    """Keeps the best weights so far and decides when to stop.

    Args:
        patience: epochs without a better bound after which training ends.

    Attributes:
        kept: the best epoch, its bound and its weights, as tensors that a checkpoint can hold.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.kept: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """The epoch of the best bound; 0 before the first finite one."""
        return int(self.kept.get(_EPOCH, 0))

    def after_epoch(self, epoch: int, bound: float, vae: VAE) -> bool:
        """Keep the weights if the bound, in nats per image, is the best; return whether to stop."""
        best = float(self.kept.get(_BOUND, -math.inf))
        if bound > best:
            self.kept[_EPOCH] = torch.tensor(epoch)
            self.kept[_BOUND] = torch.tensor(bound, dtype=torch.float64)
            for name, value in vae.state_dict().items():
                self.kept[_WEIGHTS + name] = value.detach().clone()
        return epoch - self.best_epoch >= self.patience

    def restore(self, vae: VAE) -> None:
        """Set the model to the weights of the best epoch, if there is one."""
        weights = {
            name.removeprefix(_WEIGHTS): value
            for name, value in self.kept.items()
            if name.startswith(_WEIGHTS)
        }
        if weights:
            vae.load_state_dict(weights)


def validation_bound(vae: VAE, cell: Cell, valid: EvaluationSplit) -> float:
    """Return the mean ELBO of the validation images in nats per image, always with equal noise.

    For a delta posterior, which has no ELBO, it is minus the reconstruction error. A copy of the
    model is evaluated, so that training is not affected.
    """
    frozen = copy.deepcopy(vae).eval()
    scores = score(frozen, cell, valid, generator(cell.seed, "validation"))
    kl = 0.0 if scores.kl is None else float(scores.kl.mean())
    return -float(scores.reconstruction_error.mean()) - kl
