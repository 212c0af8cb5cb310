"""The loop that PyTorch's VAE example teaches: a DataLoader over images, ToTensor, BCE, Adam.

Written from its description (github.com/pytorch/examples, vae): grey pixels with the binary
cross entropy on a sigmoid, summed over pixels and batch, two layers for mean and log-variance, and
the loss read as a Python number after each step.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.workload import Weights, Workload
from vaebench.data.vision import torchvision_module

__all__ = ["train_example"]


class _Images(Dataset[Tensor]):
    """Gives an image as torchvision's MNIST does: an array to a PIL image, then the transform."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images
        self._to_tensor = torchvision_module("transforms").ToTensor()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        tensor: Tensor = self._to_tensor(Image.fromarray(self._images[index]))
        return tensor


class _Network(nn.Module):
    def __init__(self, work: Workload) -> None:
        super().__init__()
        self.hidden = nn.Linear(work.pixels, work.hidden)
        self.mean = nn.Linear(work.hidden, work.latent_dim)
        self.log_variance = nn.Linear(work.hidden, work.latent_dim)
        self.decoder = nn.Linear(work.latent_dim, work.hidden)
        self.output = nn.Linear(work.hidden, work.pixels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.hidden(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return torch.sigmoid(self.output(F.relu(self.decoder(z)))), mean, log_variance


def train_example(work: Workload, seed: int) -> tuple[float, Weights]:
    """Train as the example does."""
    torch.manual_seed(seed)
    network = _Network(work)
    optimizer = torch.optim.Adam(network.parameters(), lr=work.learning_rate)
    loader = DataLoader(_Images(work.train), batch_size=work.batch_size, shuffle=True)
    begin = time.perf_counter()
    for _ in range(work.epochs):
        total = 0.0
        for images in loader:
            x = images.view(-1, work.pixels)
            optimizer.zero_grad()
            pixels, mean, log_variance = network(x)
            error = F.binary_cross_entropy(pixels, x, reduction="sum")
            kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            loss = error + work.beta * kl
            loss.backward()
            total += loss.item()
            optimizer.step()
    seconds = time.perf_counter() - begin
    return seconds, _weights(network)


def _weights(network: _Network) -> Weights:
    layers = (
        (network.hidden,),
        (network.mean, network.log_variance),
        (network.decoder,),
        (network.output,),
    )
    joined = []
    for parts in layers:
        joined.append(np.concatenate([part.weight.detach().numpy() for part in parts]))
        joined.append(np.concatenate([part.bias.detach().numpy() for part in parts]))
    return joined
