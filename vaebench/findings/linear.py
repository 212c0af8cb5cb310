"""Findings about the linear VAE, which has closed forms: pPCA, collapse, rotations."""

import math
from collections.abc import Iterator

import numpy as np

from vaebench.findings.evidence import Evidence, extreme, over_seeds
from vaebench.findings.finding import Measured, Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats
from vaebench.truth.ppca import LinearVAE, Spectrum, fit


def _images() -> Floats:
    """Return 400 fixed images with 12 correlated pixels, ``(400, 12)``."""
    rng = np.random.default_rng(8)
    factors = rng.normal(size=(12, 12)) * np.linspace(2.0, 0.2, 12)
    return np.asarray(rng.standard_normal((400, 12)) @ factors.T / 4 + 0.5)


def _rotation(latent_dim: int) -> Floats:
    square = np.random.default_rng(9).normal(size=(latent_dim, latent_dim))
    return np.asarray(np.linalg.qr(square)[0])


def _no_gap() -> Measured:
    images = _images()
    model = LinearVAE.optimum(fit(images), 4)
    gap = float(np.max(np.abs(model.log_likelihood(images) - model.bound(images).elbo)))
    return gap, "nats/image", {}


def _rotated_gap() -> Measured:
    images = _images()
    model = LinearVAE.optimum(fit(images), 4).rotated(_rotation(4))
    gap = model.log_likelihood(images).mean() - model.bound(images).elbo.mean()
    M = model.W.T @ model.W + model.sigma**2 * np.eye(4)
    formula = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])
    details = {"gap": float(gap), "formula": float(formula)}
    return abs(float(gap - formula)), "nats/image", details


def _rotation_costs() -> Measured:
    model = LinearVAE.optimum(fit(_images()), 4).rotated(_rotation(4))
    return model.rotation_gap, "nats/image", {}


def _sigma_fixed_point() -> Measured:
    spectrum = fit(_images())
    sigma = 1.0
    for _ in range(3000):
        sigma = math.sqrt(spectrum.distortion(4, sigma) / spectrum.dimension)
    exact = spectrum.ml_sigma(4)
    details = {"fixed point": sigma, "discarded eigenvalues": exact}
    return abs(sigma / exact - 1), "relative difference", details


def _envelope() -> Measured:
    """Largest relative error of dD/dβ = -β dR/dβ at the optima of the linear β-VAE."""
    spectrum = fit(_images())
    worst = 0.0
    for beta in (0.05, 0.1, 0.2, 0.5):
        step = 1e-5 * beta
        low, high = (math.sqrt(beta + sign * step) for sign in (-1, 1))
        rate = np.sum(spectrum.rate(12, high)) - np.sum(spectrum.rate(12, low))
        distortion = (spectrum.distortion(12, high) - spectrum.distortion(12, low)) / 2
        worst = max(worst, abs(distortion / (beta * rate) + 1))
    return float(worst), "relative difference", {}


def _bound_rises() -> Measured:
    """Smallest gain from L_1 to L_5, L_50, L_500 and log p(x) for an encoder that is not optimal.

    L_k is the importance-weighted bound with k samples. The gains are in standard errors.
    """
    images, draws, blocks = _images()[:60], 500, 10
    model = LinearVAE.optimum(fit(_images()), 4).rotated(_rotation(4))
    log_weights = _log_weights(model, images, draws * blocks)
    exact = float(model.log_likelihood(images).mean())
    # One curve per block of draws: the spread over blocks is the error of each gain.
    curves = np.array([[*_bounds(of), exact] for of in np.split(log_weights, blocks, axis=1)])
    steps = np.diff(curves, axis=1)
    errors = steps.std(axis=0, ddof=1) / math.sqrt(blocks)
    lowest = float(np.min(steps.mean(axis=0) / errors))
    return lowest, "standard errors", {"steps in nats": steps.mean(axis=0).tolist()}


def _log_weights(model: LinearVAE, images: Floats, draws: int) -> Floats:
    """Return log p(x, z) - log q(z|x) for samples of q, ``(N, draws)`` in nats."""
    noise = np.random.default_rng(10).standard_normal((len(images), draws, model.latent_dim))
    deviation = np.sqrt(model.posterior_variance)
    z = model.encode(images)[:, None] + deviation * noise
    square = np.sum((images[:, None] - z @ model.W.T - model.mu) ** 2, axis=2)
    log_likelihood = -0.5 * square / model.sigma**2
    log_likelihood -= 0.5 * model.dimension * math.log(2 * math.pi * model.sigma**2)
    # The constants of prior and q cancel.
    log_ratio = 0.5 * np.sum(noise**2 - z**2, axis=2) + np.sum(np.log(deviation))
    return np.asarray(log_likelihood + log_ratio)


