"""The theorem of Doersch's tutorial in one dimension: the ELBO becomes tight as sigma goes to 0.

P_gt is a density on the line with distribution function F, and G is the distribution function of
N(0, 1). The decoder f(z) = F^-1(G(z)) maps the prior to P_gt. With noise sigma the model is
P_sigma, the convolution of P_gt with N(0, sigma^2). The encoder is
Q_sigma(z|x) = N(g(x), (g'(x) sigma)^2) with g = f^-1; its KL divergence from the posterior of the
model goes to 0 with sigma.

Source: Doersch 2016, Appendix A, which proves the limits but gives no rates. By quadrature the
posterior's divergence is O(sigma^2) and the marginal's O(sigma^4).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from vaebench.truth.images import Floats

_LOG_2PI = math.log(2 * math.pi)
_NOISE = np.linspace(-10.0, 10.0, 401)
_TAIL_SCALES = 10.0  # the density beyond is below e^-50
_STEPS_A_SCALE = 4.0
_ITERATIONS = 200
_SETTLED = 1e-13


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians on the line; one component is a Gaussian.

    Raises ValueError unless weights, means and scales have the same length of at least 1 and are
    finite, the weights are positive with a sum of 1, and the scales are positive.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.means) == len(self.scales) > 0:
            raise ValueError(
                "a mixture must have one weight, mean and scale for each component; got "
                f"{len(self.weights)}, {len(self.means)} and {len(self.scales)}"
            )
        if min(self.weights) <= 0 or not math.isclose(sum(self.weights), 1.0):
            raise ValueError(f"weights must be positive and sum to 1; got {self.weights}")
        if not (min(self.scales) > 0 and np.isfinite([self.means, self.scales]).all()):
            raise ValueError(
                "scales must be positive, means and scales finite; "
                f"got means {self.means} and scales {self.scales}"
            )

    def log_density(self, x: ArrayLike) -> Floats:
        """Return the log-density at each x, in the shape of x."""
        standard = self._standardised(x)
        components = -0.5 * standard**2 - np.log(self.scales) - 0.5 * _LOG_2PI
        return np.asarray(logsumexp(components, axis=-1, b=self.weights))

    def to_normal(self, x: ArrayLike) -> Floats:
        """Return g(x) = G^-1(F(x)), accurate in both tails, in the shape of x."""
        standard = self._standardised(x)
        log_below = logsumexp(log_ndtr(standard), axis=-1, b=self.weights)
        log_above = logsumexp(log_ndtr(-standard), axis=-1, b=self.weights)
        smaller = ndtri_exp(np.minimum(log_below, log_above))
        return np.asarray(np.where(log_below < log_above, smaller, -smaller))

    def slope(self, x: ArrayLike) -> Floats:
        """Return g'(x) = P_gt(x) / N(g(x); 0, 1), in the shape of x."""
        return np.asarray(
            np.exp(self.log_density(x) + 0.5 * self.to_normal(x) ** 2 + 0.5 * _LOG_2PI)
        )

    def from_normal(self, z: ArrayLike) -> Floats:
        """Return f(z) = F^-1(G(z)), in the shape of z, by Newton's method within a bracket.

        Raises ArithmeticError if it does not converge.
        """
        z = np.asarray(z, np.float64)
        # The quantile of the mixture is between the smallest and the largest of its components.
        quantiles = np.asarray(self.means) + np.asarray(self.scales) * z[..., None]
        low, high = quantiles.min(axis=-1), quantiles.max(axis=-1)
        x = 0.5 * (low + high)
        for _ in range(_ITERATIONS):
            error = self.to_normal(x) - z
            low, high = np.where(error < 0, x, low), np.where(error > 0, x, high)
            # Between components far apart the slope underflows; bisection continues.
            with np.errstate(all="ignore"):
                newton = x - error / self.slope(x)
            previous, x = x, np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
            if np.all(np.abs(x - previous) <= _SETTLED * (1 + np.abs(x))):
                return np.asarray(x)
        raise ArithmeticError(f"quantiles of {self} did not converge in {_ITERATIONS} iterations")

    def smoothed(self, sigma: float) -> "Mixture":
        """Return P_sigma, the density of the model: this density convolved with N(0, sigma^2).

        Raises ValueError for a sigma that is not positive and finite.
        """
        _check_sigma(sigma)
        scales = tuple(math.hypot(scale, sigma) for scale in self.scales)
        return Mixture(self.weights, self.means, scales)

    def _standardised(self, x: ArrayLike) -> Floats:
        x = np.asarray(x, np.float64)[..., None]
        return np.asarray((x - np.asarray(self.means)) / np.asarray(self.scales))


