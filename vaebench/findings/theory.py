"""Findings that are decided by a computation: Gaussians, the 1-D theorem, gradients, code lengths.

Each function computes its number in float64 with fixed seeds, and returns a `Measured`.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import integrate, stats
from scipy.special import logsumexp

from vaebench.findings.finding import Measured, Method
from vaebench.truth import gaussian
from vaebench.truth.images import Floats
from vaebench.truth.one_dimensional import (
    EXAMPLE,
    Mixture,
    gaussian_posterior_kl,
    marginal_kl,
    posterior_kl,
    posterior_kl_at,
)

_DRAWS = 200_000


def _off(values: Floats, centre: float) -> float:
    """Return the distance of a Monte Carlo mean from `centre`, in standard errors."""
    return abs(float(values.mean()) - centre) / float(stats.sem(values))


def _kl_closed_form() -> Measured:
    rng = np.random.default_rng(0)
    factors = [np.tril(rng.normal(size=(3, 3))) + 2 * np.eye(3) for _ in range(2)]
    means = rng.normal(size=(2, 3))
    covariances = [factor @ factor.T for factor in factors]
    x = means[0] + rng.standard_normal((_DRAWS, 3)) @ factors[0].T
    log_p = stats.multivariate_normal(means[0], covariances[0]).logpdf(x)
    log_q = stats.multivariate_normal(means[1], covariances[1]).logpdf(x)
    closed = float(gaussian.kl(means[0], covariances[0], means[1], covariances[1]))
    details = {"closed_form": closed, "standard_error": float(stats.sem(log_p - log_q))}
    return _off(log_p - log_q, closed), "standard errors", details | {"draws": _DRAWS}


def _tanh_vae(
    x: Floats, noise: Floats, prior_variance: float, decoder_divisor: float, encoder_factor: float
) -> Floats:
    """Return the ELBO of each image for a small tanh VAE with fixed weights and sigma 1.

    The prior is N(0, prior_variance I), the input of the decoder is z / decoder_divisor, and mean
    and standard deviation of q are multiplied by encoder_factor.
    """
    rng = np.random.default_rng(1)
    V, W, U = rng.normal(size=(6, 3)) / 2, rng.normal(size=(3, 8)), rng.normal(size=(8, 6)) / 2
    mean, deviation = x @ V * encoder_factor, 0.4 * encoder_factor
    z = mean + deviation * noise
    decoded = np.tanh(z / decoder_divisor @ W) @ U
    kl = gaussian.kl_to_prior(mean, deviation**2, math.sqrt(prior_variance)).sum(axis=1)
    return np.asarray(np.sum(stats.norm.logpdf(x, decoded, 1.0), axis=1) - kl)


def absorption_error(variance_of: Callable[[float], float]) -> float:
    """Return the largest relative change of the ELBO when z is replaced by lambda z.

    Args:
        variance_of: the variance of the new prior for a given lambda. The maximum is over lambda =
            0.01, 0.1, 10 and 100.
    """
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=(50, 6)), rng.standard_normal((50, 3))
    plain = _tanh_vae(x, noise, 1.0, 1.0, 1.0)
    changes = [
        np.max(np.abs(_tanh_vae(x, noise, variance_of(scale), scale, scale) / plain - 1))
        for scale in (0.01, 0.1, 10.0, 100.0)
    ]
    return float(max(changes))


def _slope(divergence: Callable[[Mixture, float], float], *sigmas: float) -> Measured:
    values = [divergence(EXAMPLE, sigma) for sigma in sigmas]
    slope = float(np.polyfit(np.log2(sigmas), np.log2(values), 1)[0])
    details = {f"nats at sigma {s:g}": value for s, value in zip(sigmas, values, strict=True)}
    return slope, "log2 per log2 sigma", details


def _gaussian_case() -> Measured:
    x = np.linspace(-3, 3, 13)
    numerical = posterior_kl_at(Mixture((1.0,), (0.0,), (1.3,)), 0.2, x)
    exact = gaussian_posterior_kl(x, 1.3, 0.2)
    return float(np.max(np.abs(numerical - exact))), "nats", {}


def score_ratio(shared_noise: bool = True) -> tuple[float, float]:
    """Compare the score-function gradient with the reparameterised gradient.

    Both estimate the gradient of E log N(x | w z, s^2) with respect to the mean of q(z) = N(m, v),
    whose exact value is w (x - w m) / s^2.

    Args:
        shared_noise: use the same noise for both estimators.

    Returns:
        The ratio of the variances, and the larger error of the two means in standard errors.
    """
    rng = np.random.default_rng(3)
    x, w, s, m, deviation = 1.0, 2.0, 0.5, 0.3, 0.6
    noise = rng.standard_normal(_DRAWS)
    other = noise if shared_noise else rng.standard_normal(_DRAWS)
    z = m + deviation * noise
    pathwise = w * (x - w * z) / s**2
    score = stats.norm.logpdf(x, w * (m + deviation * other), s) * other / deviation
    exact = w * (x - w * m) / s**2
    return float(score.var() / pathwise.var()), max(_off(pathwise, exact), _off(score, exact))


def _score_function() -> Measured:
    ratio, distance = score_ratio()
    return ratio, "times the variance", {"standard errors off": distance}


def _score_function_unbiased() -> Measured:
    ratio, distance = score_ratio(shared_noise=False)
    return distance, "standard errors", {"variance ratio": ratio}


def replication_error(copies: int, weight: float) -> float:
    """Return the relative difference between two Bernoulli losses.

    One has each pixel repeated `copies` times; the other is `copies` times the loss in which the
    KL has the weight `weight`.
    """
    rng = np.random.default_rng(4)
    x = (rng.random((40, 12)) < 0.4).astype(float)
    logits, kl = rng.normal(size=(40, 12)), rng.gamma(2.0, size=40)
    entropy = (np.logaddexp(0, logits) - x * logits).sum(axis=1)
    repeated = np.repeat(np.logaddexp(0, logits) - x * logits, copies, axis=1).sum(axis=1) + kl
    return float(np.max(np.abs(repeated / (copies * (entropy + weight * kl)) - 1)))


def _replication() -> Measured:
    error = max(replication_error(copies, 1 / copies) for copies in (2, 5, 20))
    return error, "relative difference", {}


def log_normaliser(logit: float) -> float:
    """Return the log of the integral of exp(logit x) over [0, 1], in closed form."""
    if abs(logit) < 1e-2:
        return logit / 2 + logit**2 / 24 - logit**4 / 2880
    size = abs(logit)
    return logit / 2 + size / 2 + math.log(-math.expm1(-size)) - math.log(size)


def _continuous_bernoulli() -> Measured:
    errors = []
    for logit in (-30.0, -5.0, -0.5, -1e-3, 0.0, 0.009, 0.02, 3.0, 25.0):
        normaliser = log_normaliser(logit)
        total, _ = integrate.quad(lambda x, a=logit, n=normaliser: math.exp(a * x - n), 0, 1)
        errors.append(abs(total - 1))
    return max(errors), "distance of the integral from 1", {}


def _mdl() -> Measured:
    """Code lengths of a linear Gaussian model with the exact posterior and with wider ones."""
    rng = np.random.default_rng(5)
    W, sigma, x = rng.normal(size=(10, 3)), 0.5, rng.normal(size=10)
    precision = np.eye(3) + W.T @ W / sigma**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ W.T @ x / sigma**2
    log_p = stats.multivariate_normal(np.zeros(10), W @ W.T + sigma**2 * np.eye(10)).logpdf(x)
    worst = 0.0
    for spread in (1.0, 1.5, 3.0):
        q = covariance * spread
        code = float(gaussian.kl(mean, q, np.zeros(3), np.eye(3)))
        square = np.sum((x - W @ mean) ** 2) + np.trace(W @ q @ W.T)
        image = 5 * math.log(2 * math.pi * sigma**2) + square / (2 * sigma**2)
        waste = float(gaussian.kl(mean, q, mean, covariance))
        worst = max(worst, abs(code + image - waste + log_p) / math.log(2))
    return worst, "bits", {"bits of the image": float(-log_p / math.log(2))}


def _sampling_errors() -> tuple[float, float]:
    """Return the errors of two estimates of log p(x): codes from the prior, and from a good q."""
    rng = np.random.default_rng(6)
    D, k, sigma, draws = 50, 8, math.sqrt(0.05), 10_000
    W = rng.normal(size=(D, k)) / 2
    x = W @ rng.standard_normal(k) + sigma * rng.standard_normal(D)
    exact = stats.multivariate_normal(np.zeros(D), W @ W.T + sigma**2 * np.eye(D)).logpdf(x)
    covariance = np.linalg.inv(np.eye(k) + W.T @ W / sigma**2)
    mean, deviation = covariance @ W.T @ x / sigma**2, np.sqrt(1.5 * np.diag(covariance))

    def estimate(z: Floats, log_proposal: Floats) -> float:
        log_joint = np.sum(stats.norm.logpdf(z), axis=1)
        log_joint += np.sum(stats.norm.logpdf(x, z @ W.T, sigma), axis=1)
        return float(logsumexp(log_joint - log_proposal) - math.log(draws) - exact)

    prior = rng.standard_normal((draws, k))
    near = mean + deviation * rng.standard_normal((draws, k))
    return (
        estimate(prior, np.sum(stats.norm.logpdf(prior), axis=1)),
        estimate(near, np.sum(stats.norm.logpdf(near, mean, deviation), axis=1)),
    )


def _sampling(of: int) -> Measured:
    """Return the error of the estimate with codes from the prior (0) or from q (1)."""
    errors = _sampling_errors()
    other = ("error with Q", "error with the prior")[of]
    return abs(errors[of]), "nats", {other: errors[1 - of]}


def trajectories(sigma_squared: float, beta: float = 0.3, steps: int = 100) -> float:
    """Return the largest relative difference of the weights of two linear VAEs after training.

    One is a beta-VAE with unit variance; the other has beta 1, the variance `sigma_squared` and a
    learning rate that is `sigma_squared` times as high. Both use the same noise.
    """

    def train(variance: float, weight: float, rate: float) -> Floats:
        rng = np.random.default_rng(7)
        W, V = rng.normal(size=(6, 2)) / 3, rng.normal(size=(2, 6)) / 3
        x = rng.normal(size=(32, 6))
        for _ in range(steps):
            noise = 0.5 * rng.standard_normal((32, 2))
            mean = x @ V.T
            z = mean + noise
            error = (z @ W.T - x) / variance
            step_W = error.T @ z / 32
            step_V = (error @ W + weight * mean).T @ x / 32
            W, V = W - rate * step_W, V - rate * step_V
        return np.concatenate([W.ravel(), V.ravel()])

    rate = 0.05
    ours, theirs = train(1.0, beta, rate), train(sigma_squared, 1.0, rate * sigma_squared)
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(ours)))


def _equal_paths(sigma_squared: float) -> Measured:
    return trajectories(sigma_squared), "relative difference of weights", {"beta": 0.3}


METHODS: dict[str, Method] = {
    "kl-closed-form": Method(compute=_kl_closed_form),
    "lambda-absorbed": Method(
        compute=lambda: (absorption_error(lambda s: s**2), "relative change", {})
    ),
    "lambda-absorbed-as-printed": Method(
        compute=lambda: (absorption_error(lambda s: s), "relative change", {})
    ),
    "one-dimension-posterior": Method(compute=lambda: _slope(posterior_kl, 0.1, 0.05, 0.025)),
    "one-dimension-marginal": Method(compute=lambda: _slope(marginal_kl, 0.05, 0.025)),
    "one-dimension-gaussian": Method(compute=_gaussian_case),
    "score-function-variance": Method(compute=_score_function),
    "score-function-unbiased": Method(compute=_score_function_unbiased),
    "bernoulli-no-sigma": Method(compute=_replication),
    "continuous-bernoulli-normalised": Method(compute=_continuous_bernoulli),
    "mdl-bits": Method(compute=_mdl),
    "prior-sampling-fails": Method(compute=lambda: _sampling(0)),
    "posterior-sampling-works": Method(compute=lambda: _sampling(1)),
    "sigma-squared-is-beta": Method(compute=lambda: _equal_paths(0.3)),
    "sigma-is-root-half-beta": Method(compute=lambda: _equal_paths(0.15)),
}
"""The method of each finding in this module."""
