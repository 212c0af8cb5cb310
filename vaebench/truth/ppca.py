"""Closed forms of the linear VAE: probabilistic PCA (pPCA).

Decoder N(x | W z + mu, sigma^2 I), prior N(0, I), encoder N(z | V (x - mu), diag(v)). A prior
N(0, lambda^2 I) gives the same model with W replaced by lambda W.

Sources: Tipping & Bishop 1999, "Probabilistic principal component analysis", J. R. Statist. Soc. B
61, Sec. 3 and Appendix A (likelihood, its maxima, the exact posterior); Lucas et al. 2019, "Don't
blame the ELBO!", arXiv 1911.02469, Sec. 3 and 4 (the linear VAE, its encoder, its collapse).
The data have D pixels, the model k latent dimensions; lambda_1 >= ... are the eigenvalues of the
covariance of the data. All bounds and divergences are in nats per image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from vaebench.truth import gaussian
from vaebench.truth.images import Floats, as_images, blocks

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean and covariance of a data set, with the covariance as eigenvalues and eigenvectors.

    mean (D,), eigenvalues (r,) in decreasing order, in squared pixel units, eigenvectors (D, r) in
    columns. Directions without an eigenvector have zero variance, so r may be below D.

    Raises ValueError for other shapes or eigenvalues that are negative or not decreasing.
    """

    mean: Floats
    eigenvalues: Floats
    eigenvectors: Floats

    def __post_init__(self) -> None:
        shapes = self.mean.shape, self.eigenvalues.shape, self.eigenvectors.shape
        if self.mean.ndim != 1 or self.eigenvalues.ndim != 1 or shapes[2] != shapes[0] + shapes[1]:
            raise ValueError(
                "mean, eigenvalues and eigenvectors must have shapes (D,), (r,) and (D, r); got "
                f"{shapes[0]}, {shapes[1]}, {shapes[2]}"
            )
        if np.any(np.diff(self.eigenvalues) > 0) or np.any(self.eigenvalues < 0):
            raise ValueError("eigenvalues must be at least 0 and in decreasing order: sort them")

    @property
    def dimension(self) -> int:
        """Number of pixels D."""
        return len(self.mean)

    @property
    def collapse_sigma(self) -> float:
        """The smallest sigma at which every latent dimension collapses (KL 0): sqrt(lambda_1).

        Source: Lucas et al. 2019, Sec. 4; arXiv 2510.01621.
        """
        return math.sqrt(np.max(self.eigenvalues, initial=0.0))

    def ml_sigma(self, latent_dim: int) -> float:
        """Return the maximum-likelihood sigma: sigma^2 = sum_{i>k} lambda_i / (D - k).

        Source: Tipping & Bishop 1999, Sec. 3.2. It is also the fixed point sigma^2 = distortion/D
        of Rybkin et al. 2021, Sec. 4.

        Raises ValueError if no variance is left, so that the likelihood has no maximum.
        """
        _check_latent_dim(latent_dim)
        left = float(np.sum(self.eigenvalues[latent_dim:]))
        if left == 0:
            raise ValueError(
                "the maximum-likelihood sigma needs variance outside the latent space; got "
                f"latent_dim {latent_dim} for data of rank {np.count_nonzero(self.eigenvalues)}; "
                "use fewer latent dimensions or a fixed sigma"
            )
        return math.sqrt(left / (self.dimension - latent_dim))

    def active_units(self, sigma: float, latent_dim: int | None = None) -> int:
        """Return the number of active units at the optimum, min(k, #{lambda_i > sigma^2}).

        Source: Lucas et al. 2019, Sec. 4; Tipping & Bishop 1999, Appendix A.
        """
        _check_sigma(sigma)
        above = int(np.count_nonzero(self.eigenvalues > sigma**2))
        if latent_dim is None:
            return above
        _check_latent_dim(latent_dim)
        return min(latent_dim, above)

    def rate(self, latent_dim: int, sigma: float) -> Floats:
        """Return the mean KL of each latent dimension at the optimum, max(0, 1/2 log(lambda_j /
        sigma^2)), (k,).

        Source: reverse water-filling, Cover & Thomas 2006, Theorem 10.3.3.
        """
        active = self.active_units(sigma, latent_dim)
        rate = np.zeros(latent_dim)
        rate[:active] = 0.5 * np.log(self.eigenvalues[:active]) - math.log(sigma)
        return rate

    def distortion(self, latent_dim: int, sigma: float) -> float:
        """Return the mean of E_q ||x - W z - mu||^2 at the optimum: q sigma^2 + sum_{i>q} lambda_i.

        In squared pixel units summed over pixels; q is the number of active units.
        Source: as for `rate`.
        """
        active = self.active_units(sigma, latent_dim)
        return float(active * sigma**2 + np.sum(self.eigenvalues[active:]))

    def log_likelihood(self, latent_dim: int, sigma: float) -> float:
        """Return the highest mean log p(x) of a linear model on data with this spectrum, in nats.

        -1/2 [D log 2 pi + sum_{i<=q} log lambda_i + (D-q) log sigma^2 + q
              + sum_{i>q} lambda_i / sigma^2], q the number of active units.
        Source: Tipping & Bishop 1999, Sec. 3.2 and Appendix A.
        """
        active = self.active_units(sigma, latent_dim)
        log_det = np.sum(np.log(self.eigenvalues[:active]))
        log_det += 2 * (self.dimension - active) * math.log(sigma)
        trace = active + np.sum(self.eigenvalues[active:]) / sigma**2
        return float(-0.5 * (self.dimension * _LOG_2PI + log_det + trace))


