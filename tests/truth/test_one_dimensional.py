import math

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from vaebench.truth import gaussian
from vaebench.truth.one_dimensional import (
    EXAMPLE,
    Mixture,
    gaussian_posterior_kl,
    marginal_kl,
    posterior_kl,
    posterior_kl_at,
)

# sigma: mean posterior KL, marginal KL, |log P_sigma - log P_gt| at 0.5; five, four, three digits.
# The first column is checked against a double integral below.
TABLE = {
    0.4: (1.2635e-1, 1.163e-2, 3.07e-2),
    0.2: (3.7106e-2, 1.032e-3, 8.69e-3),
    0.1: (9.3799e-3, 7.138e-5, 2.21e-3),
    0.05: (2.3456e-3, 4.580e-6, 5.54e-4),
    0.025: (5.8637e-4, 2.881e-7, 1.386e-4),
}
SIGMAS = [0.1, 0.05, 0.025, 0.0125]
FAR_APART = Mixture((0.5, 0.5), (-40.0, 40.0), (1.0, 0.5))


def digits(value, count):
    """Equal to the digits that are printed."""
    return pytest.approx(
        value, rel=0, abs=0.51 * 10.0 ** (math.floor(math.log10(value)) - count + 1)
    )


def by_bayes_rule(x, sigma):
    """Density of each x, and KL(Q || P(z|x)) with P(z|x) normalised by its own integral.

    Integrals over z run over y = f(z) instead, dz = g'(y) dy, so that nothing is inverted; the
    functions of the mixture are scipy's.
    """
    parts = list(zip(EXAMPLE.weights, map(norm, EXAMPLE.means, EXAMPLE.scales), strict=True))

    def mean_of(function, values):
        return sum(weight * getattr(part, function)(values) for weight, part in parts)

    def encode(values):
        below, above = mean_of("cdf", values), mean_of("sf", values)
        return np.where(below < 0.5, norm.ppf(below), -norm.ppf(above))

    def slope(values):
        return mean_of("pdf", values) / norm.pdf(encode(values))

    y, step = np.linspace(-8, 10, 3601, retstep=True)
    z, x = encode(y), np.asarray(x)[:, None]
    log_joint = norm.logpdf(z) + norm.logpdf(x, y, sigma)
    log_evidence = np.log(np.sum(np.exp(log_joint) * slope(y), axis=1) * step)
    log_q = norm.logpdf(z, encode(x), sigma * slope(x))
    log_ratio = log_q - log_joint + log_evidence[:, None]
    divergence = np.sum(np.exp(log_q) * slope(y) * log_ratio, axis=1) * step
    return mean_of("pdf", x[:, 0]), divergence


@pytest.mark.parametrize("sigma", TABLE)
def test_the_tutorials_divergences(sigma):
    posterior, marginal, pointwise = TABLE[sigma]
    assert posterior_kl(EXAMPLE, sigma) == digits(posterior, 5)
    assert marginal_kl(EXAMPLE, sigma) == digits(marginal, 4)
    difference = EXAMPLE.smoothed(sigma).log_density(0.5) - EXAMPLE.log_density(0.5)
    assert abs(difference) == digits(pointwise, 3)


@pytest.mark.parametrize(("divergence", "slope"), [(posterior_kl, 2), (marginal_kl, 4)])
def test_the_rates_of_convergence(divergence, slope):
    values = np.array([divergence(EXAMPLE, sigma) for sigma in SIGMAS])
    np.testing.assert_allclose(np.log2(values[:-1] / values[1:]), slope, rtol=0.01)
    assert np.log2(values[-2] / values[-1]) == pytest.approx(slope, abs=0.005)


@pytest.mark.parametrize("sigma", [0.4, 0.1, 0.05])
def test_posterior_kl_is_that_of_the_posterior_by_bayes_rule(sigma):
    x, step = np.linspace(-4.5, 6, 141, retstep=True)
    density, divergence = by_bayes_rule(x, sigma)
    inner = density > 1e-5
    found = posterior_kl_at(EXAMPLE, sigma, x[inner])
    np.testing.assert_allclose(found, divergence[inner], rtol=0, atol=1e-9)
    mean = np.sum(density * divergence) * step
    assert posterior_kl(EXAMPLE, sigma) == pytest.approx(mean, rel=1e-6)


def test_posterior_kl_has_the_leading_term_of_its_expansion():
    """log P(z|x) - log Q = -(d e + c e^3) + const at z = g + g' sigma e, to first order in sigma.

    d = g g' sigma and c = f'' g'^2 sigma / 2, and a small divergence is half the variance of the
    log ratio: 1/2 (d^2 + 6 d c + 15 c^2).
    """
    x, step = np.linspace(-4, 5.5, 401, retstep=True)
    g, slope, h = EXAMPLE.to_normal(x), EXAMPLE.slope(x), 1e-3
    curvature = (EXAMPLE.from_normal(g + h) - 2 * x + EXAMPLE.from_normal(g - h)) / h**2
    d, c = g * slope, curvature * slope**2 / 2
    density = np.exp(EXAMPLE.log_density(x))
    expected = np.sum(density * (d**2 + 6 * d * c + 15 * c**2)) * step / 2
    assert posterior_kl(EXAMPLE, 0.005) / 0.005**2 == pytest.approx(expected, rel=1e-4)


