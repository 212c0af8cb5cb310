import math

import numpy as np
import pytest
from scipy import integrate, optimize
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

# sigma: mean posterior KL, marginal KL, |log P_sigma - log P_gt| at 0.5; four or three digits.
PUBLISHED = {
    0.4: (1.205e-1, 1.163e-2, 3.07e-2),
    0.2: (3.534e-2, 1.033e-3, 8.69e-3),
    0.1: (8.912e-3, 7.138e-5, 2.21e-3),
    0.05: (2.227e-3, 4.580e-6, 5.54e-4),
    0.025: (5.565e-4, 2.881e-7, 1.386e-4),
}
SIGMAS = [0.1, 0.05, 0.025, 0.0125]
FAR_APART = Mixture((0.5, 0.5), (-40.0, 40.0), (1.0, 0.5))


def half_a_unit(value, digits):
    return 0.51 * 10.0 ** (math.floor(math.log10(value)) - digits + 1)


@pytest.mark.parametrize("sigma", PUBLISHED)
def test_the_tutorials_divergences(sigma):
    posterior, marginal, pointwise = PUBLISHED[sigma]
    assert posterior_kl(EXAMPLE, sigma) == pytest.approx(posterior, abs=half_a_unit(posterior, 4))
    assert marginal_kl(EXAMPLE, sigma) == pytest.approx(marginal, abs=half_a_unit(marginal, 4))
    difference = EXAMPLE.smoothed(sigma).log_density(0.5) - EXAMPLE.log_density(0.5)
    assert abs(difference) == pytest.approx(pointwise, abs=half_a_unit(pointwise, 3))


@pytest.mark.parametrize(("divergence", "slope"), [(posterior_kl, 2), (marginal_kl, 4)])
def test_the_rates_of_convergence(divergence, slope):
    values = np.array([divergence(EXAMPLE, sigma) for sigma in SIGMAS])
    np.testing.assert_allclose(np.log2(values[:-1] / values[1:]), slope, atol=0.02)


@pytest.mark.parametrize("x", [-2.0, 0.1, 1.7])
@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_posterior_kl_is_that_of_the_normalised_posterior(sigma, x):
    """P(z|x) by Bayes' rule and its own normaliser, f by root finding, from scipy's functions."""
    weights, parts = EXAMPLE.weights, list(map(norm, EXAMPLE.means, EXAMPLE.scales))

    def mixture_cdf(value):
        return sum(w * part.cdf(value) for w, part in zip(weights, parts, strict=True))

    def decode(z):
        return optimize.brentq(lambda value: mixture_cdf(value) - norm.cdf(z), -9, 9, xtol=1e-13)

    g = norm.ppf(mixture_cdf(x))
    density = sum(w * part.pdf(x) for w, part in zip(weights, parts, strict=True))
    q = norm(g, sigma * density / norm.pdf(g))
    ends = q.mean() - 6 * q.std(), q.mean() + 6 * q.std()

    def integral(function):
        return integrate.quad(function, *ends, epsabs=1e-10, epsrel=1e-10, limit=200)[0]

    def joint(z):
        return norm.logpdf(z) + norm.logpdf(x, decode(z), sigma)

    evidence = integral(lambda z: math.exp(joint(z)))
    expected = integral(lambda z: q.pdf(z) * (q.logpdf(z) - joint(z) + math.log(evidence)))
    assert posterior_kl_at(EXAMPLE, sigma, x) == pytest.approx(expected, abs=2e-7)


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
        ((), (), (), "one weight, mean and scale a component"),
        ((1.0,), (0.0, 1.0), (1.0,), "one weight, mean and scale a component"),
        ((0.5, 0.6), (0.0, 1.0), (1.0, 1.0), "sum to 1"),
        ((1.5, -0.5), (0.0, 1.0), (1.0, 1.0), "must be positive and sum to 1"),
        ((1.0,), (0.0,), (0.0,), "scales must be positive"),
        ((1.0,), (math.nan,), (1.0,), "scales finite"),
    ],
)
def test_a_mixture_must_be_one(weights, means, scales, message):
    with pytest.raises(ValueError, match=message):
        Mixture(weights, means, scales)
