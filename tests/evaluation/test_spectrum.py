"""The spectrum of the codes' covariance against known spectra."""

import numpy as np
import pytest
import torch
from scored_models import cell, made, real_split, source

from vaebench.evaluation.evaluate import evaluate
from vaebench.evaluation.spectrum import code_spectrum, effective_rank
from vaebench.truth.ppca import LinearVAE


def codes_with(spectrum: np.ndarray, count: int, latent_dim: int) -> np.ndarray:
    """Codes whose covariance has exactly these eigenvalues, in directions that no axis follows."""
    random = np.random.default_rng(3)
    left, _ = np.linalg.qr(random.normal(size=(count, count)))
    # Columns orthogonal to the vector of ones: what remains has mean zero.
    left, _ = np.linalg.qr(np.column_stack((np.ones(count), left[:, : len(spectrum)])))
    right, _ = np.linalg.qr(random.normal(size=(latent_dim, len(spectrum))))
    return (left[:, 1:] * np.sqrt(count * spectrum)) @ right.T + random.normal(size=latent_dim)


@pytest.mark.parametrize(("count", "latent_dim"), [(50, 6), (20, 40)])
def test_the_spectrum_is_that_of_the_codes(count: int, latent_dim: int) -> None:
    spectrum = np.array([4.0, 2.0, 0.5, 0.01])
    found = code_spectrum(codes_with(spectrum, count, latent_dim))
    assert found.shape == (min(count, latent_dim),)
    np.testing.assert_allclose(found[:4], spectrum, rtol=1e-9)
    assert abs(found[4:]).max() < 1e-9
    assert effective_rank(found, count).value == pytest.approx(6.51**2 / (16 + 4 + 0.25 + 1e-4))


def test_equal_variances_have_their_number_as_rank() -> None:
    found = code_spectrum(codes_with(np.full(7, 0.3), 60, 12))
    assert effective_rank(found, 60).value == pytest.approx(7)


def test_codes_that_are_all_the_same_or_not_finite_have_no_rank() -> None:
    assert "collapsed" in str(effective_rank(code_spectrum(np.ones((5, 3))), 5).reason)
    broken = code_spectrum(np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert "not finite" in str(effective_rank(broken, 2).reason)


def test_a_linear_vae_has_the_spectrum_of_its_closed_form() -> None:
    """Posterior means of a linear VAE are V (x - mu): their covariance is V S V' of the images."""
    random = np.random.default_rng(8)
    truth = LinearVAE.with_optimal_encoder(
        random.normal(0, 0.5, (10, 3)), random.normal(0, 0.5, 10), 0.4
    )
    design = cell(dataset="linear-gaussian", sigma=0.4, latent_dim=3)
    weights = {
        "encoder.mean.weight": truth.V,
        "encoder.mean.bias": -truth.V @ truth.mu,
        "encoder.spread": np.log(truth.posterior_variance),
        "decoder.weight": truth.W,
        "decoder.bias": truth.mu,
    }
    images, _ = truth.simulate(2_500, np.random.default_rng(9))
    test = real_split(torch.from_numpy(images).float())
    result = evaluate(
        made(design, (1, 1, 10), weights, levels=None), design, test.first(50), test, source()
    )
    covariance = np.cov(images[:2_000].T, bias=True)
    expected = np.linalg.eigvalsh(truth.V @ covariance @ truth.V.T)[::-1]
    np.testing.assert_allclose(result.arrays["code_spectrum"], expected, rtol=1e-4)
    metric = result.metrics["effective_rank"]
    assert metric.n == 2_000
    assert metric.value == pytest.approx(expected.sum() ** 2 / (expected**2).sum(), rel=1e-4)