def fit(images: ArrayLike) -> Spectrum:
    """Return mean and covariance (divided by N) of images (N, D), computed in float64.

    Eigenvalues at the level of rounding are set to 0. Dividing by N gives the maximum-likelihood
    estimate of the covariance (Tipping & Bishop 1999, Sec. 3.2).

    Raises ValueError for an empty, misshapen or non-finite set.
    """
    array = as_images(images)
    count, dimension = array.shape
    mean: Floats = array.mean(axis=0, dtype=np.float64)
    if count < dimension:  # fewer images than pixels: the matrix (D, D) is not needed
        centred = np.concatenate([block - mean for block in blocks(array)])
        _, singular_values, rows = np.linalg.svd(centred, full_matrices=False)
        eigenvalues, eigenvectors = singular_values**2 / count, rows.T
    else:
        scatter = np.zeros((dimension, dimension))
        for block in blocks(array):
            scatter += (block - mean).T @ (block - mean)
        eigenvalues, eigenvectors = np.linalg.eigh(scatter / count)
        eigenvalues, eigenvectors = eigenvalues[::-1], eigenvectors[:, ::-1]
    rounding = dimension * np.finfo(np.float64).eps * eigenvalues[0]
    cleaned = np.asarray(np.where(eigenvalues > rounding, eigenvalues, 0.0))
    return Spectrum(mean, cleaned, eigenvectors)


@dataclass(frozen=True, eq=False)
class Bound:
    """The terms of the ELBO of N images: higher is better, all constants included."""

    reconstruction_error: Floats
    """-E_q log p(x|z), (N,)."""
    kl_per_dimension: Floats
    """KL(q(z_j|x) || p(z_j)), (N, k)."""

    @property
    def kl(self) -> Floats:
        """KL(q(z|x) || p(z)), (N,)."""
        return np.asarray(np.sum(self.kl_per_dimension, axis=1))

    @property
    def elbo(self) -> Floats:
        """-(reconstruction_error + kl), (N,)."""
        return -(self.reconstruction_error + self.kl)


