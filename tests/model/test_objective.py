"""The bound of a linear VAE is the exact one of pPCA, term by term."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import known, linear_cell, made, random_truth, sigma_points
from torch import Tensor

from vaebench.model.objective import draw, importance_weighted_bound
from vaebench.model.posterior import Diagonal
from vaebench.truth.ppca import LinearVAE, fit


def images_of(truth: LinearVAE, count: int) -> Tensor:
    return torch.from_numpy(truth.simulate(count, np.random.default_rng(8))[0]).unsqueeze(0)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 2.0])
def test_each_term_of_the_bound_is_that_of_a_linear_vae(sigma: float) -> None:
    truth = random_truth(sigma=sigma)
    x = images_of(truth, 6)
    exact = truth.bound(x[0])
    drawn = draw(known(truth), x, sigma_points(3, 6))
    np.testing.assert_allclose(
        drawn.reconstruction_error()[0], exact.reconstruction_error, rtol=1e-12
    )
    np.testing.assert_allclose(drawn.kl()[0], exact.kl, rtol=1e-12)
    np.testing.assert_allclose(drawn.elbo()[0], exact.elbo, rtol=1e-12)
    q = drawn.posterior
    assert isinstance(q, Diagonal)
    per_dimension = q.kl_per_dimension(drawn.vae.prior_scale)
    np.testing.assert_allclose(per_dimension[0], exact.kl_per_dimension, rtol=1e-12)


def test_the_bound_falls_short_of_log_p_by_the_gap_of_the_posterior() -> None:
    truth = random_truth()
    x = images_of(truth, 6)
    elbo = draw(known(truth), x, sigma_points(3, 6)).elbo()[0].numpy()
    missing = truth.log_likelihood(x[0]) - elbo
    assert (missing > 0.1).all()
    np.testing.assert_allclose(missing, truth.posterior_gap(x[0]), rtol=1e-10)


def test_the_bound_of_the_best_linear_vae_is_log_p() -> None:
    x = images_of(random_truth(), 500)
    truth = LinearVAE.optimum(fit(x[0]), 3, sigma=0.5)
    elbo = draw(known(truth), x, sigma_points(3, 500)).elbo()[0]
    np.testing.assert_allclose(elbo, truth.log_likelihood(x[0]), rtol=1e-12)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_importance_weights_of_an_exact_posterior_are_all_log_p(posterior: str) -> None:
    truth = random_truth()
    if posterior == "diagonal":
        truth = LinearVAE.optimum(fit(truth.simulate(200, np.random.default_rng(9))[0]), 3)
    else:
        best = LinearVAE.with_optimal_encoder(truth.W, truth.mu, truth.sigma)
        assert truth.rotation_gap > 0.02
        truth = best
    x = images_of(truth, 5)
    noise = torch.randn(
        1, 7, 5, 3, generator=torch.Generator().manual_seed(10), dtype=torch.float64
    )
    drawn = draw(known(truth, posterior=posterior), x, noise)
    exact = torch.from_numpy(truth.log_likelihood(x[0])).expand(1, 7, 5)
    torch.testing.assert_close(drawn.log_weights(), exact, rtol=1e-10, atol=1e-10)
    bound = importance_weighted_bound(drawn.log_weights())
    torch.testing.assert_close(bound, exact[:, 0], rtol=1e-10, atol=1e-10)
    # A full posterior leaves no gap either: its bound needs no importance weights.
    elbo = draw(known(truth, posterior=posterior), x, sigma_points(3, 5)).elbo()
    torch.testing.assert_close(elbo, exact[:, 0], rtol=1e-10, atol=1e-10)


def test_a_prior_scale_is_the_same_model_with_another_decoder() -> None:
    truth, scale = random_truth(), 2.5
    x = images_of(truth, 4)
    widened = known(truth, prior_scale=scale)
    shrunk = LinearVAE(
        truth.W * scale,
        truth.mu,
        truth.sigma,
        truth.V / scale,
        truth.posterior_variance / scale**2,
    )
    elbo = draw(widened, x, sigma_points(3, 4)).elbo()[0]
    np.testing.assert_allclose(elbo, shrunk.bound(x[0]).elbo, rtol=1e-12)
    weights = draw(widened, x, sigma_points(3, 4)).log_weights()
    expected = draw(known(shrunk), x, sigma_points(3, 4)).log_weights()
    torch.testing.assert_close(weights, expected, rtol=1e-10, atol=1e-10)


def test_the_importance_weighted_bound_is_the_log_of_a_mean() -> None:
    weights = torch.tensor([1.0, 3.0, 8.0], dtype=torch.float64).log() - 1_000
    bound = importance_weighted_bound(weights.view(1, 3, 1))
    assert bound.item() == pytest.approx(math.log(4) - 1_000, abs=1e-12)


def test_the_importance_weighted_bound_rises_from_the_elbo_to_log_p() -> None:
    random = random_truth()
    best = LinearVAE.with_optimal_encoder(random.W, random.mu, random.sigma)
    truth = replace(best, V=0.9 * best.V, posterior_variance=2 * best.posterior_variance)
    x = images_of(truth, 8)
    source = torch.Generator().manual_seed(11)
    noise = torch.randn(1, 20_000, 8, 3, generator=source, dtype=torch.float64)
    drawn = draw(known(truth), x, noise)
    weights = drawn.log_weights()
    elbo = weights.mean(1)
    assert elbo.mean().item() == pytest.approx(truth.bound(x[0]).elbo.mean(), abs=0.03)
    assert drawn.elbo().mean().item() == pytest.approx(elbo.mean().item(), abs=0.03)
    means = [elbo.mean().item()]
    for k in (5, 50, 20_000):
        groups = weights[0].reshape(-1, k, 8)
        means.append(importance_weighted_bound(groups).mean().item())
    assert means == sorted(means)
    exact = truth.log_likelihood(x[0]).mean()
    assert means[0] < exact - 0.5
    assert means[-1] == pytest.approx(exact, abs=0.01)


def test_a_delta_posterior_has_neither_divergence_nor_weights() -> None:
    vae = made(linear_cell(2, 0.5, posterior="delta"), levels=None)
    drawn = draw(vae, torch.rand(1, 3, 12), torch.zeros(1, 1, 3, 2))
    with pytest.raises(ValueError, match="no KL and no ELBO"):
        drawn.kl()
    with pytest.raises(ValueError, match="no importance weights"):
        drawn.log_weights()


def test_an_optimal_scale_is_fitted_to_the_pixels_only_when_told_to() -> None:
    vae = made(linear_cell(2, 0.5).model_copy(update={"sigma": "optimal"}), levels=None)
    source = torch.Generator().manual_seed(12)
    x, noise = torch.rand(1, 4, 12, generator=source), torch.randn(1, 3, 4, 2, generator=source)
    draw(vae, x, noise)
    torch.testing.assert_close(vae.fixed_scale.flatten(), torch.tensor([0.3]))
    drawn = draw(vae, x, noise, fit_scale=True)
    residual = x.unsqueeze(1) - drawn.observed.mean
    assert vae.fixed_scale.item() == pytest.approx(residual.square().mean().sqrt().item(), rel=1e-6)
