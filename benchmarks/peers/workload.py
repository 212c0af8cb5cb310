"""The common task of all peers: network, batch size, optimiser, data and number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch.nn import functional as F

from vaebench.data.catalog import locate
from vaebench.data.sources import load
from vaebench.errors import DataMissing
from vaebench.grid.cell import Cell
from vaebench.model.objective import draw
from vaebench.model.vae import VAE

__all__ = [
    "BATCH",
    "LEARNING_RATE",
    "Images",
    "Peer",
    "Weights",
    "Workload",
    "as_cell",
    "images_here",
    "negative_elbo",
    "workload",
]

LEARNING_RATE = 1e-3
_TRAIN = 1536

BATCH = 128
"""Batch size of the PyTorch example, the default here."""

Weights = list[NDArray[np.float32]]
"""Weight ``(out, in)`` and bias of the hidden layer, the posterior's mean and log-variance as one
layer, the decoder's hidden layer and the logits: eight arrays."""


@dataclass(frozen=True)
class Workload:
    """A VAE with one hidden layer in encoder and decoder, cross-entropy on grey images.

    Attributes:
        train, test: grey levels ``(N, 28, 28)`` uint8.
        hidden, latent_dim, batch_size: the network's and the batch's sizes.
        epochs: passes over the training images.
        learning_rate, beta: Adam's, and the weight of the KL term.
    """

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    hidden: int
    latent_dim: int
    batch_size: int
    epochs: int
    learning_rate: float = LEARNING_RATE
    beta: float = 1.0

    @property
    def steps(self) -> int:
        """Optimiser steps of one training without short batches."""
        return self.epochs * (len(self.train) // self.batch_size)

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return math.prod(self.train.shape[1:])


Peer = Callable[[Workload, int], tuple[float, Weights]]
"""From ``(workload, seed)`` to the seconds of the steps (without building the model and compiling)
and the final weights."""


@cache
def _digits() -> NDArray[np.uint8]:
    """scikit-learn's 1,797 digits enlarged to 28x28 pixels and 256 grey levels."""
    small = torch.from_numpy(load_digits().images).to(torch.float32).unsqueeze(1)
    large = F.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    shuffled = large[torch.randperm(len(large), generator=torch.Generator().manual_seed(0))]
    return (shuffled.squeeze(1) * (255 / 16)).round().to(torch.uint8).numpy()


@cache
def _mnist() -> NDArray[np.uint8]:
    """As many training images of MNIST as there are digits."""
    images = load("mnist", train_size=len(_digits())).train.images
    return images.squeeze(1).numpy()


Images = Literal["mnist", "digits"]
_IMAGES: dict[Images, Callable[[], NDArray[np.uint8]]] = {"mnist": _mnist, "digits": _digits}


def images_here() -> Images:
    """MNIST, as in the PyTorch example; enlarged digits if it is not found."""
    try:
        locate("mnist")
    except DataMissing:
        return "digits"
    return "mnist"


def workload(
    hidden: int = 400, epochs: int = 5, images: Images | None = None, batch_size: int = BATCH
) -> Workload:
    """The 784-hidden-20 network, by default on `images_here`; no batch is short."""
    pixels = _IMAGES[images or images_here()]()
    return Workload(pixels[:_TRAIN], pixels[_TRAIN:], hidden, 20, batch_size, epochs)


def as_cell(work: Workload, seed: int) -> Cell:
    """The design as a cell of vaebench."""
    return Cell(
        dataset="mnist",
        hidden=(work.hidden,),
        latent_dim=work.latent_dim,
        batch_size=work.batch_size,
        epochs=work.epochs,
        learning_rate=work.learning_rate,
        beta=work.beta,
        seed=seed,
    )


@torch.no_grad()
def negative_elbo(work: Workload, weights: Weights) -> float:
    """Mean of 16 draws of -ELBO on the test images, nats per image; the same code for all peers."""
    vae = VAE([as_cell(work, 0)], (1, 28, 28), 256, [torch.Generator()], 1.0)
    parameters = list(vae.parameters())
    if len(parameters) != len(weights):
        raise ValueError(f"a peer gives {len(parameters)} arrays; it gave {len(weights)}")
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.copy_(torch.from_numpy(weight).reshape(parameter.shape))
    x = torch.from_numpy(work.test).reshape(1, -1, work.pixels) / 255
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 16, x.shape[1], work.latent_dim), generator=generator)
    return -float(draw(vae, x, noise).elbo().mean())
