"""The decomposition of the KL for Gaussian data and a linear encoder, where it is exact."""

import math

import numpy as np
import pytest
import torch
from scored_models import cell, made, real_split, source

from vaebench.evaluation.bound import score
from vaebench.evaluation.information import information_metrics
from vaebench.records.schema import Metric
from vaebench.truth import gaussian

SPREAD = np.array([2.0, 0.7])
GAIN, NOISE = np.array([0.5, 0.8]), np.array([0.6, 1.1])


def metrics_of(count: int, posterior: str) -> dict[str, Metric]:
    """Two pixels of standard deviations SPREAD; q(z_j|x) = N(GAIN_j x_j, NOISE_j^2)."""
    random = np.random.default_rng(70)
    split = real_split(torch.from_numpy(random.normal(0, SPREAD, (count, 2))).float())
    design = cell(dataset="linear-gaussian", posterior=posterior)
    log_spread = np.log(NOISE) * (2 if posterior == "diagonal" else 1)
    weights = {
        "encoder.mean.weight": np.diag(GAIN),
        "encoder.spread": log_spread if posterior == "diagonal" else [*log_spread, 0.0],
    }
    vae = made(design, (1, 1, 2), weights, levels=None)
    scores = score(vae, design, split, source())
    assert scores.kl is not None
    return information_metrics(vae, split, scores.kl, source())


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_both_parts_are_exact_for_a_linear_gaussian_encoder(posterior: str) -> None:
    metrics = metrics_of(6_000, posterior)
    aggregate = (GAIN * SPREAD) ** 2 + NOISE**2
    information = 0.5 * np.log(aggregate / NOISE**2).sum()
    marginal = gaussian.kl_to_prior(np.zeros(2), aggregate).sum()
    for name, exact in (("mutual_information", information), ("marginal_kl", marginal)):
        found = metrics[name]
        assert found.value is not None
        assert found.se is not None
        assert found.se < 0.1
        assert abs(found.value - exact) < 4 * found.se + 0.01, name


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_information_about_n_images_stops_at_its_ceiling(
    posterior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.NOISE", np.array([1e-5, 1e-5]))
    metrics = metrics_of(40, posterior)
    assert metrics["mutual_information"].value == pytest.approx(math.log(40), abs=1e-6)
    assert metrics["mutual_information_ceiling"].value == pytest.approx(math.log(40))


@pytest.mark.parametrize("spread", [-8.0, -20.0, -120.0])
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_the_narrowest_posteriors_tell_images_apart_and_no_more(
    posterior: str, spread: float
) -> None:
    """Strongly correlated, below float32's least number: neither an error nor a wild number."""
    split = real_split(torch.randn(60, 3, generator=source()))
    design = cell(dataset="linear-gaussian", posterior=posterior, latent_dim=3)
    narrow = [spread] * 3 if posterior == "full" else [2 * spread] * 3
    weights = {
        "encoder.mean.weight": np.eye(3),
        "encoder.spread": [*narrow, 3.0, -2.0, 4.0] if posterior == "full" else narrow,
    }
    vae = made(design, (1, 1, 3), weights, levels=None)
    scores = score(vae, design, split, source())
    assert scores.kl is not None
    metrics = information_metrics(vae, split, scores.kl, source())
    information, marginal = metrics["mutual_information"].value, metrics["marginal_kl"].value
    assert information is not None
    assert marginal is not None
    assert 0 < information <= math.log(60) + 1e-9
    if posterior == "diagonal" or spread < -10:
        assert information == pytest.approx(math.log(60))
    assert marginal == pytest.approx(float(scores.kl.mean()) - information)


def test_one_image_carries_no_information() -> None:
    metrics = metrics_of(1, "diagonal")
    assert metrics["mutual_information"].value == pytest.approx(0, abs=1e-12)
    assert metrics["mutual_information"].se is None
    assert metrics["mutual_information_ceiling"].value == 0


def test_a_collapsed_posterior_carries_no_information() -> None:
    design = cell(dataset="linear-gaussian")
    split = real_split(torch.randn(300, 2, generator=source()))
    vae = made(design, (1, 1, 2), {}, levels=None)
    metrics = information_metrics(vae, split, torch.zeros(300).double(), source())
    assert metrics["mutual_information"].value == pytest.approx(0, abs=1e-12)
    assert metrics["marginal_kl"].value == pytest.approx(0, abs=1e-12)


def test_a_delta_posterior_is_refused() -> None:
    design = cell(dataset="linear-gaussian", posterior="delta")
    vae = made(design, (1, 1, 2), levels=None)
    with pytest.raises(ValueError, match="not defined for a delta posterior"):
        information_metrics(vae, real_split(torch.rand(5, 2)), torch.zeros(5), source())
