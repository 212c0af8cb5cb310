"""Trained from random weights, a linear VAE keeps the latent dimensions that theory leaves it.

At a fixed sigma those are as many as the covariance of the images has eigenvalues above sigma^2
(Lucas et al. 2019, Sec. 4). Several draws an image and a cosine schedule get there in few steps:
what keeps a superfluous dimension alive for long is the noise of the gradient.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny_runs import generator

from vaebench.data.pixels import TrainingPixels
from vaebench.data.sources import load
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.loop import Generators, train
from vaebench.truth.ppca import Spectrum, fit

SCHEDULES: dict[str, dict[str, object]] = {
    "digits": {
        "latent_dim": 20,
        "epochs": 200,
        "batch_size": 150,
        "learning_rate": 0.01,
        "importance_samples": 4,
    },
    "mnist": {
        "latent_dim": 50,
        "train_size": 10_000,
        "epochs": 24,
        "batch_size": 200,
        "learning_rate": 0.015,
        "importance_samples": 2,
    },
}
SCHEDULES["fashion-mnist"] = SCHEDULES["mnist"]


@dataclass(frozen=True)
class Outcome:
    """What training made of the latent dimensions, on the training images, and what is exact."""

    active_units: int
    kl: float
    elbo: float
    spectrum: Spectrum
    exact_active_units: int
    exact_kl: float
    exact_elbo: float


def trained(dataset: str, sigma: float, **longer: int) -> Outcome:
    design = Cell.model_validate(
        {
            "dataset": dataset,
            "architecture": "linear",
            "likelihood": "gaussian",
            "sigma": sigma,
            "learning_rate_schedule": "cosine",
        }
        | SCHEDULES[dataset]
        | longer
    )
    data = load(dataset, data_folder(dataset), design.train_size)
    pixels = TrainingPixels(data.train.images, data.levels, "none", dequantize=False)
    vae = VAE([design], data.shape, data.levels, [generator(0, 0)], 0.3)
    train(vae, [design], pixels, [Generators(*(generator(0, i) for i in (1, 2, 3)))])
    images = pixels.visit(torch.arange(len(pixels)), generator(0, 4))
    with torch.no_grad():
        posterior = vae.encode(images.unsqueeze(0))
        noise = torch.randn(1, 1, len(images), vae.latent_dim, generator=generator(0, 5))
        observed = vae.decode(posterior.rsample(noise))
        kl = posterior.kl(vae.prior_scale).mean().item()
        elbo = observed.log_prob(images.unsqueeze(0).unsqueeze(0)).mean().item() - kl
    variance = posterior.mean[0].var(0, correction=0)
    spectrum = fit(images.numpy())
    return Outcome(
        int((variance > 0.01).sum()),
        kl,
        elbo,
        spectrum,
        spectrum.active_units(sigma, vae.latent_dim),
        float(spectrum.rate(vae.latent_dim, sigma).sum()),
        spectrum.log_likelihood(vae.latent_dim, sigma),
    )


def data_folder(dataset: str) -> Path | None:
    if dataset == "digits":
        return None
    folder = os.environ.get("VAEBENCH_DATA")
    if not folder:
        pytest.skip(f"needs the {dataset} files: VAEBENCH_DATA is not set")
    return Path(folder)


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.5, 5), pytest.param(0.7, 3, marks=pytest.mark.slow)]
)
def test_digits_keep_one_unit_an_eigenvalue_above_the_noise(sigma: float, expected: int) -> None:
    outcome = trained("digits", sigma)
    assert outcome.exact_active_units == expected
    assert abs(outcome.active_units - expected) <= 1
    assert outcome.kl == pytest.approx(outcome.exact_kl, rel=0.1)
    assert outcome.elbo == pytest.approx(outcome.exact_elbo, abs=0.1)


def test_digits_collapse_above_their_largest_eigenvalue() -> None:
    outcome = trained("digits", 1.0, epochs=60)
    assert outcome.spectrum.collapse_sigma < 1.0
    assert outcome.active_units == 0
    assert outcome.kl < 0.01


@pytest.mark.mnist
@pytest.mark.slow
def test_mnist_keeps_the_units_of_theory() -> None:
    outcome = trained("mnist", 1.0, epochs=40)
    assert outcome.exact_active_units == 12
    assert abs(outcome.active_units - 12) <= 1
    assert outcome.elbo == pytest.approx(outcome.exact_elbo, abs=0.2)


@pytest.mark.mnist
@pytest.mark.slow
def test_mnist_collapses_above_its_largest_eigenvalue() -> None:
    outcome = trained("mnist", 2.5)
    assert math.isclose(outcome.spectrum.collapse_sigma, 2.262, abs_tol=0.03)
    assert outcome.active_units == 0
    assert outcome.kl < 0.01


@pytest.mark.mnist
@pytest.mark.slow
def test_fashion_mnist_keeps_the_units_of_theory() -> None:
    outcome = trained("fashion-mnist", 2.0, epochs=40)
    assert outcome.exact_active_units == 3
    assert abs(outcome.active_units - 3) <= 1
    assert outcome.elbo == pytest.approx(outcome.exact_elbo, abs=0.3)
