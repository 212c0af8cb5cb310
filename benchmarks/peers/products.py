"""The floor: the eleven matrix products of a step and nothing else."""

from __future__ import annotations

import time
from itertools import pairwise

import torch

from benchmarks.peers.workload import Workload

__all__ = ["time_products"]


def time_products(work: Workload) -> float:
    """Seconds of the matrix products of all steps of the workload.

    Four forward; backward one a layer for the weights, and one a layer but the first for the input.
    """
    sizes = (work.pixels, work.hidden, 2 * work.latent_dim)
    generator = torch.Generator().manual_seed(0)
    layers = [
        *pairwise(sizes),
        (work.latent_dim, work.hidden),
        (work.hidden, work.pixels),
    ]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    inputs = [normal(work.batch_size, size_in) for size_in, _ in layers]
    weights = [normal(size_out, size_in) for size_in, size_out in layers]
    gradients = [normal(work.batch_size, size_out) for _, size_out in layers]
    begin = time.perf_counter()
    for _ in range(work.steps):
        for x, weight in zip(inputs, weights, strict=True):
            x @ weight.T
        for index in reversed(range(len(layers))):
            gradients[index].T @ inputs[index]
            if index:
                gradients[index] @ weights[index]
    return time.perf_counter() - begin