def _bounds(log_weights: Floats) -> Iterator[float]:
    """Yield the mean over images of L_k for k = 1, 5, 50, 500, from disjoint groups of draws."""
    for k in (1, 5, 50, 500):
        groups = log_weights.reshape(len(log_weights), -1, k)
        yield float(np.mean(np.logaddexp.reduce(groups, axis=2) - math.log(k)))


_SIGMAS: dict[Budget, tuple[float, float, float]] = {
    # The threshold of collapse is the square root of the largest eigenvalue: far below it, just
    # below it, and above it.
    "quick": (0.5, 0.7, 1.0),
    "full": (0.7, 2.0, 2.5),
}
LINEAR_SIZES: dict[Budget, int] = {"quick": 8, "full": 50}
"""Latent dimension of the linear VAEs."""


def _linear_cells(budget: Budget) -> tuple[Cell, ...]:
    return cells_of(
        budget,
        likelihood="gaussian",
        architecture="linear",
        latent_dim=LINEAR_SIZES[budget],
        learning_rate=3e-2 if budget == "quick" else 1e-2,
        learning_rate_schedule="cosine",
        batch_size=128,
        epochs=150 if budget == "quick" else 30,
        sigma=[*_SIGMAS[budget], "learned"],
        seed=[0, 1, 2],
    )


def _spectrum(evidence: Evidence) -> Spectrum:
    """Return the recorded eigenvalues of the training images; the directions are not recorded."""
    eigenvalues = np.array(evidence.data_fact("eigenvalues"), dtype=np.float64)
    return Spectrum(np.zeros(len(eigenvalues)), eigenvalues, np.eye(len(eigenvalues)))


def _reaches_ppca(evidence: Evidence) -> Statistic:
    size = str(evidence.asked[0].latent_dim)
    # The optimum on the images of elbo_train: the mean over all training images is different.
    exact = evidence.data_fact("ppca_on_first").get(size)
    if exact is None:
        raise Untested(f"the pPCA optimum with {size} latents is not recorded")
    return over_seeds(evidence.by_seed("elbo_train", sigma="learned") - exact)


def _sigma_reached(evidence: Evidence) -> Statistic:
    exact = _spectrum(evidence).ml_sigma(evidence.asked[0].latent_dim)
    return over_seeds(evidence.by_seed("sigma_fitted", sigma="learned") / exact, "ratio")


def _active_count(evidence: Evidence) -> Statistic:
    lowest, *_ = evidence.values("sigma")
    # Var E_q[z_j] = 1 - sigma^2 / lambda_j is above 0.01 from lambda_j = sigma^2 / 0.99 on.
    seen = lowest / math.sqrt(0.99)
    expected = _spectrum(evidence).active_units(seen, evidence.asked[0].latent_dim)
    counts = evidence.by_seed("active_units", sigma=lowest)
    return extreme(max, (counts - expected).abs(), "units")


def _survives_below(evidence: Evidence) -> Statistic:
    _, below, _ = evidence.values("sigma")
    expected = float(np.sum(_spectrum(evidence).rate(evidence.asked[0].latent_dim, below)))
    if expected == 0:
        raise Untested(f"sigma {below:g} is not below the threshold of collapse")
    return over_seeds(evidence.by_seed("kl_train", sigma=below) / expected, "share")


def _collapses_above(evidence: Evidence) -> Statistic:
    *_, above = evidence.values("sigma")
    if _spectrum(evidence).collapse_sigma >= above:
        raise Untested(f"sigma {above:g} is not above the threshold of collapse")
    return over_seeds(evidence.by_seed("kl_train", sigma=above))


METHODS: dict[str, Method] = {
    "ppca-no-gap": Method(compute=_no_gap),
    "rotation-gap": Method(compute=_rotated_gap),
    "rotation-costs": Method(compute=_rotation_costs),
    "sigma-fixed-point": Method(compute=_sigma_fixed_point),
    "envelope": Method(compute=_envelope),
    "bound-rises-with-k": Method(compute=_bound_rises),
    "linear-reaches-ppca": Method(_reaches_ppca, _linear_cells, of_data=True),
    "linear-sigma": Method(_sigma_reached, _linear_cells, of_data=True),
    "linear-active-units": Method(_active_count, _linear_cells, of_data=True),
    "no-collapse-below": Method(_survives_below, _linear_cells, of_data=True),
    "collapse-above": Method(_collapses_above, _linear_cells, of_data=True),
}
"""The method of each finding in this module."""
