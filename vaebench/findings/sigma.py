"""Findings about sigma, the scale of a Gaussian likelihood on grey images."""

import math
from typing import Any

import numpy as np
import pandas as pd

from vaebench.findings.evidence import (
    Evidence,
    asked,
    by_seed,
    difference,
    each_seed,
    lowest,
    over_seeds,
    rank_correlation,
    select,
    selection_columns,
    values_of,
)
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.truth.bounds import density_ceiling

__all__ = ["METHODS", "sigma_cells"]

_GRID: dict[Budget, list[float]] = {
    "quick": [0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4],
    "full": [0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 1.0],
}
_STEP = math.log(1.42)
_BETA = 0.25
_TWICE = 0.2


def sigma_cells(budget: Budget, sigma: list[Any] | None = None) -> tuple[Cell, ...]:
    """The sigma sweep, or some values of it; `learned` is the last."""
    values = [*_GRID[budget], "learned"] if sigma is None else sigma
    return cells_of(budget, likelihood="gaussian", sigma=values)


def _rank_correlation(evidence: Evidence, metric: str) -> Statistic:
    """Spearman's correlation of a metric with sigma, seed by seed."""
    fixed = evidence.frame[[isinstance(s, float) for s in evidence.frame["sigma"]]]
    return rank_correlation(values_of(fixed, "sigma", metric, asked(evidence, "sigma")))


def _rate(evidence: Evidence) -> Statistic:
    return _rank_correlation(evidence, "kl")


def _distortion(evidence: Evidence) -> Statistic:
    return _rank_correlation(evidence, "mse")


def _beats_fixed(evidence: Evidence) -> Statistic:
    """ELBO of the learned sigma minus that of the best fixed one, chosen on selection images."""
    chosen_by, compared_by = selection_columns(select(evidence.frame))
    best = values_of(evidence.frame, "sigma", chosen_by, asked(evidence, "sigma")).mean().idxmax()
    gain = difference(evidence.frame, compared_by, {"sigma": "learned"}, {"sigma": best})
    return over_seeds(gain, "nats/image")


def _optimum(evidence: Evidence) -> Statistic:
    grid = asked(evidence, "sigma")
    table = values_of(evidence.frame, "sigma", "elbo", grid)
    best = table.idxmax(axis=1).astype(float)
    ratio = (best / by_seed(evidence.frame, "sigma_fitted", sigma="learned")).dropna()
    return over_seeds(ratio.map(math.log) / _STEP, "steps of the grid")


def _root_mean_square(evidence: Evidence) -> Statistic:
    fitted = by_seed(evidence.frame, "sigma_fitted", sigma="learned")
    error = by_seed(evidence.frame, "mse", sigma="learned") ** 0.5
    return over_seeds((fitted / error).dropna(), "ratio")


def _falls(evidence: Evidence) -> Statistic:
    """Share of the epochs after the first tenth in which sigma fell, seed by seed."""

    def share(rows: pd.DataFrame) -> float:
        curve = evidence.series.get(str(rows["cell_id"].iloc[0]), {}).get("sigma", [])
        numbers = np.array([value for value in curve if value is not None], dtype=float)
        late = numbers[len(numbers) // 10 :]
        if len(late) < 3:
            raise Untested("the records hold no curve of sigma over the epochs")
        return float(np.mean(np.diff(late) < 0))

    return over_seeds(each_seed(select(evidence.frame, sigma="learned"), share), "share of epochs")


def _per_pixel(evidence: Evidence) -> Statistic:
    gain = difference(evidence.frame, "elbo", {"sigma": "per_pixel"}, {"sigma": "learned"})
    return over_seeds(gain, "nats/image")


def _same_rate(evidence: Evidence) -> Statistic:
    beta = by_seed(evidence.frame, "kl", beta=_BETA)
    sigma = by_seed(evidence.frame, "kl", beta=1.0)
    return over_seeds((beta / sigma - 1).dropna(), "relative difference")


def _below_ceiling(evidence: Evidence) -> Statistic:
    """Smallest distance of any cell's bound from its ceiling."""
    rows = select(evidence.frame)
    rows = rows[rows["sigma_fitted"].notna()]
    log_peak = LIKELIHOODS["gaussian"].log_peak
    ceilings = [
        density_ceiling(log_peak, int(pixels), float(sigma))
        for pixels, sigma in zip(rows["data_pixels"], rows["sigma_fitted"], strict=True)
    ]
    return lowest(pd.Series(ceilings, index=rows.index) - rows["elbo"], "elbo", "nats/image")


def _split(evidence: Evidence) -> Statistic:
    """Share of latents whose code is either in use or not, seed by seed."""

    def share(rows: pd.DataFrame) -> float:
        kept = evidence.arrays(str(rows["cell_id"].iloc[0]))
        if "posterior_mean_variance" not in kept:
            raise Untested("the records hold no variances of the codes")
        variance = np.asarray(kept["posterior_mean_variance"], dtype=float)
        if not (variance > 0.1).any():
            raise Untested("no latent is in use")
        return float(np.mean((variance < 0.1) | (variance > 0.8)))

    return over_seeds(each_seed(evidence.frame, share), "share of latents")


METHODS: dict[str, Method] = {
    "sigma-lowers-rate": Method(_rate, sigma_cells),
    "sigma-raises-distortion": Method(_distortion, sigma_cells),
    "learned-sigma-beats-fixed": Method(_beats_fixed, sigma_cells),
    "best-sigma-is-learned": Method(_optimum, sigma_cells),
    "learned-sigma-is-rms": Method(
        _root_mean_square, lambda budget: sigma_cells(budget, ["learned"])
    ),
    "learned-sigma-falls": Method(_falls, lambda budget: sigma_cells(budget, ["learned"])),
    "per-pixel-sigma-elbo": Method(
        _per_pixel, lambda budget: sigma_cells(budget, ["learned", "per_pixel"])
    ),
    "beta-acts-as-sigma": Method(
        _same_rate,
        lambda budget: (
            *cells_of(budget, likelihood="gaussian", sigma=_TWICE, beta=_BETA),
            *sigma_cells(budget, [_TWICE / 2]),
        ),
    ),
    "gaussian-ceiling": Method(_below_ceiling, sigma_cells),
    "latents-used-or-not": Method(
        _split,
        lambda budget: cells_of(budget, likelihood="gaussian", sigma="learned", latent_dim=64),
    ),
}
"""How each finding of this module is measured."""