EXAMPLE = Mixture(weights=(0.4, 0.6), means=(-1.0, 1.2), scales=(0.6, 0.8))
"""A skewed density with two modes; mean posterior KL 9.380e-3 nats at sigma 0.1."""


def posterior_kl_at(truth: Mixture, sigma: float, x: ArrayLike) -> Floats:
    """Return KL(Q_sigma(z|x) || P_sigma(z|x)) in nats at each x, in the shape of x.

    Writing out log Q - log N(z) - log N(x|f(z)) + log P_sigma(x) under z = g(x) + g'(x) sigma e
    with e ~ N(0, 1), and log g'(x) = log P_gt(x) - log N(g(x)), leaves
    1/2 [(g' sigma)^2 + E((x - f(z)) / sigma)^2 - 1] + log P_sigma(x) - log P_gt(x);
    the expectation is taken by the trapezoid rule.

    Source: Doersch 2016, Appendix A, for Q and f; the rest is the derivation above.

    Raises ValueError for a sigma that is not positive and finite.
    """
    x = np.asarray(x, np.float64)
    smoothed = truth.smoothed(sigma)
    spread = truth.slope(x) * sigma
    codes = truth.to_normal(x)[..., None] + spread[..., None] * _NOISE
    residual = (x[..., None] - truth.from_normal(codes)) / sigma
    weights = np.exp(-0.5 * (_NOISE**2 + _LOG_2PI)) * (_NOISE[1] - _NOISE[0])
    expected_square = residual**2 @ weights
    smoothing = smoothed.log_density(x) - truth.log_density(x)
    return np.asarray(0.5 * (spread**2 + expected_square - 1) + smoothing)


def posterior_kl(truth: Mixture, sigma: float) -> float:
    """Return the mean over x ~ P_gt of KL(Q_sigma(z|x) || P_sigma(z|x)) in nats; O(sigma^2).

    The relative error is below 1e-9 for `EXAMPLE`, and may reach 1e-4 where a component is several
    times narrower than another.
    Source: Doersch 2016, Appendix A.

    Raises ValueError for a sigma that is not positive and finite.
    """
    return _expectation(truth, posterior_kl_at(truth, sigma, _grid(truth)))


def marginal_kl(truth: Mixture, sigma: float) -> float:
    """Return KL(P_gt || P_sigma) in nats; O(sigma^4). The absolute error is about 1e-15.

    Source: Doersch 2016, Appendix A; P_sigma is P_gt convolved with N(0, sigma^2).

    Raises ValueError for a sigma that is not positive and finite.
    """
    x = _grid(truth)
    return _expectation(truth, truth.log_density(x) - truth.smoothed(sigma).log_density(x))


def gaussian_posterior_kl(x: ArrayLike, scale: float, sigma: float) -> Floats:
    """Return `posterior_kl_at` for P_gt = N(0, scale^2), in closed form.


    1/2 [r - log(1+r) + x^2 sigma^2 / (scale^2 (scale^2 + sigma^2))] with r = (sigma/scale)^2.

    Source: both posteriors of Doersch 2016, Appendix A, are Gaussian here: Q = N(x/scale, r) and
    P(z|x) = N(scale x / (scale^2 + sigma^2), r / (1+r)).

    Raises ValueError for a scale or a sigma that is not positive and finite.
    """
    _check_sigma(sigma)
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale must be positive and finite; got {scale}")
    ratio = (sigma / scale) ** 2
    square = np.asarray(x, np.float64) ** 2
    return np.asarray(0.5 * (ratio - math.log1p(ratio) + square * ratio / (scale**2 + sigma**2)))


def _grid(truth: Mixture) -> Floats:
    """Return equally spaced points over P_gt, with a spacing for its narrowest component."""
    means, scales = np.asarray(truth.means), np.asarray(truth.scales)
    low, high = np.min(means - _TAIL_SCALES * scales), np.max(means + _TAIL_SCALES * scales)
    count = math.ceil((high - low) / np.min(scales) * _STEPS_A_SCALE) + 1
    return np.linspace(low, high, count)


def _expectation(truth: Mixture, values: Floats) -> float:
    """Return the mean under P_gt of values on its grid, by the trapezoid rule."""
    x = _grid(truth)
    return float(np.sum(np.exp(truth.log_density(x)) * values) * (x[1] - x[0]))


def _check_sigma(sigma: float) -> None:
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be positive and finite; got {sigma}")
