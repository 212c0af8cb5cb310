"""What training reaches does not depend on the device: the exact value, or the same mean ELBO."""

import functools
import math

import pytest
import torch
from tiny_runs import generator
from torch import Tensor

from vaebench.data.pixels import TrainingPixels
from vaebench.data.sources import load
from vaebench.evaluation.linear import linear_bound
from vaebench.grid.cell import Cell
from vaebench.model.objective import draw
from vaebench.model.vae import VAE
from vaebench.runner.machine import absent_device
from vaebench.training.loop import Generators, train
from vaebench.truth.ppca import fit

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(
            absent_device("cuda") is not None, reason=f"needs a GPU: {absent_device('cuda')}"
        ),
    ],
)

LINEAR = {
    "architecture": "linear",
    "sigma": 0.5,
    "latent_dim": 20,
    "epochs": 200,
    "batch_size": 150,
    "learning_rate": 0.01,
    "learning_rate_schedule": "cosine",
    "importance_samples": 4,
}
MLP = {"hidden": (64,), "latent_dim": 8, "sigma": 0.2, "epochs": 15, "batch_size": 64}


def trained(device: str, seeds: range, axes: dict[str, object]) -> tuple[VAE, Tensor]:
    """A pack trained on the digits on a device, and then brought to the CPU; test pixels."""
    cells = [
        Cell.model_validate(
            {"dataset": "digits", "likelihood": "gaussian", "device": device, "seed": seed} | axes
        )
        for seed in seeds
    ]
    data = load("digits", None, None)
    pixels = TrainingPixels(data.train.images, data.levels, "none", False, device=device)
    vae = VAE(cells, data.shape, data.levels, [generator(c.seed, 0) for c in cells], 0.3)
    sources = [
        Generators(
            generator(c.seed, 1),
            *(torch.Generator(device).manual_seed(10 * c.seed + i) for i in (2, 3)),
        )
        for c in cells
    ]
    train(vae.to(device), cells, pixels, sources)
    scored = data.train if axes is LINEAR else data.test
    return vae.cpu(), TrainingPixels(scored.images, data.levels, "none", False).visit(
        torch.arange(len(scored.images)), torch.Generator()
    )


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_linear_vae_reaches_the_exact_value(device: str) -> None:
    """The maximum of the likelihood of its training images, within a thousandth of it."""
    vae, images = trained(device, range(1), LINEAR)
    exact = fit(images.numpy()).log_likelihood(vae.latent_dim, 0.5)
    reached = linear_bound(vae, images).elbo.mean().item()
    assert exact - 1e-3 * abs(exact) < reached <= exact


@functools.cache
def elbos(device: str, seeds: range) -> list[float]:
    """ELBO on the test images, a number a seed, by one code and one noise for all."""
    vae, images = trained(device, seeds, MLP)
    noise = torch.randn(1, 16, len(images), vae.latent_dim, generator=generator(0, 9))
    with torch.no_grad():
        drawn = draw(vae, images.expand(len(seeds), -1, -1), noise.expand(len(seeds), -1, -1, -1))
    return drawn.elbo().mean(-1).tolist()


def mean_and_error(values: list[float]) -> tuple[float, float]:
    numbers = torch.tensor(values, dtype=torch.float64)
    return numbers.mean().item(), numbers.std().item() / math.sqrt(len(values))


@pytest.mark.parametrize("device", [CUDA])
def test_an_mlp_reaches_the_same_elbo_as_on_the_cpu(device: str) -> None:
    """Within one standard error of five seeds, which is what we ask of a device.

    The weights at the start and the order are the same, the noise is the device's own.
    """
    (cpu, cpu_error), (gpu, gpu_error) = (
        mean_and_error(elbos(each, range(5))) for each in ("cpu", device)
    )
    assert abs(gpu - cpu) <= math.hypot(cpu_error, gpu_error)


def test_the_standard_error_would_tell_a_worse_training() -> None:
    """Other five seeds agree as a device should; a third of the epochs less does not."""
    (mean, error), (other, other_error) = (
        mean_and_error(elbos("cpu", seeds)) for seeds in (range(5), range(5, 10))
    )
    assert abs(mean - other) < 3 * math.hypot(error, other_error)
    shorter, images = trained("cpu", range(5), MLP | {"epochs": 10})
    noise = torch.randn(5, 16, len(images), shorter.latent_dim, generator=generator(0, 9))
    with torch.no_grad():
        worse = draw(shorter, images.expand(5, -1, -1), noise).elbo().mean().item()
    assert mean - worse > 3 * error
