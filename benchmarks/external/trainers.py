"""Five ways to train one VAE (784-512-20, Adam, MNIST), and what each prints about the result.

All see the same 10,000 images, binarised once, in batches of 128 for the same number of epochs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import vaebench
from vaebench.data.pixels import evaluation_pixels
from vaebench.data.sources import load
from vaebench.records.store import Store

HIDDEN, LATENT, BATCH, LEARNING_RATE, IMAGES = 512, 20, 128, 1e-3, 10_000
"""The network is the default one of pythae."""
BETA, IWAE_SAMPLES = 4.0, 5


@dataclass(frozen=True)
class Training:
    """One training: its seed, its epochs, and the folder of its files."""

    seed: int
    epochs: int
    folder: Path


@dataclass(frozen=True)
class Printed:
    """The last number that a code base prints about a trained model.

    Attributes:
        value: the number.
        words: what it is called there.
    """

    value: float
    words: str

    def save(self, folder: Path) -> None:
        """Write it last, because it says that the training ended."""
        (folder / "printed.json").write_text(json.dumps(asdict(self)), encoding="utf-8")


@cache
def images(split: str) -> Tensor:
    """The images as every trainer sees them, ``(N, 784)`` of 0 and 1, binarised once."""
    data = load("mnist", train_size=IMAGES)
    found = data.train if split == "train" else data.test
    return evaluation_pixels(found.images, 256, "static", dequantize=False)


def _pythae(kind: str, **settings: object) -> Callable[[Training], Printed]:
    def train(work: Training) -> Printed:
        from pythae import models
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        logging.getLogger("pythae").setLevel(logging.ERROR)
        torch.manual_seed(work.seed)
        config = getattr(models, f"{kind}Config")(
            input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce", **settings
        )
        model = getattr(models, kind)(config)
        data = images("train").view(-1, 1, 28, 28)
        trainer = BaseTrainer(
            model,
            BaseDataset(data, torch.zeros(len(data))),
            None,
            BaseTrainerConfig(
                output_dir=str(work.folder / "trainer"),
                num_epochs=work.epochs,
                per_device_train_batch_size=BATCH,
                learning_rate=LEARNING_RATE,
                no_cuda=True,
                seed=work.seed,
            ),
        )
        trainer.prepare_training()
        losses = [float(trainer.train_step(epoch)) for epoch in range(1, work.epochs + 1)]
        model.save(str(work.folder / "model"))
        return Printed(losses[-1], "train loss")

    return train


class ExampleVAE(nn.Module):
    """The network of PyTorch's VAE example, with pythae's width, and the loss of that example."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, HIDDEN)
        self.fc21, self.fc22 = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.fc3, self.fc4 = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of q(z|x)."""
        hidden = F.relu(self.fc1(x))
        return self.fc21(hidden), self.fc22(hidden)

    def decode(self, z: Tensor) -> Tensor:
        """Return the probability of each pixel, ``(N, 784)``."""
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def loss(self, x: Tensor) -> Tensor:
        """The loss of the example: cross entropy and KL, summed over the batch."""
        mean, log_variance = self.encode(x)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        error = F.binary_cross_entropy(self.decode(z), x, reduction="sum")
        return error - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())

    def own_loss(self, x: Tensor) -> Tensor:
        """The same as a mean over images, as the example prints it."""
        rows = x.flatten(1)
        return self.loss(rows) / len(rows)


def _example(work: Training) -> Printed:
    torch.manual_seed(work.seed)
    model = ExampleVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for batch in _batches(work.epochs):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    test = images("test")
    with torch.no_grad():
        total = sum(model.loss(batch).item() for batch in test.split(BATCH))
    save_file(model.state_dict(), work.folder / "model.safetensors")
    return Printed(total / len(test), "Test set loss")


def _batches(epochs: int) -> Iterator[Tensor]:
    loader = DataLoader(TensorDataset(images("train")), batch_size=BATCH, shuffle=True)
    for _ in range(epochs):
        for (batch,) in loader:
            yield batch


def _vaebench(work: Training) -> Printed:
    base = {
        "dataset": "mnist",
        "binarization": "static",
        "train_size": IMAGES,
        "hidden": [HIDDEN],
        "latent_dim": LATENT,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "epochs": work.epochs,
        "seed": work.seed,
        "tsne_points": 0,
    }
    store = work.folder / "model"
    vaebench.run({"name": "external", "base": base}, store, jobs=1, keep_weights=True)
    (record,) = Store(store).read_all()[0]
    value = record.metrics["elbo"].value
    if value is None:
        raise RuntimeError(f"the training of seed {work.seed} ended as {record.status}")
    return Printed(value, "ELBO")


TRAINERS: dict[str, Callable[[Training], Printed]] = {
    "pythae_vae": _pythae("VAE"),
    "pythae_beta_vae": _pythae("BetaVAE", beta=BETA),
    "pythae_iwae": _pythae("IWAE", number_samples=IWAE_SAMPLES),
    "pytorch_example": _example,
    "vaebench": _vaebench,
}
"""Each code base by its name in tables: trains a model, keeps it, and returns what is printed."""


def model_of(name: str, folder: Path) -> str | nn.Module:
    """The trained model of a folder as `vaebench.evaluate` takes it."""
    if name == "pytorch_example":
        model = ExampleVAE()
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model
    if name == "vaebench":
        (cell,) = (folder / "model" / "cells").iterdir()
        return str(cell)
    return str(folder / "model")
