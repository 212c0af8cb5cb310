"""Kullback-Leibler divergence and entropy of multivariate Gaussians, in nats."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from vaebench.truth.images import Floats

_SYMMETRY_TOLERANCE = 1e-8


def kl(
    mean_0: ArrayLike, covariance_0: ArrayLike, mean_1: ArrayLike, covariance_1: ArrayLike
) -> Floats:
    """Return KL(N(mean_0, covariance_0) || N(mean_1, covariance_1)) in nats.

    Means are (..., k) and broadcast, covariances (k, k); the result is (...), 0-d for two vectors.

    Source: Doersch 2016, Sec. 2.2:
    1/2 (tr(S1^-1 S0) + (m1-m0)' S1^-1 (m1-m0) - k + log(det S1 / det S0)).
    With S = L L' and A = L1^-1 L0, which is triangular, the trace is the sum of all squares of A
    and the log determinants belong to its diagonal, so that every term of the sum is at least 0
    and none cancels another.

    Raises ValueError for shapes that do not fit and for a covariance that is not symmetric and
    positive definite.
    """
    factor_0, factor_1 = _cholesky(covariance_0), _cholesky(covariance_1)
    shift = np.asarray(mean_1, np.float64) - np.asarray(mean_0, np.float64)
    dimension = len(factor_1)
    if factor_0.shape != factor_1.shape or shift.ndim < 1 or shift.shape[-1] != dimension:
        raise ValueError(
            "means must be (..., k) and covariances (k, k) with the same k, got means "
            f"{np.shape(mean_0)} and {np.shape(mean_1)}, covariances {factor_0.shape} and "
            f"{factor_1.shape}"
        )
    standardised = solve_triangular(factor_1, shift.reshape(-1, dimension).T, lower=True)
    mahalanobis = np.sum(standardised**2, axis=0).reshape(shift.shape[:-1])
    off_diagonal = np.tril(solve_triangular(factor_1, factor_0, lower=True), -1)
    diagonal = _excess(np.diag(factor_0) ** 2, np.diag(factor_1) ** 2)
    return np.asarray(0.5 * (np.sum(diagonal) + np.sum(off_diagonal**2) + mahalanobis))


def kl_to_prior(mean: ArrayLike, variance: ArrayLike, prior_scale: float = 1.0) -> Floats:
    """Return KL(N(mean_j, variance_j) || N(0, prior_scale^2)) of each latent dimension, in nats.

    Mean and variance broadcast; so does the result, and a sum over its last axis is the KL of the
    diagonal Gaussian to N(0, prior_scale^2 I). `prior_scale` is a standard deviation.

    Source: Kingma & Welling 2014, Appendix B, for prior_scale 1; Doersch 2016, Sec. 2.2.

    Raises ValueError for a variance or a prior scale that is not positive and finite.
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    if not (np.all(variance > 0) and np.all(np.isfinite(variance))):
        raise ValueError(
            f"variances must be positive and finite; the smallest is {np.min(variance)}"
        )
    if not (prior_scale > 0 and math.isfinite(prior_scale)):
        raise ValueError(f"prior_scale must be positive and finite; got {prior_scale}")
    reference = np.float64(prior_scale) ** 2
    return np.asarray(0.5 * (_excess(variance, reference) + mean**2 / reference))


def entropy(covariance: ArrayLike) -> float:
    """Return the entropy of N(m, S) in nats, 1/2 log det(2 pi e S), for covariance S (k, k).

    Source: Cover & Thomas 2006, Theorem 8.4.1.

    Raises ValueError for a covariance that is not symmetric and positive definite.

    >>> round(entropy([[1.0]]), 6)
    1.418939
    """
    factor = _cholesky(covariance)
    half_log_det = np.sum(np.log(np.diag(factor)))
    return float(0.5 * len(factor) * (1 + math.log(2 * math.pi)) + half_log_det)


def _excess(variance: Floats, reference: Floats | np.float64) -> Floats:
    """Return r - 1 - log r for the ratio r = variance / reference; 0 at r = 1, else positive."""
    distance = (variance - reference) / reference
    near = np.abs(distance) < 0.5
    # log1p is accurate for a ratio close to 1, the difference of logarithms for one close to 0.
    logarithm = np.where(
        near, np.log1p(np.where(near, distance, 0.0)), np.log(variance) - np.log(reference)
    )
    return np.asarray(distance - logarithm)


def _cholesky(covariance: ArrayLike) -> Floats:
    matrix = np.asarray(covariance, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"a covariance must be a matrix (k, k), got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("all entries of a covariance must be finite; it holds NaN or infinity")
    if np.max(np.abs(matrix - matrix.T)) > _SYMMETRY_TOLERANCE * np.max(np.abs(matrix)):
        raise ValueError("a covariance must be symmetric; this one is not: pass (S + S.T) / 2")
    try:
        return np.asarray(np.linalg.cholesky(matrix), np.float64)
    except np.linalg.LinAlgError:
        raise ValueError(
            "a covariance must be positive definite; this one is not: "
            "remove directions without variance"
        ) from None
