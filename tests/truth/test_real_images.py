"""Exact answers for MNIST, and the laws of the linear VAE on MNIST and Fashion-MNIST."""

import numpy as np
import pytest

from vaebench.truth.bounds import bce_ceiling, bce_floor
from vaebench.truth.ppca import LinearVAE

pytestmark = pytest.mark.mnist

# k: sigma^2, sigma, log-likelihood of train and of test, rate, distortion, #{lambda > sigma^2}
ML_SIGMA = {
    1: (0.060802, 0.24658, -17.014, -17.086, 2.216, 47.669, 91),
    2: (0.056096, 0.23685, 12.428, 14.360, 4.357, 43.979, 96),
    3: (0.052003, 0.22804, 39.982, 41.416, 6.500, 40.770, 100),
    10: (0.034867, 0.18673, 182.155, 186.024, 21.030, 27.336, 125),
    20: (0.024597, 0.15683, 299.758, 306.549, 40.203, 19.284, 151),
    50: (0.012596, 0.11223, 507.905, 517.603, 94.401, 9.875, 222),
    100: (0.006581, 0.08112, 680.952, 689.322, 175.856, 5.159, 312),
    400: (0.000574, 0.02395, 1073.917, 1083.288, 739.194, 0.450, 523),
}
# sigma, k: active units, rate, distortion, log-likelihood of train and of test, decimals of those.
# Some were not rounded to the nearest: their last digit is one too high.
FIXED_SIGMA = {
    (2.0, 1): (1, 0.1231, 51.608, -1270.449, -1270.467, 3),
    (2.0, 30): (1, 0.1231, 51.608, -1270.449, -1270.467, 3),
    (1.5, 6): (6, 1.0372, 46.432, -1049.688, -1049.685, 3),
    (1.5, 50): (6, 1.0372, 46.432, -1049.688, -1049.685, 3),
    (1.0, 10): (10, 4.2487, 36.987, -743.190, -743.105, 3),
    (1.0, 12): (12, 4.3341, 36.809, -743.186, -743.100, 3),
    (1.0, 50): (12, 4.3341, 36.809, -743.186, -743.100, 3),
    (0.5, 10): (10, 11.180, 29.487, -247.175, -246.680, 3),
    (0.5, 20): (20, 17.015, 23.792, -241.619, -241.030, 3),
    (0.5, 39): (39, 20.767, 21.277, -240.340, -239.757, 3),
    (0.5, 60): (39, 20.767, 21.277, -240.340, -239.757, 3),
    (0.3, 10): (10, 16.289, 27.887, 52.249, 53.716, 3),
    (0.3, 20): (20, 27.231, 20.592, 81.835, 83.627, 3),
    (0.3, 50): (50, 45.240, 13.746, 101.863, 103.325, 3),
    (0.3, 74): (74, 48.901, 12.925, 102.762, 104.092, 3),
    (0.3, 100): (74, 48.901, 12.925, 102.762, 104.092, 3),
    (0.1, 10): (10, 27.275, 27.087, -296.862, -283.241, 3),
    (0.1, 20): (20, 49.203, 18.992, 85.965, 102.794, 3),
    (0.1, 50): (50, 100.171, 9.746, 497.333, 509.517, 3),
    (0.1, 251): (251, 206.981, 3.654, 695.088, 698.120, 3),
    (0.1, 300): (251, 206.981, 3.654, 695.088, 698.120, 3),
    (0.05, 10): (10, 34.206, 27.012, -3808.5, -3753.8, 1),
    (0.05, 20): (20, 63.066, 18.842, -2203.3, -2135.7, 1),
    (0.05, 50): (50, 134.828, 9.371, -380.7, -332.4, 1),
}


def printed(value, decimals, units=0.51):
    """Equal to the digits that are printed, within so many units of the last."""
    return pytest.approx(value, rel=0, abs=units * 10.0**-decimals)


def test_spectrum(mnist):
    eigenvalues = mnist.spectrum.eigenvalues
    assert eigenvalues.sum() == printed(52.72504, 5)
    first = [5.1168, 3.7413, 3.2527, 2.8416, 2.5671, 2.2736, 1.7251, 1.5205, 1.4563, 1.2427]
    first += [1.1121, 1.0666, 0.9047, 0.8922, 0.8323]
    np.testing.assert_allclose(eigenvalues[:15], first, rtol=0, atol=0.51e-4)
    shares = [0.09704664, 0.07095924, 0.06169089, 0.05389419]
    np.testing.assert_allclose(eigenvalues[:4] / eigenvalues.sum(), shares, rtol=0, atol=0.51e-8)
    assert mnist.spectrum.mean.mean() == printed(0.130660, 6)
    assert mnist.test_pixels.mean() == printed(0.132515, 6)
    assert mnist.spectrum.collapse_sigma == printed(2.2620, 4)


@pytest.mark.parametrize(
    ("sigma", "expected"), [(2.3, 0), (2.0, 1), (1.5, 6), (1.0, 12), (0.7, 23), (0.5, 39)]
)
def test_active_units(mnist, sigma, expected):
    assert mnist.spectrum.active_units(sigma) == expected


