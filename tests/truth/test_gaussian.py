import math

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import multivariate_normal, norm

from vaebench.truth.gaussian import entropy, kl, kl_to_prior


def random_covariance(rng, dimension):
    factor = rng.standard_normal((dimension, dimension))
    return factor @ factor.T + 0.1 * np.eye(dimension)


def by_the_printed_formula(mean_0, covariance_0, mean_1, covariance_1):
    """1/2 (tr(S1^-1 S0) + (m1-m0)' S1^-1 (m1-m0) - k + log(det S1 / det S0)), by inverses."""
    inverse, shift = np.linalg.inv(covariance_1), np.subtract(mean_1, mean_0)
    log_dets = np.linalg.slogdet(covariance_1)[1] - np.linalg.slogdet(covariance_0)[1]
    trace = np.trace(inverse @ covariance_0)
    return 0.5 * (trace + shift @ inverse @ shift - len(shift) + log_dets)


@pytest.mark.parametrize("dimension", [1, 2, 3, 8])
def test_kl_is_the_tutorials_formula(dimension):
    rng = np.random.default_rng(dimension)
    mean_0, mean_1 = rng.standard_normal((2, dimension))
    covariances = random_covariance(rng, dimension), random_covariance(rng, dimension)
    expected = by_the_printed_formula(mean_0, covariances[0], mean_1, covariances[1])
    assert kl(mean_0, covariances[0], mean_1, covariances[1]) == pytest.approx(expected, abs=1e-10)


def test_kl_is_the_mean_log_ratio_of_samples():
    rng = np.random.default_rng(0)
    mean_0, mean_1 = rng.standard_normal((2, 3))
    first, second = (
        multivariate_normal(mean, random_covariance(rng, 3)) for mean in (mean_0, mean_1)
    )
    x = first.rvs(400_000, random_state=rng)
    ratio = first.logpdf(x) - second.logpdf(x)
    standard_error = ratio.std() / math.sqrt(len(ratio))
    exact = kl(mean_0, first.cov, mean_1, second.cov)
    assert abs(ratio.mean() - exact) < 4 * standard_error
    assert standard_error < 0.01 * exact


def test_kl_is_the_integral_in_one_dimension():
    first, second = norm(0.3, 0.7), norm(-0.4, 1.9)
    expected, _ = integrate.quad(
        lambda x: first.pdf(x) * (first.logpdf(x) - second.logpdf(x)), -8, 8, epsabs=1e-13
    )
    assert kl([0.3], [[0.49]], [-0.4], [[3.61]]) == pytest.approx(expected, abs=1e-11)


def test_kl_of_a_gaussian_to_itself_is_zero():
    covariance = random_covariance(np.random.default_rng(1), 5)
    assert 0 <= kl(np.ones(5), covariance, np.ones(5), covariance) < 1e-28


def test_kl_is_not_symmetric():
    assert kl([0.0], [[4.0]], [0.0], [[1.0]]) == pytest.approx(0.5 * (4 - 1 - math.log(4)))
    assert kl([0.0], [[1.0]], [0.0], [[4.0]]) == pytest.approx(0.5 * (1 / 4 - 1 + math.log(4)))


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7])
def test_kl_keeps_its_digits_between_close_gaussians(distance):
    """d - log(1+d) = d^2/2 - d^3/3 + ...; from log(1+d) as it is printed it would be rounding."""
    reference = np.float64(7.3)
    variance = reference * (1 + distance)
    distance = (variance - reference) / reference
    expected = 0.5 * sum((-distance) ** n / n for n in range(2, 8))
    close = kl(np.zeros(2), np.diag([variance, 1.0]), np.zeros(2), np.diag([reference, 1.0]))
    assert close == pytest.approx(expected, rel=0, abs=1e-15 * distance)
    to_prior = kl_to_prior(0.0, variance, math.sqrt(reference))
    assert to_prior == pytest.approx(expected, rel=0, abs=1e-15 * distance)


@pytest.mark.parametrize("ratio", [1e-30, 1e-12, 1e12])
def test_kl_keeps_its_digits_between_very_different_gaussians(ratio):
    expected = 0.5 * (ratio - 1 - math.log(ratio))
    assert kl([0.0], [[ratio]], [0.0], [[1.0]]) == pytest.approx(expected, rel=1e-14)
    assert kl_to_prior(0.0, ratio) == pytest.approx(expected, rel=1e-14)


def test_kl_takes_one_mean_an_image():
    rng = np.random.default_rng(2)
    means, covariance, reference = rng.standard_normal((2, 4, 3)), np.diag([1.0, 2, 3]), np.eye(3)
    together = kl(means, covariance, np.ones(3), reference)
    one_by_one = [
        [by_the_printed_formula(mean, covariance, np.ones(3), reference) for mean in row]
        for row in means
    ]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


@pytest.mark.parametrize("prior_scale", [0.1, 1.0, 3.0])
def test_kl_to_prior_sums_to_the_full_kl(prior_scale):
    rng = np.random.default_rng(3)
    means, variances = rng.standard_normal((5, 4)), rng.uniform(0.01, 4, 4)
    full = kl(means, np.diag(variances), np.zeros(4), prior_scale**2 * np.eye(4))
    each = kl_to_prior(means, variances, prior_scale)
    assert each.shape == (5, 4)
    np.testing.assert_allclose(each.sum(axis=-1), full, rtol=1e-12)


def test_entropy_is_scipys_and_gives_the_cross_entropy():
    covariance = random_covariance(np.random.default_rng(4), 4)
    assert entropy(covariance) == pytest.approx(
        multivariate_normal(np.zeros(4), covariance).entropy(), abs=1e-12
    )


def test_entropy_of_a_narrow_gaussian_is_negative():
    assert entropy([[1e-4]]) == pytest.approx(0.5 * math.log(2 * math.pi * math.e) - math.log(100))


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        ([[1.0, 0.0]], r"must be a matrix \(k, k\)"),
        (np.zeros((0, 0)), r"must be a matrix \(k, k\)"),
        ([[1.0, 0.5], [0.0, 1.0]], "must be symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "must be positive definite"),
        ([[0.0]], "must be positive definite"),
        ([[math.nan]], "must be finite"),
    ],
    ids=["not square", "empty", "asymmetric", "indefinite", "zero", "nan"],
)
def test_a_covariance_must_be_one(covariance, message):
    with pytest.raises(ValueError, match=message):
        entropy(covariance)
    with pytest.raises(ValueError, match=message):
        kl(np.zeros(2), np.eye(2), np.zeros(2), covariance)


@pytest.mark.parametrize("mean", [np.zeros(3), 0.0], ids=["three", "number"])
def test_means_must_fit_the_covariances(mean):
    with pytest.raises(ValueError, match="with the same k"):
        kl(mean, np.eye(2), mean, np.eye(2))


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, math.inf])
def test_kl_to_prior_needs_positive_variances(variance):
    with pytest.raises(ValueError, match="variances must be positive and finite"):
        kl_to_prior([0.0, 0.0], [1.0, variance])


@pytest.mark.parametrize("prior_scale", [0.0, -1.0, math.nan, math.inf])
def test_kl_to_prior_needs_a_positive_scale(prior_scale):
    with pytest.raises(ValueError, match="prior_scale must be positive and finite"):
        kl_to_prior(0.0, 1.0, prior_scale)
