"""Findings about the linear VAE, of which everything is known: pPCA, collapse, rotations."""

import math
from collections.abc import Callable

import numpy as np
from pydantic import JsonValue

from vaebench.findings.evidence import (
    Evidence,
    asked,
    by_seed,
    data_fact,
    over_seeds,
)
from vaebench.findings.finding import Measured, Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats
from vaebench.truth.ppca import LinearVAE, Spectrum, fit

__all__ = ["LINEAR_SIZES", "METHODS", "recorded_spectrum"]


def _images() -> Floats:
    """Correlated images of 12 pixels, fixed."""
    rng = np.random.default_rng(8)
    factors = rng.normal(size=(12, 12)) * np.linspace(2.0, 0.2, 12)
    return np.asarray(rng.standard_normal((400, 12)) @ factors.T / 4 + 0.5)


def _rotation(latent_dim: int) -> Floats:
    return np.asarray(
        np.linalg.qr(np.random.default_rng(9).normal(size=(latent_dim, latent_dim)))[0]
    )


def _no_gap() -> Measured:
    images = _images()
    model = LinearVAE.optimum(fit(images), 4)
    gap = float(np.max(np.abs(model.log_likelihood(images) - model.bound(images).elbo)))
    return Statistic.exact(gap, "nats/image"), {}


def _rotated_gap() -> Measured:
    images = _images()
    model = LinearVAE.optimum(fit(images), 4).rotated(_rotation(4))
    gap = model.log_likelihood(images).mean() - model.bound(images).elbo.mean()
    M = model.W.T @ model.W + model.sigma**2 * np.eye(4)
    formula = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])
    details: dict[str, JsonValue] = {"gap": float(gap), "formula": float(formula)}
    return Statistic.exact(abs(float(gap - formula)), "nats/image"), details


def _rotation_costs() -> Measured:
    model = LinearVAE.optimum(fit(_images()), 4).rotated(_rotation(4))
    return Statistic.exact(model.rotation_gap, "nats/image"), {}


def _sigma_fixed_point() -> Measured:
    spectrum = fit(_images())
    sigma = 1.0
    for _ in range(3000):
        sigma = math.sqrt(spectrum.distortion(4, sigma) / spectrum.dimension)
    exact = spectrum.ml_sigma(4)
    details: dict[str, JsonValue] = {"fixed point": sigma, "discarded eigenvalues": exact}
    return Statistic.exact(abs(sigma / exact - 1), "relative difference"), details


def _envelope() -> Measured:
    """dD/dβ + β dR/dβ along the optima of the linear β-VAE, D in nats at unit variance."""
    spectrum = fit(_images())
    worst = 0.0
    for beta in (0.05, 0.1, 0.2, 0.5):
        step = 1e-5 * beta
        low, high = (math.sqrt(beta + sign * step) for sign in (-1, 1))
        rate = np.sum(spectrum.rate(12, high)) - np.sum(spectrum.rate(12, low))
        distortion = (spectrum.distortion(12, high) - spectrum.distortion(12, low)) / 2
        worst = max(worst, abs(distortion / (beta * rate) + 1))
    return Statistic.exact(worst, "relative difference"), {}


def _bound_rises() -> Measured:
    """Smallest of the steps L_1, L_5, L_50, L_500, log p(x) in a linear model with a loose Q."""
    images, draws, blocks = _images()[:60], 500, 10
    model = LinearVAE.optimum(fit(_images()), 4).rotated(_rotation(4))
    log_weights = _log_weights(model, images, draws * blocks)
    exact = float(model.log_likelihood(images).mean())
    # A curve a block of draws: their spread is the error of each step.
    curves = np.array(
        [[*_bounds(block).values(), exact] for block in np.split(log_weights, blocks, axis=1)]
    )
    steps = np.diff(curves, axis=1)
    errors = steps.std(axis=0, ddof=1) / math.sqrt(blocks)
    details: dict[str, JsonValue] = {"steps in nats": [float(step) for step in steps.mean(axis=0)]}
    return Statistic.exact(float(np.min(steps.mean(axis=0) / errors)), "standard errors"), details


def _log_weights(model: LinearVAE, images: Floats, draws: int) -> Floats:
    """log p(x, z) - log q(z|x) of codes from q, (N, draws)."""
    noise = np.random.default_rng(10).standard_normal((len(images), draws, model.latent_dim))
    deviation = np.sqrt(model.posterior_variance)
    z = model.encode(images)[:, None] + deviation * noise
    square = np.sum((images[:, None] - z @ model.W.T - model.mu) ** 2, axis=2)
    log_likelihood = -0.5 * square / model.sigma**2
    log_likelihood -= 0.5 * model.dimension * math.log(2 * math.pi * model.sigma**2)
    # The constants of prior and q cancel.
    log_ratio = 0.5 * np.sum(noise**2 - z**2, axis=2) + np.sum(np.log(deviation))
    return np.asarray(log_likelihood + log_ratio)


