"""vaebench's own training loop on the workload."""

from __future__ import annotations

import time

import torch

from benchmarks.peers.workload import Weights, Workload, as_cell
from vaebench.data.pixels import TrainingPixels
from vaebench.model.vae import VAE
from vaebench.training.loop import Generators, train

__all__ = ["train_pack", "train_vaebench"]


def train_vaebench(
    work: Workload, seed: int, *, compiled: bool = False, precision: str = "float32"
) -> tuple[float, Weights]:
    """Train one cell; ``compiled`` as in a run of 20,000 steps or more."""
    seconds, (weights,) = train_pack(work, [seed], compiled=compiled, precision=precision)
    return seconds, weights


def train_pack(
    work: Workload,
    seeds: list[int],
    device: str = "cpu",
    *,
    compiled: bool = False,
    precision: str = "float32",
) -> tuple[float, list[Weights]]:
    """Train cells that differ in their seeds as one program; return seconds and weights.

    Raises:
        RuntimeError: the step was to be compiled and was not.
    """
    update = {"device": device, "precision": precision}
    cells = [as_cell(work, seed).model_copy(update=update) for seed in seeds]
    images = torch.from_numpy(work.train).unsqueeze(1)
    pixels = TrainingPixels(images, 256, "none", dequantize=False, device=device)
    starts = [torch.Generator().manual_seed(seed) for seed in seeds]
    vae = VAE(cells, (1, 28, 28), 256, starts, 1.0).to(device)
    sources = [
        Generators(
            torch.Generator().manual_seed(3 * seed),
            *(torch.Generator(device).manual_seed(3 * seed + i) for i in (1, 2)),
        )
        for seed in seeds
    ]
    begin = time.perf_counter()
    training = train(vae, cells, pixels, sources, compiled=compiled)
    if compiled and training.note:
        raise RuntimeError(training.note)
    # The last step has ended: its loss was read.
    seconds = time.perf_counter() - begin - training.compile_seconds
    stacks = [p.detach().cpu().numpy() for p in vae.parameters()]
    return seconds, [[stack[member] for stack in stacks] for member in range(len(seeds))]
