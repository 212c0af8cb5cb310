"""Times the training step over device, precision, latent dimension, batch size and architecture.

A round is `train` over 8 steps, on a GPU over 80, so that most are captured. Its first call warms
up outside the timing; each step ends when its losses are read, which waits for a GPU.
The median time of a step is in `extra_info`.
"""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch

from benchmarks.models import cell, training_pixels, vae_of
from vaebench.grid.cell import Cell
from vaebench.runner.machine import absent_device
from vaebench.runner.seeding import training_generators
from vaebench.training.loop import train

_STEPS = 8


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Each kind of device, skipped with the reason where it is absent."""
    why = absent_device(request.param)
    if why is not None:
        pytest.skip(why)
    return str(request.param)


def _time(benchmark: Any, *cells: Cell) -> None:
    if cells[0].device != "cpu":
        cells = tuple(each.model_copy(update={"epochs": 10}) for each in cells)
    design = cells[0]
    pixels = training_pixels(design, _STEPS * design.batch_size)
    vae = vae_of(*cells)
    sources = [training_generators(each) for each in cells]
    # About a second each, whatever the size of the step.
    rounds = 3 if design.latent_dim * design.batch_size > 1e5 or design.batch_size > 2e3 else 10
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = benchmark.pedantic(
            train, args=(vae, cells, pixels, sources), rounds=rounds, warmup_rounds=1
        )
    finally:
        torch.set_num_threads(threads)
    assert result.divergence == [None] * len(cells)
    if benchmark.stats is not None:
        median = statistics.median(result.step_seconds)
        benchmark.extra_info |= {
            "threads": 1,
            "step_ms": median * 1e3,
            "samples_per_second": design.batch_size * len(cells) / median,
        }


@pytest.mark.parametrize("latent_dim", [2, 8, 32, 128, 1000, 10_000])
def test_latent_dimension(benchmark: Any, device: str, latent_dim: int) -> None:
    _time(benchmark, cell(device=device, latent_dim=latent_dim))


@pytest.mark.parametrize("batch_size", [20, 128, 1024, 8192])
def test_batch_size(benchmark: Any, device: str, batch_size: int) -> None:
    _time(benchmark, cell(device=device, batch_size=batch_size))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision(benchmark: Any, device: str, precision: str) -> None:
    _time(benchmark, cell(device=device, precision=precision))


@pytest.mark.parametrize(
    "architecture",
    [
        {"architecture": "linear"},
        {"hidden": (1000, 500, 250)},
        {"architecture": "conv", "hidden": (32, 64)},
    ],
    ids=["linear", "mlp-1000-500-250", "conv-32-64"],
)
def test_architecture(benchmark: Any, device: str, architecture: dict[str, Any]) -> None:
    _time(benchmark, cell(device=device, **architecture))


@pytest.mark.parametrize(
    "likelihood",
    [
        {"likelihood": "gaussian", "sigma": "learned"},
        {"likelihood": "continuous_bernoulli"},
        {"likelihood": "categorical"},
    ],
    ids=["gaussian", "continuous_bernoulli", "categorical"],
)
def test_likelihood(benchmark: Any, device: str, likelihood: dict[str, Any]) -> None:
    _time(benchmark, cell(device=device, binarization="none", **likelihood))


@pytest.mark.parametrize("members", [1, 6, 64])
def test_pack_of_small_cells(benchmark: Any, device: str, members: int) -> None:
    """Cells as small as those of `quick`: calls cost more time than arithmetic."""
    small = {"device": device, "hidden": (32,), "latent_dim": 8, "batch_size": 32}
    _time(benchmark, *(cell(**small, seed=seed) for seed in range(members)))
