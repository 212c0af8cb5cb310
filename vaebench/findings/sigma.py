"""Findings about sigma, the scale of a Gaussian likelihood, on grey images."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaebench.findings.evidence import Evidence, extreme, over_seeds, rank_correlation
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, gaussian_cells
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.truth.bounds import density_ceiling

_GRID: dict[Budget, list[float]] = {
    "quick": [0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4],
    "full": [0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 1.0],
}
_STEP = math.log(1.42)


def _sweep(budget: Budget) -> tuple[Cell, ...]:
    return gaussian_cells(budget, sigma=[*_GRID[budget], "learned"])


def _beta_cells(budget: Budget) -> tuple[Cell, ...]:
    """Return two designs with the same optimum: sigma 0.2 with beta 0.25, sigma 0.1 with beta 1."""
    return gaussian_cells(budget, sigma=0.2, beta=0.25) + gaussian_cells(budget, sigma=0.1)


def _beats_fixed(evidence: Evidence) -> Statistic:
    """ELBO of the learned sigma minus ELBO of the best fixed sigma, chosen on selection images."""
    chosen_by, compared_by = evidence.selection()
    best = evidence.table("sigma", chosen_by).mean().idxmax()
    return over_seeds(evidence.difference(compared_by, {"sigma": "learned"}, {"sigma": best}))


def _optimum(evidence: Evidence) -> Statistic:
    """Distance from the learned sigma to the best fixed sigma, in steps of the grid."""
    best = evidence.table("sigma", "elbo").idxmax(axis=1).astype(float)
    ratio = (best / evidence.by_seed("sigma_fitted", sigma="learned")).dropna()
    return over_seeds(ratio.map(math.log) / _STEP, "steps of the grid")


def _root_mean_square(evidence: Evidence) -> Statistic:
    error = evidence.by_seed("mse") ** 0.5
    return over_seeds((evidence.by_seed("sigma_fitted") / error).dropna(), "ratio")


def _falls(evidence: Evidence) -> Statistic:
    """Share of epochs in which sigma decreased, without the first tenth of the epochs."""

    def share(row: Mapping[str, Any]) -> float:
        curve = evidence.series.get(row["cell_id"], {}).get("sigma", [])
        numbers = np.array([value for value in curve if value is not None], dtype=float)
        late = numbers[len(numbers) // 10 :]
        if len(late) < 3:
            raise Untested("the records do not contain sigma at each epoch")
        return float(np.mean(np.diff(late) < 0))

    return over_seeds(evidence.each_cell(share), "share of epochs")


def _same_rate(evidence: Evidence) -> Statistic:
    ratio = evidence.by_seed("kl", beta=0.25) / evidence.by_seed("kl", beta=1.0)
    return over_seeds((ratio - 1).dropna(), "relative difference")


def _below_ceiling(evidence: Evidence) -> Statistic:
    """Smallest difference over cells between the maximum of the density and the ELBO."""
    rows = evidence.where().frame.dropna(subset=["sigma_fitted"])
    log_peak = LIKELIHOODS["gaussian"].log_peak
    ceilings = [
        density_ceiling(log_peak, int(pixels), float(sigma))
        for pixels, sigma in zip(rows["data_pixels"], rows["sigma_fitted"], strict=True)
    ]
    return extreme(min, pd.Series(ceilings, rows.index, dtype=float) - rows["elbo"], "nats/image")


def _split(evidence: Evidence) -> Statistic:
    """Share of latents that are clearly unused (variance < 0.1) or clearly used (> 0.8)."""

    def share(_: object, variance: NDArray[Any]) -> float:
        if not (variance > 0.1).any():
            raise Untested("no latent is used: all posterior means have a variance of at most 0.1")
        return float(np.mean((variance < 0.1) | (variance > 0.8)))

    return over_seeds(evidence.each_cell(share, "posterior_mean_variance"), "share of latents")


METHODS: dict[str, Method] = {
    "sigma-lowers-rate": Method(lambda e: rank_correlation(e.table("sigma", "kl")), _sweep),
    "sigma-raises-distortion": Method(lambda e: rank_correlation(e.table("sigma", "mse")), _sweep),
    "learned-sigma-beats-fixed": Method(_beats_fixed, _sweep),
    "best-sigma-is-learned": Method(_optimum, _sweep),
    "learned-sigma-is-rms": Method(_root_mean_square, gaussian_cells),
    "learned-sigma-falls": Method(_falls, gaussian_cells),
    "per-pixel-sigma-elbo": Method(
        lambda e: over_seeds(e.difference("elbo", {"sigma": "per_pixel"}, {"sigma": "learned"})),
        lambda b: gaussian_cells(b, sigma=["learned", "per_pixel"]),
    ),
    "beta-acts-as-sigma": Method(_same_rate, _beta_cells),
    "gaussian-ceiling": Method(_below_ceiling, _sweep),
    "latents-used-or-not": Method(_split, lambda b: gaussian_cells(b, latent_dim=64)),
}
"""The method of each finding in this module; `e` is the evidence, `b` the budget."""