def test_marginal_kl_is_the_integral():
    smoothed = EXAMPLE.smoothed(0.2)
    expected, _ = integrate.quad(
        lambda x: (
            np.exp(EXAMPLE.log_density(x)) * (EXAMPLE.log_density(x) - smoothed.log_density(x))
        ),
        -8,
        9,
        epsabs=1e-13,
        limit=200,
    )
    assert marginal_kl(EXAMPLE, 0.2) == pytest.approx(expected, abs=1e-12)


def test_the_model_generates_the_smoothed_density():
    """P_sigma(x) = E_z N(x | f(z), sigma^2), integrated over the prior."""
    z = np.linspace(-9, 9, 4001)
    density = norm.pdf(z) * norm.pdf(0.3, EXAMPLE.from_normal(z), 0.25)
    expected = EXAMPLE.smoothed(0.25).log_density(0.3)
    assert np.log(np.sum(density) * (z[1] - z[0])) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("x", [0.0, 0.7, -3.0])
@pytest.mark.parametrize(("scale", "sigma"), [(0.7, 0.2), (1.0, 1.0), (3.0, 0.01)])
def test_a_gaussian_has_a_closed_form(scale, sigma, x):
    noise = sigma**2
    q = x / scale, noise / scale**2
    posterior = scale * x / (scale**2 + noise), noise / (scale**2 + noise)
    expected = gaussian.kl([q[0]], [[q[1]]], [posterior[0]], [[posterior[1]]])
    closed = gaussian_posterior_kl(x, scale, sigma)
    assert closed == pytest.approx(expected, abs=1e-12)
    by_quadrature = posterior_kl_at(Mixture((1.0,), (0.0,), (scale,)), sigma, x)
    assert by_quadrature == pytest.approx(closed, abs=1e-12)


def test_the_means_over_a_gaussian_have_closed_forms():
    truth, ratio = Mixture((1.0,), (5.0,), (2.0,)), 0.3**2 / 4
    expected = 0.5 * (ratio - math.log1p(ratio) + ratio / (1 + ratio))
    assert posterior_kl(truth, 0.3) == pytest.approx(expected, abs=1e-13)
    expected = gaussian.kl([0.0], [[4.0]], [0.0], [[4.09]])
    assert marginal_kl(truth, 0.3) == pytest.approx(float(expected), abs=1e-14)


@pytest.mark.parametrize("truth", [EXAMPLE, FAR_APART], ids=["example", "far apart"])
def test_decoder_and_its_inverse_undo_each_other_far_into_the_tails(truth):
    z = np.linspace(-25, 25, 101)
    np.testing.assert_allclose(truth.to_normal(truth.from_normal(z)), z, rtol=1e-11, atol=1e-11)


def test_slope_is_the_derivative_of_the_inverse():
    x, step = np.linspace(-4, 5, 10), 1e-5
    rise = EXAMPLE.to_normal(x + step) - EXAMPLE.to_normal(x - step)
    np.testing.assert_allclose(EXAMPLE.slope(x), rise / (2 * step), rtol=1e-8)


def test_shapes_are_kept():
    x = np.zeros((2, 3))
    assert posterior_kl_at(EXAMPLE, 0.1, x).shape == (2, 3)
    assert EXAMPLE.from_normal(x).shape == EXAMPLE.log_density(x).shape == (2, 3)
    assert gaussian_posterior_kl(x, 1.0, 0.1).shape == (2, 3)


@pytest.mark.parametrize("sigma", [0.0, -0.1, math.nan, math.inf])
def test_sigma_must_be_positive_and_finite(sigma):
    for call in (
        lambda: posterior_kl(EXAMPLE, sigma),
        lambda: marginal_kl(EXAMPLE, sigma),
        lambda: gaussian_posterior_kl(0.0, 1.0, sigma),
    ):
        with pytest.raises(ValueError, match="sigma must be positive and finite"):
            call()
    with pytest.raises(ValueError, match="scale must be positive and finite"):
        gaussian_posterior_kl(0.0, sigma, 1.0)


@pytest.mark.parametrize(
    ("weights", "means", "scales", "message"),
    [
        ((), (), (), "one weight, mean and scale for each component"),
        ((1.0,), (0.0, 1.0), (1.0,), "one weight, mean and scale for each component"),
        ((0.5, 0.6), (0.0, 1.0), (1.0, 1.0), "sum to 1"),
        ((1.5, -0.5), (0.0, 1.0), (1.0, 1.0), "must be positive and sum to 1"),
        ((1.0,), (0.0,), (0.0,), "scales must be positive"),
        ((1.0,), (math.nan,), (1.0,), "scales finite"),
    ],
)
def test_a_mixture_must_be_one(weights, means, scales, message):
    with pytest.raises(ValueError, match=message):
        Mixture(weights, means, scales)
