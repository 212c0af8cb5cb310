"""Findings about unused latents: known manifolds, deep networks, moments of the codes."""

import math

import numpy as np
import pandas as pd

from vaebench.analysis.labels import value_text
from vaebench.findings.evidence import (
    Evidence,
    by_seed,
    each_seed,
    over_seeds,
    select,
    values_of,
)
from vaebench.findings.finding import Measured, Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.ppca import LinearVAE, fit

__all__ = ["METHODS"]

_MANIFOLD = 8
"""Factors of the data set `linear-gaussian` (`vaebench.data.linear_gaussian`)."""

_DEPTHS: dict[Budget, tuple[int, ...]] = {"quick": (1, 2, 4, 8), "full": (1, 2, 4, 6, 8, 10)}
_MOMENT = "aggregate_second_moment"


def _manifold_cells(budget: Budget) -> tuple[Cell, ...]:
    return cells_of(
        budget,
        dataset="linear-gaussian",
        likelihood="gaussian",
        sigma="learned",
        hidden=(128,),
        latent_dim=2 * _MANIFOLD,
        epochs=30,
        batch_size=64,
        seed=[0, 1, 2],
    )


def _active_off_manifold(evidence: Evidence) -> Statistic:
    """Largest distance of the active units from the dimension of the manifold, over seeds."""
    off = (by_seed(evidence.frame, "active_units") - _MANIFOLD).abs()
    return Statistic(float(off.max()), math.nan, math.nan, len(off), "units", "extreme")


def _depth_cells(budget: Budget) -> tuple[Cell, ...]:
    width, latent_dim = (128, 16) if budget == "quick" else (512, 32)
    return cells_of(
        budget,
        dataset="digits" if budget == "quick" else "fashion-mnist",
        likelihood="gaussian",
        sigma="learned",
        hidden=[(width,) * depth for depth in _DEPTHS[budget]],
        latent_dim=latent_dim,
        posterior=["diagonal", "delta"],
        seed=[0, 1, 2],
    )


def _by_depth(evidence: Evidence, posterior: str, metric: str) -> pd.DataFrame:
    """A metric by depth, from shallow to deep; one row for each seed."""
    depths = sorted({cell.hidden or () for cell in evidence.asked}, key=len)
    rows = select(evidence.frame, posterior=posterior)
    return values_of(rows, "hidden", metric, [value_text(hidden) for hidden in depths])


def _autoencoder_fails(evidence: Evidence) -> Statistic:
    """Squared error of the deepest autoencoder over that of the depth that is best on average."""
    table = _by_depth(evidence, "delta", "mse")
    best = table.mean().idxmin()
    return over_seeds(table.iloc[:, -1] / table[best], "ratio")


def _vae_is_worse(evidence: Evidence) -> Statistic:
    """Smallest ratio over depths of the VAE's squared error to the autoencoder's, by seed."""
    vae, twin = (_by_depth(evidence, of, "mse") for of in ("diagonal", "delta"))
    return over_seeds((vae / twin).dropna().min(axis=1), "ratio")


def _deeper_collapses(evidence: Evidence) -> Statistic:
    table = _by_depth(evidence, "diagonal", "active_units")
    return over_seeds(table.iloc[:, 0] - table.iloc[:, -1], "units")


def _moment_off(evidence: Evidence) -> Statistic:
    """Largest distance over latents of E[mu² + sigma²] / λ² from 1, by seed."""

    def off(rows: pd.DataFrame) -> float:
        kept = evidence.arrays(str(rows["cell_id"].iloc[0]))
        if _MOMENT not in kept:
            raise Untested("the records do not keep the second moments of the codes")
        moment = np.asarray(kept[_MOMENT], dtype=float)
        return float(np.max(np.abs(moment / float(rows["prior_scale"].iloc[0]) ** 2 - 1)))

    return over_seeds(each_seed(evidence.frame, off), "distance from 1")


def _moment_off_linear() -> Measured:
    """The same distance in the optimum of a linear VAE with unused latents."""
    rng = np.random.default_rng(12)
    images = rng.standard_normal((400, 10)) @ (rng.normal(size=(10, 10)) * np.linspace(2, 0.2, 10))
    spectrum = fit(images)
    sigma = math.sqrt(float(spectrum.eigenvalues[5:7].mean()))
    model = LinearVAE.optimum(spectrum, 8, sigma)
    moment = (model.encode(images) ** 2).mean(axis=0) + model.posterior_variance
    return Statistic.exact(float(np.max(np.abs(moment - 1))), "distance from 1"), {}


METHODS: dict[str, Method] = {
    "active-units-are-the-manifold": Method(_active_off_manifold, _manifold_cells),
    "deep-autoencoder-fails": Method(_autoencoder_fails, _depth_cells),
    "deep-vae-is-worse": Method(_vae_is_worse, _depth_cells),
    "deep-decoders-collapse": Method(_deeper_collapses, _depth_cells),
    "moments-add-up": Method(
        _moment_off,
        lambda budget: cells_of(
            budget, likelihood="gaussian", sigma="learned", latent_dim=16, seed=[0, 1, 2]
        ),
    ),
    "moments-add-up-linear": Method(compute=_moment_off_linear),
}
"""How each finding of this module is measured."""
