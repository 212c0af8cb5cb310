"""Findings about unused latent dimensions: data manifolds, deep networks, moments, recipes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaebench.analysis.labels import value_text
from vaebench.findings.evidence import Evidence, extreme, over_seeds
from vaebench.findings.finding import Measured, Method
from vaebench.findings.settings import Budget, gaussian_cells
from vaebench.findings.verdict import Statistic
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.truth.ppca import LinearVAE, fit

_MANIFOLD = 8
"""Number of factors in the data set `linear-gaussian` (`vaebench.data.linear_gaussian`)."""


_SEEDS = [0, 1, 2]


def _manifold_cells(budget: Budget) -> tuple[Cell, ...]:
    network = {"hidden": (128,), "latent_dim": 2 * _MANIFOLD, "epochs": 30, "batch_size": 64}
    return gaussian_cells(budget, dataset="linear-gaussian", seed=_SEEDS, **network)


def _depth_cells(budget: Budget) -> tuple[Cell, ...]:
    quick = budget == "quick"
    width, depths = (128, (1, 2, 4, 8)) if quick else (512, (1, 2, 4, 6, 8, 10))
    return gaussian_cells(
        budget,
        seed=_SEEDS,
        dataset="digits" if quick else "fashion-mnist",
        hidden=[(width,) * depth for depth in depths],
        latent_dim=16 if quick else 32,
        posterior=["diagonal", "delta"],
    )


def _active_off_manifold(evidence: Evidence) -> Statistic:
    """Largest difference over seeds between the active units and the dimension of the manifold."""
    return extreme(max, (evidence.by_seed("active_units") - _MANIFOLD).abs(), "units")


def _by_depth(evidence: Evidence, posterior: str, metric: str) -> pd.DataFrame:
    """Return a metric with one row per seed and one column per depth, from shallow to deep."""
    depths = sorted({cell.hidden or () for cell in evidence.asked}, key=len)
    texts = [value_text(hidden) for hidden in depths]
    return evidence.where(posterior=posterior).table("hidden", metric, texts)


def _autoencoder_fails(evidence: Evidence) -> Statistic:
    """Ratio of the squared error of the deepest autoencoder to that of the best depth."""
    table = _by_depth(evidence, "delta", "mse")
    return over_seeds(table.iloc[:, -1] / table[table.mean().idxmin()], "ratio")


def _vae_is_worse(evidence: Evidence) -> Statistic:
    """Ratio of the squared error of the VAE to that of the autoencoder, minimum over depths."""
    vae, twin = (_by_depth(evidence, of, "mse") for of in ("diagonal", "delta"))
    return over_seeds((vae / twin).dropna().min(axis=1), "ratio")


def _deeper_collapses(evidence: Evidence) -> Statistic:
    table = _by_depth(evidence, "diagonal", "active_units")
    return over_seeds(table.iloc[:, 0] - table.iloc[:, -1], "units")


def _moment_off(evidence: Evidence) -> Statistic:
    """Largest absolute value over latents of E[mu² + sigma²] / λ² - 1."""

    def off(row: Mapping[str, Any], moment: NDArray[Any]) -> float:
        return float(np.max(np.abs(moment / float(row["prior_scale"]) ** 2 - 1)))

    return over_seeds(evidence.each_cell(off, "aggregate_second_moment"), "distance from 1")


def _moment_off_linear() -> Measured:
    """The statistic of `_moment_off` at the optimum of a linear VAE with unused latents."""
    rng = np.random.default_rng(12)
    images = rng.standard_normal((400, 10)) @ (rng.normal(size=(10, 10)) * np.linspace(2, 0.2, 10))
    spectrum = fit(images)
    sigma = math.sqrt(float(spectrum.eigenvalues[5:7].mean()))
    model = LinearVAE.optimum(spectrum, 8, sigma)
    moment = (model.encode(images) ** 2).mean(axis=0) + model.posterior_variance
    return float(np.max(np.abs(moment - 1))), "distance from 1", {}


_PLAIN = {"beta": 1.0, "beta_schedule": "constant", "free_bits": 0.0, "prior": "normal"}


def _recipe_cells(budget: Budget) -> tuple[Cell, ...]:
    return () if budget == "quick" else Grid.load("collapse").cells


def _gain(metric: str, *recipes: Mapping[str, object]) -> Method:
    """Return a method that measures the smallest gain of the recipes over plain training."""

    def statistic(evidence: Evidence) -> Statistic:
        deep = value_text(max((cell.hidden for cell in evidence.asked), key=len))
        plain = {**_PLAIN, "hidden": deep}
        gains = [evidence.difference(metric, {**plain, **each}, plain) for each in recipes]
        return over_seeds(pd.concat(gains, axis=1).dropna().min(axis=1))

    return Method(statistic, _recipe_cells)


_BETA, _FREE_BITS = {"beta": 0.5}, {"free_bits": 0.25}
_LINEAR, _CYCLICAL = {"beta_schedule": "linear:10"}, {"beta_schedule": "cyclical:4"}

METHODS: dict[str, Method] = {
    "recipe-beta": _gain("elbo", _BETA),
    "recipe-warm-up": _gain("elbo", _LINEAR),
    "recipe-cyclical": _gain("elbo", _CYCLICAL),
    "recipe-free-bits": _gain("elbo", _FREE_BITS),
    "recipe-mixture": _gain("elbo", {"prior": "mixture"}),
    "recipe-vamp": _gain("elbo", {"prior": "vamp"}),
    "recipe-shallow": _gain("elbo", {"hidden": "128"}),
    "recipes-raise-kl": _gain("kl", _BETA, _LINEAR, _CYCLICAL, _FREE_BITS),
    "active-units-are-the-manifold": Method(_active_off_manifold, _manifold_cells),
    "deep-autoencoder-fails": Method(_autoencoder_fails, _depth_cells),
    "deep-vae-is-worse": Method(_vae_is_worse, _depth_cells),
    "deep-decoders-collapse": Method(_deeper_collapses, _depth_cells),
    "moments-add-up": Method(_moment_off, lambda b: gaussian_cells(b, seed=_SEEDS, latent_dim=16)),
    "moments-add-up-linear": Method(compute=_moment_off_linear),
}
"""The method of each finding in this module; `b` is the budget."""
