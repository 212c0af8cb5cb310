"""A plain loop in eager PyTorch, with the images in the device's memory.

This is the usual loop without a DataLoader. On a GPU it waits for the loss at each step.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers.workload import Weights, Workload

__all__ = ["train_plain"]


def train_plain(work: Workload, seed: int, device: str = "cpu") -> tuple[float, Weights]:
    """Train on a device."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Linear(work.pixels, work.hidden), nn.ReLU(), nn.Linear(work.hidden, 2 * work.latent_dim)
    ).to(device)
    decoder = nn.Sequential(
        nn.Linear(work.latent_dim, work.hidden), nn.ReLU(), nn.Linear(work.hidden, work.pixels)
    ).to(device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=work.learning_rate)
    images = torch.from_numpy(work.train).to(device).flatten(1).float() / 255
    begin = time.perf_counter()
    for _ in range(work.epochs):
        order = torch.randperm(len(images), device=device)
        total = 0.0
        for indices in order.split(work.batch_size):
            x = images[indices]
            mean, log_variance = encoder(x).chunk(2, dim=-1)
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            error = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            loss = (error + work.beta * kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
    seconds = time.perf_counter() - begin
    return seconds, [p.detach().cpu().numpy() for p in parameters]