@dataclass(frozen=True, eq=False)
class LinearVAE:
    """A linear VAE: decoder W (D, k), mu (D,), sigma; encoder V (k, D), posterior_variance (k,).

    The encoder is a part of the model, so that suboptimal encoders can be studied; `optimum` and
    `with_optimal_encoder` return models with the best one.

    Raises ValueError for wrong shapes, and for a sigma or variances that are not positive.
    """

    W: Floats
    mu: Floats
    sigma: float
    V: Floats = field(repr=False)
    posterior_variance: Floats = field(repr=False)

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)
        _check_decoder(self.W, self.mu)
        if self.V.shape != self.W.T.shape or self.posterior_variance.shape != self.W.shape[1:]:
            raise ValueError(
                f"V and posterior_variance must have shapes {self.W.T.shape} and "
                f"{self.W.shape[1:]}; got {self.V.shape} and {self.posterior_variance.shape}"
            )
        if not np.all(self.posterior_variance > 0):
            raise ValueError(
                "posterior variances must be positive, otherwise the KL is infinite; the smallest "
                f"is {self.posterior_variance.min():g}"
            )

    @classmethod
    def with_optimal_encoder(cls, W: ArrayLike, mu: ArrayLike, sigma: float) -> Self:
        """Return the decoder W (D, k), mu (D,), sigma with its best diagonal encoder.

        V = M^-1 W' and v_j = sigma^2 / M_jj, where M = W'W + sigma^2 I.
        Source: Lucas et al. 2019, Sec. 4 and its appendix.
        """
        W, mu = np.asarray(W, np.float64), np.asarray(mu, np.float64)
        _check_sigma(sigma)
        _check_decoder(W, mu)
        variance = sigma**2 / (np.sum(W**2, axis=0) + sigma**2)
        return cls(W, mu, sigma, _posterior_map(W, sigma), variance)

    @classmethod
    def optimum(cls, spectrum: Spectrum, latent_dim: int, sigma: float | None = None) -> Self:
        """Return the global optimum of ELBO and likelihood, W = U_q (Lambda_q - sigma^2)^1/2.

        Of all rotations of W, the ELBO equals the likelihood for this axis-aligned one. Columns
        after the q = min(k, #{lambda_i > sigma^2}) active ones are 0. If `sigma` is None, the
        `ml_sigma` is used.
        Source: Tipping & Bishop 1999, Sec. 3.2 and Appendix A; Lucas et al. 2019, Sec. 4.
        """
        sigma = spectrum.ml_sigma(latent_dim) if sigma is None else sigma
        active = spectrum.active_units(sigma, latent_dim)
        W = np.zeros((spectrum.dimension, latent_dim))
        scale = np.sqrt(spectrum.eigenvalues[:active] - sigma**2)
        W[:, :active] = spectrum.eigenvectors[:, :active] * scale
        return cls.with_optimal_encoder(W, spectrum.mean, sigma)

    @property
    def dimension(self) -> int:
        """Number of pixels D."""
        return len(self.mu)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions k."""
        return len(self.V)

    def log_likelihood(self, images: ArrayLike) -> Floats:
        """Return the exact log p(x) = log N(x | mu, W W' + sigma^2 I) of images (N, D), (N,).

        Source: Tipping & Bishop 1999, Sec. 3.1. The covariance C = W W' + sigma^2 I is not
        inverted: its eigenvalues are s_j^2 + sigma^2, with the singular values s_j of W, and
        sigma^2. The part of x outside the span of W is computed before it is squared, so that
        there is no cancellation for a small sigma.
        """
        return self._by_block(
            images, lambda x: -0.5 * (self._log_normaliser + self._mahalanobis(x - self.mu))
        )

    def expected_log_likelihood(self, spectrum: Spectrum) -> float:
        """Return the mean of `log_likelihood` over data with a spectrum, without the data.

        -1/2 [D log 2 pi + log |C| + tr(C^-1 S) + (m - mu)' C^-1 (m - mu)].
        Source: Tipping & Bishop 1999, Sec. 3.2.
        """
        axes = (spectrum.eigenvectors * np.sqrt(spectrum.eigenvalues)).T
        trace = np.sum(self._mahalanobis(axes))
        shift = self._mahalanobis(spectrum.mean[None] - self.mu)[0]
        return float(-0.5 * (self._log_normaliser + trace + shift))

    def encode(self, images: ArrayLike) -> Floats:
        """Return the means V (x - mu) of the encoder for images (N, D), (N, k)."""
        return self._by_block(images, lambda x: (x - self.mu) @ self.V.T)

    def distortion(self, images: ArrayLike) -> Floats:
        """Return E_q ||x - W z - mu||^2 of images (N, D), (N,), in squared pixel units.

        ||x - mu - W V (x - mu)||^2 + sum_j v_j ||W_j||^2.
        Source: the second moment of a Gaussian; Lucas et al. 2019, Sec. 4.
        """
        spread = float(np.sum(self.posterior_variance * np.sum(self.W**2, axis=0)))

        def squared_error(x: Floats) -> Floats:
            centred = x - self.mu
            residual = centred - (centred @ self.V.T) @ self.W.T
            return np.asarray(np.sum(residual**2, axis=1) + spread)

        return self._by_block(images, squared_error)

    def bound(self, images: ArrayLike) -> Bound:
        """Return the terms of the ELBO of images (N, D) in closed form.

        Source: Lucas et al. 2019, Sec. 4; the reconstruction error is
        D/2 log(2 pi sigma^2) + distortion / (2 sigma^2).
        """
        constant = 0.5 * self.dimension * (_LOG_2PI + 2 * math.log(self.sigma))
        return Bound(
            constant + self.distortion(images) / (2 * self.sigma**2),
            gaussian.kl_to_prior(self.encode(images), self.posterior_variance),
        )

    def exact_posterior_mean(self, images: ArrayLike) -> Floats:
        """Return the means M^-1 W' (x - mu) of the exact posterior p(z|x) of images (N, D), (N, k).

        Source: Tipping & Bishop 1999, Sec. 3.2.
        """
        V = _posterior_map(self.W, self.sigma)
        return self._by_block(images, lambda x: (x - self.mu) @ V.T)

    @cached_property
    def exact_posterior_covariance(self) -> Floats:
        """Return the covariance sigma^2 M^-1 of the exact posterior p(z|x) of every x, (k, k).

        Source: Tipping & Bishop 1999, Sec. 3.2.
        """
        wide = self.latent_dim > self.dimension
        axes, singular_values, _ = np.linalg.svd(self.W.T, full_matrices=wide)
        variances = np.ones(self.latent_dim)
        noise = self.sigma**2
        variances[: len(singular_values)] = noise / (singular_values**2 + noise)
        covariance = (axes * variances) @ axes.T
        return np.asarray((covariance + covariance.T) / 2)

    def exact_posterior_kl(self, images: ArrayLike) -> Floats:
        """Return KL(p(z|x) || p(z)) of the exact posterior for images (N, D), (N,), in nats.

        Source: Tipping & Bishop 1999, Sec. 3.2, in Doersch 2016, Sec. 2.2.
        """
        means, unit = self.exact_posterior_mean(images), np.eye(self.latent_dim)
        return gaussian.kl(means, self.exact_posterior_covariance, np.zeros(self.latent_dim), unit)

    def posterior_gap(self, images: ArrayLike) -> Floats:
        """Return KL(q(z|x) || p(z|x)) = log p(x) - ELBO of images (N, D), (N,), in nats.

        Source: Doersch 2016, Eq. 5 of Sec. 2.1; `gaussian.kl` with a full covariance.
        """
        exact = self.exact_posterior_mean(images), self.exact_posterior_covariance
        return gaussian.kl(self.encode(images), np.diag(self.posterior_variance), *exact)

    def rotated(self, rotation: ArrayLike) -> "LinearVAE":
        """Return the decoder W R with its best diagonal encoder; R (k, k) is orthogonal.

        Its likelihood is the same, its ELBO lower by its `rotation_gap`.
        Source: Tipping & Bishop 1999, Sec. 3.2; Lucas et al. 2019, Sec. 4.

        Raises ValueError if R has another shape or is not orthogonal within 1e-8.
        """
        R = np.asarray(rotation, np.float64)
        unit = np.eye(self.latent_dim)
        if R.shape != unit.shape or not np.allclose(R.T @ R, unit, rtol=0, atol=1e-8):
            raise ValueError(
                f"a rotation must be an orthogonal matrix of shape {unit.shape}; got shape "
                f"{R.shape}, or columns that are not orthonormal"
            )
        return LinearVAE.with_optimal_encoder(self.W @ R, self.mu, self.sigma)

    @property
    def rotation_gap(self) -> float:
        """Return the loss in ELBO by a diagonal instead of a full encoder, in nats per image.

        1/2 (log det diag M - log det M), M = W'W + sigma^2 I: 0 if the columns of W are
        orthogonal.
        Source: KL of N(m, diag v) to N(m, sigma^2 M^-1), Lucas et al. 2019, Sec. 4.
        """
        noise = self.sigma**2
        _, singular_values, _ = self._decoder_axes
        log_det = np.sum(np.log(singular_values**2 + noise))
        log_det += (self.latent_dim - len(singular_values)) * math.log(noise)
        diagonal = np.sum(np.log(np.sum(self.W**2, axis=0) + noise))
        return float(0.5 * (diagonal - log_det))

    def simulate(self, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw images (count, D) from the model; return them with their latents (count, k).

        Each latent is also an exact draw from the posterior of its image, as needed for the start
        of a reverse annealing chain.
        Source: ancestral sampling, Tipping & Bishop 1999, Sec. 3.1.
        """
        latents = rng.standard_normal((count, self.latent_dim))
        noise = self.sigma * rng.standard_normal((count, self.dimension))
        return latents @ self.W.T + self.mu + noise, latents

    @cached_property
    def _decoder_axes(self) -> tuple[Floats, Floats, Floats]:
        left, singular_values, right = np.linalg.svd(self.W, full_matrices=False)
        return left, singular_values, right

    @property
    def _log_normaliser(self) -> float:
        """Return D log 2 pi + log |C|."""
        _, singular_values, _ = self._decoder_axes
        log_det = np.sum(np.log(singular_values**2 + self.sigma**2))
        log_det += 2 * (self.dimension - len(singular_values)) * math.log(self.sigma)
        return float(self.dimension * _LOG_2PI + log_det)

    def _mahalanobis(self, centred: Floats) -> Floats:
        """Return x' C^-1 x, shape (n,), for each row x of `centred`, shape (n, D)."""
        left, singular_values, _ = self._decoder_axes
        inside = centred @ left
        outside = centred - inside @ left.T
        squares = inside**2 @ (1 / (singular_values**2 + self.sigma**2))
        return np.asarray(squares + np.sum(outside**2, axis=1) / self.sigma**2)

    def _by_block(self, images: ArrayLike, function: Callable[[Floats], Floats]) -> Floats:
        return np.concatenate([function(block) for block in blocks(images, self.dimension)])


def _posterior_map(W: Floats, sigma: float) -> Floats:
    """Return M^-1 W', (k, D), from the singular values of W, without computing M."""
    left, singular_values, right = np.linalg.svd(W, full_matrices=False)
    return np.asarray((right.T * (singular_values / (singular_values**2 + sigma**2))) @ left.T)


def _check_sigma(sigma: float) -> None:
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(
            f"sigma must be positive and finite, otherwise there is no density; got {sigma}"
        )


def _check_latent_dim(latent_dim: int) -> None:
    if latent_dim < 1:
        raise ValueError(f"latent_dim must be at least 1; got {latent_dim}")


def _check_decoder(W: Floats, mu: Floats) -> None:
    if W.ndim != 2 or mu.shape != W.shape[:1] or 0 in W.shape:
        raise ValueError(f"W and mu must have shapes (D, k) and (D,); got {W.shape} and {mu.shape}")
