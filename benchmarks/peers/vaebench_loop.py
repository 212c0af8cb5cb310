"""vaebench's own training loop on the workload."""

from __future__ import annotations

import time

import torch

from benchmarks.peers.workload import Weights, Workload, as_cell
from vaebench.data.pixels import TrainingPixels
from vaebench.model.vae import VAE
from vaebench.training.loop import Generators, train

__all__ = ["train_vaebench"]


def train_vaebench(work: Workload, seed: int, *, compiled: bool = False) -> tuple[float, Weights]:
    """Train one cell, a pack of one; compiled, as trainings of 10,000 steps and more are."""
    cell = as_cell(work, seed)
    images = torch.from_numpy(work.train).unsqueeze(1)
    pixels = TrainingPixels(images, 256, "none", dequantize=False)
    vae = VAE([cell], (1, 28, 28), 256, [torch.Generator().manual_seed(seed)], 1.0)
    order, drawn, noise = (torch.Generator().manual_seed(3 * seed + i) for i in range(3))
    sources = [Generators(order, drawn, noise)]
    begin = time.perf_counter()
    training = train(vae, [cell], pixels, sources, compiled=compiled)
    seconds = time.perf_counter() - begin - training.compile_seconds
    return seconds, [p.detach().squeeze(0).numpy() for p in vae.parameters()]
