"""The posterior gap in two parts, for linear VAEs whose gaps are known."""

import numpy as np
import pytest
import torch
from scored_models import cell, made, source

from vaebench.evaluation.linear import as_vae
from vaebench.evaluation.local import gap_metrics, local_posterior
from vaebench.truth.ppca import LinearVAE

SIGMA = 1.3


def linear_truth() -> LinearVAE:
    """Correlated columns, so that no diagonal q is exact, and an encoder that is not the best.

    Sigma is so large that importance weights by the best diagonal q have a finite variance.
    """
    random = np.random.default_rng(70)
    W, mu = random.normal(0, 0.6, (8, 3)), random.normal(0, 0.5, 8)
    best = LinearVAE.with_optimal_encoder(W, mu, SIGMA)
    return LinearVAE(W, mu, SIGMA, 0.7 * best.V, 1.6 * best.posterior_variance)


@pytest.mark.slow
def test_both_gaps_are_those_of_the_closed_form() -> None:
    truth = linear_truth()
    best = LinearVAE.with_optimal_encoder(truth.W, truth.mu, truth.sigma)
    images, _ = truth.simulate(60, np.random.default_rng(71))
    pixels = torch.from_numpy(images).float()
    vae = as_vae(truth).float()
    metrics = gap_metrics(vae, pixels, source())
    amortization = float(np.mean(best.bound(images).elbo - truth.bound(images).elbo))
    approximation = best.rotation_gap
    assert amortization > 0.2
    assert approximation > 0.08
    assert metrics["amortization_gap"].value == pytest.approx(amortization, rel=0.03)
    assert metrics["approximation_gap"].value == pytest.approx(approximation, rel=0.05)
    assert metrics["amortization_gap"].n == 60
    assert all(parameter.requires_grad for parameter in vae.parameters())


def test_the_local_posterior_is_the_best_diagonal_one() -> None:
    """Mean of the exact posterior, and one over the diagonal of its precision."""
    truth = linear_truth()
    images, _ = truth.simulate(5, np.random.default_rng(72))
    vae = as_vae(truth).float().requires_grad_(False)
    q = local_posterior(vae, torch.from_numpy(images).float().unsqueeze(0), source())
    precision = np.eye(3) + truth.W.T @ truth.W / truth.sigma**2
    mean = (images - truth.mu) @ truth.W @ np.linalg.inv(precision).T / truth.sigma**2
    off, ratio = q.mean[0].numpy() - mean, q.variance[0].numpy() * np.diag(precision)
    # What the ELBO of an image lacks of the best one, nats.
    lacking = 0.5 * np.einsum("ni,ij,nj->n", off, precision, off)
    lacking += 0.5 * (ratio - 1 - np.log(ratio)).sum(1)
    assert lacking.max() < 0.02


def test_a_delta_posterior_has_no_gap() -> None:
    design = cell(posterior="delta")
    with pytest.raises(ValueError, match="not defined for a delta posterior"):
        gap_metrics(made(design, (1, 4, 4)), torch.rand(3, 16), source())