def _bounds(log_weights: Floats) -> dict[int, float]:
    """Mean of L_k over images, k = 1, 5, 50, 500, from disjoint groups of k draws."""
    found = {}
    for k in (1, 5, 50, 500):
        groups = log_weights.reshape(len(log_weights), -1, k)
        found[k] = float(np.mean(np.logaddexp.reduce(groups, axis=2) - math.log(k)))
    return found


def recorded_spectrum(evidence: Evidence, dataset: str) -> Spectrum:
    """Eigenvalues of a data set's training images as the store has them; no directions.

    Raises Untested where they are not recorded.
    """
    eigenvalues = data_fact(evidence, dataset)["eigenvalues"]
    if not isinstance(eigenvalues, list):
        raise Untested(f"the record of {dataset} holds no eigenvalues")
    values = np.array(eigenvalues, dtype=np.float64)
    return Spectrum(np.zeros(len(values)), values, np.eye(len(values)))


_SIGMAS: dict[Budget, tuple[float, float, float]] = {
    # Below the largest eigenvalue's root with many active units, just below it, above it.
    "quick": (0.5, 0.7, 1.0),
    "full": (0.7, 2.0, 2.5),
}
LINEAR_SIZES: dict[Budget, int] = {"quick": 8, "full": 50}
"""Latent sizes of the linear VAEs."""


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


def _image_set(evidence: Evidence) -> tuple[str, int, list[float]]:
    """The data set, the latent size and the fixed sigmas of the linear cells."""
    cell = evidence.asked[0]
    return cell.dataset, cell.latent_dim, asked(evidence, "sigma")


def _reaches_ppca(evidence: Evidence) -> Statistic:
    dataset, latent_dim, _ = _image_set(evidence)
    # On the images that elbo_train is of: all of them have another mean, the same for each seed.
    known = data_fact(evidence, dataset).get("ppca_on_first")
    exact = known.get(str(latent_dim)) if isinstance(known, dict) else None
    if not isinstance(exact, float):
        raise Untested(f"the record of {dataset} holds no pPCA optimum of {latent_dim} latents")
    return over_seeds(by_seed(evidence.frame, "elbo_train", sigma="learned") - exact, "nats/image")


def _sigma_reached(evidence: Evidence) -> Statistic:
    dataset, latent_dim, _ = _image_set(evidence)
    exact = recorded_spectrum(evidence, dataset).ml_sigma(latent_dim)
    return over_seeds(by_seed(evidence.frame, "sigma_fitted", sigma="learned") / exact, "ratio")


def _active_count(evidence: Evidence) -> Statistic:
    dataset, latent_dim, sigmas = _image_set(evidence)
    # Var E_q[z_j] = 1 - sigma^2 / lambda_j is above 0.01 from lambda_j = sigma^2 / 0.99 on.
    seen = sigmas[0] / math.sqrt(0.99)
    expected = recorded_spectrum(evidence, dataset).active_units(seen, latent_dim)
    counts = by_seed(evidence.frame, "active_units", sigma=sigmas[0])
    worst = float((counts - expected).abs().max())
    return Statistic(worst, math.nan, math.nan, len(counts), "units", "extreme")


def _survives_below(evidence: Evidence) -> Statistic:
    dataset, latent_dim, sigmas = _image_set(evidence)
    expected = float(np.sum(recorded_spectrum(evidence, dataset).rate(latent_dim, sigmas[1])))
    if expected == 0:
        raise Untested(f"sigma {sigmas[1]:g} is no longer below the threshold of {dataset}")
    return over_seeds(by_seed(evidence.frame, "kl_train", sigma=sigmas[1]) / expected, "share")


def _collapses_above(evidence: Evidence) -> Statistic:
    dataset, _, sigmas = _image_set(evidence)
    if recorded_spectrum(evidence, dataset).collapse_sigma >= sigmas[2]:
        raise Untested(f"sigma {sigmas[2]:g} is not above the threshold of {dataset}")
    return over_seeds(by_seed(evidence.frame, "kl_train", sigma=sigmas[2]), "nats/image")


def _method(statistic: Callable[[Evidence], Statistic]) -> Method:
    return Method(
        statistic,
        _linear_cells,
        data=lambda budget: ("digits",) if budget == "quick" else ("mnist",),
    )


METHODS: dict[str, Method] = {
    "ppca-no-gap": Method(compute=_no_gap),
    "rotation-gap": Method(compute=_rotated_gap),
    "rotation-costs": Method(compute=_rotation_costs),
    "sigma-fixed-point": Method(compute=_sigma_fixed_point),
    "envelope": Method(compute=_envelope),
    "bound-rises-with-k": Method(compute=_bound_rises),
    "linear-reaches-ppca": _method(_reaches_ppca),
    "linear-sigma": _method(_sigma_reached),
    "linear-active-units": _method(_active_count),
    "no-collapse-below": _method(_survives_below),
    "collapse-above": _method(_collapses_above),
}
"""How each finding of this module is measured."""