@pytest.mark.parametrize("latent_dim", ML_SIGMA)
def test_optimum_with_its_own_sigma(mnist, latent_dim):
    variance, sigma, train, test, rate, distortion, above = ML_SIGMA[latent_dim]
    spectrum, model = mnist.spectrum, LinearVAE.optimum(mnist.spectrum, latent_dim)
    assert model.sigma**2 == printed(variance, 6)
    assert model.sigma == printed(sigma, 5)
    assert spectrum.log_likelihood(latent_dim, model.sigma) == printed(train, 3)
    assert model.expected_log_likelihood(spectrum) == printed(train, 3)
    assert model.log_likelihood(mnist.test_pixels).mean() == printed(test, 3)
    assert spectrum.rate(latent_dim, model.sigma).sum() == printed(rate, 3)
    assert spectrum.distortion(latent_dim, model.sigma) == printed(distortion, 3)
    assert spectrum.active_units(model.sigma) == above


def test_ml_sigma_of_200_latents(mnist):
    assert mnist.spectrum.ml_sigma(200) ** 2 == printed(0.003029, 6)


@pytest.mark.parametrize(("sigma", "latent_dim"), FIXED_SIGMA)
def test_optimum_with_a_given_sigma(mnist, sigma, latent_dim):
    active, rate, distortion, train, test, decimals = FIXED_SIGMA[sigma, latent_dim]
    spectrum = mnist.spectrum
    model = LinearVAE.optimum(spectrum, latent_dim, sigma)
    assert spectrum.active_units(sigma, latent_dim) == active
    assert np.count_nonzero(model.W.any(axis=0)) == active
    assert spectrum.rate(latent_dim, sigma).sum() == printed(rate, 4 if rate < 5 else 3, units=1)
    assert spectrum.distortion(latent_dim, sigma) == printed(distortion, 3, units=1)
    assert model.expected_log_likelihood(spectrum) == printed(train, decimals, units=1)
    assert model.log_likelihood(mnist.test_pixels).mean() == printed(test, decimals, units=1)


@pytest.mark.parametrize(
    ("latent_dim", "sigma"),
    [(2, None), (10, None), (50, None), (100, None), (20, 1.0), (10, 0.3), (20, 0.1), (50, 0.05)],
)
def test_bound_at_the_optimum_is_the_exact_log_likelihood(real, latent_dim, sigma):
    model, x = LinearVAE.optimum(real.spectrum, latent_dim, sigma), real.test_pixels
    difference = model.bound(x).elbo - model.log_likelihood(x)
    assert np.max(np.abs(difference)) < 1e-6
    # Evidence that does not come from the same functions: C by itself, on a few images.
    covariance = model.W @ model.W.T + model.sigma**2 * np.eye(784)
    centred = x[:20] - real.spectrum.mean
    quadratic = np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
    log_det = np.linalg.slogdet(covariance)[1]
    expected = -0.5 * (784 * np.log(2 * np.pi) + log_det + quadratic)
    np.testing.assert_allclose(model.log_likelihood(x[:20]), expected, rtol=0, atol=1e-6)


def test_means_over_the_training_images_are_the_closed_forms(real):
    spectrum, x, latent_dim = real.spectrum, real.train_pixels, 10
    model = LinearVAE.optimum(spectrum, latent_dim)
    closed = spectrum.log_likelihood(latent_dim, model.sigma)
    assert model.log_likelihood(x).mean() == pytest.approx(closed, abs=1e-8)
    rate = spectrum.rate(latent_dim, model.sigma)
    bound = model.bound(x)
    np.testing.assert_allclose(bound.kl_per_dimension.mean(axis=0), rate, rtol=0, atol=1e-9)
    distortion = spectrum.distortion(latent_dim, model.sigma)
    assert model.distortion(x).mean() == pytest.approx(distortion, abs=1e-9)
    assert bound.elbo.mean() == pytest.approx(closed, abs=1e-8)


def test_a_rotation_opens_its_gap(real):
    model, x = LinearVAE.optimum(real.spectrum, 10), real.test_pixels[:500]
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))
    rotated = model.rotated(rotation)
    exact = model.log_likelihood(x)
    np.testing.assert_allclose(rotated.log_likelihood(x), exact, rtol=0, atol=1e-8)
    assert rotated.rotation_gap > 0.1
    lost = exact - rotated.bound(x).elbo
    np.testing.assert_allclose(lost, rotated.rotation_gap, rtol=0, atol=1e-8)


def test_bce_floor_and_ceiling(mnist):
    train, test = mnist.train_pixels, mnist.test_pixels
    assert bce_floor(train) == printed(45.757, 3)
    assert bce_floor(test) == printed(45.534, 3)
    assert bce_ceiling(train, train) == printed(206.027, 3)
    assert bce_ceiling(train, test) == printed(205.805, 3)
    assert bce_ceiling(train, test, clip=0) == np.inf
