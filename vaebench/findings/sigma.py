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
from vaebench.findings.finding import Finding, same
from vaebench.findings.settings import MLP, Budget, Setting, cells_of
from vaebench.findings.verdict import Margin, Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.grid.choices import LIKELIHOODS
from vaebench.truth.bounds import density_ceiling

__all__ = ["SIGMA", "sigma_cells"]

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
            raise Untested("not one latent is in use, so there is nothing to tell apart")
        return float(np.mean((variance < 0.1) | (variance > 0.8)))

    return over_seeds(each_seed(evidence.frame, share), "share of latents")


_RYBKIN = Setting(
    "MNIST in grey levels, a convolutional network",
    data={"dataset": ("mnist",)},
    network={"architecture": ("conv",)},
)
"""Rybkin et al. 2021; Dai & Wipf 2019. Their number of steps is not known here."""

SIGMA: tuple[Finding, ...] = (
    Finding(
        "sigma-lowers-rate",
        "sigma",
        "σ is the regularisation parameter: the larger it is, the fewer nats the code holds",
        "Doersch 2016, Sec. 2.4.3",
        ("T13", "T16"),
        "rank correlation of the KL with σ",
        same(Margin(high=-0.9)),
        setting=MLP,
        statistic=_rate,
        cells=sigma_cells,
    ),
    Finding(
        "sigma-raises-distortion",
        "sigma",
        "σ is the regularisation parameter: the larger it is, the worse the reconstruction",
        "Doersch 2016, Sec. 2.4.3",
        ("T13", "T16"),
        "rank correlation of the mean squared error with σ",
        same(Margin(low=0.7)),
        setting=MLP,
        statistic=_distortion,
        cells=sigma_cells,
    ),
    Finding(
        "learned-sigma-beats-fixed",
        "sigma",
        "One learned σ reaches at least the ELBO of the best fixed σ",
        "Rybkin et al. 2021, Tables 1-3",
        ("T16", "B14"),
        "ELBO of the learned σ minus the best of the grid",
        {"quick": Margin(low=-0.5), "full": Margin(low=-5.0)},
        setting=_RYBKIN,
        statistic=_beats_fixed,
        cells=sigma_cells,
    ),
    Finding(
        "best-sigma-is-learned",
        "sigma",
        "The fixed σ of highest ELBO lies within one step of the learned σ",
        "Rybkin et al. 2021, Eq. 5",
        ("T16", "B16"),
        "log of best over learned σ, in steps of a ×1.4 grid",
        same(Margin(-1.0, 1.0)),
        setting=MLP,
        statistic=_optimum,
        cells=sigma_cells,
    ),
    Finding(
        "learned-sigma-is-rms",
        "sigma",
        "The learned σ is the root mean square error of the reconstruction",
        "Rybkin et al. 2021, Eq. 5 (prints σ* for σ*²)",
        ("B16",),
        "learned σ over the root mean square error on test images",
        same(Margin(0.85, 1.15)),
        setting=MLP,
        statistic=_root_mean_square,
        cells=lambda budget: sigma_cells(budget, ["learned"]),
    ),
    Finding(
        "learned-sigma-falls",
        "sigma",
        "The learned decoder variance falls steadily in training",
        "Dai & Wipf 2019, Thm. 3 and Fig. 1",
        ("B17",),
        "share of epochs, after the first tenth, in which σ fell",
        same(Margin(low=0.8)),
        setting=_RYBKIN,
        statistic=_falls,
        cells=lambda budget: sigma_cells(budget, ["learned"]),
    ),
    Finding(
        "per-pixel-sigma-elbo",
        "sigma",
        "One σ a pixel gives a much better ELBO than one shared σ",
        "Rybkin et al. 2021, Table 3",
        ("B15",),
        "ELBO of the per-pixel σ minus that of the shared σ",
        {"quick": Margin(low=5.0), "full": Margin(low=100.0)},
        setting=_RYBKIN,
        statistic=_per_pixel,
        cells=lambda budget: sigma_cells(budget, ["learned", "per_pixel"]),
    ),
    Finding(
        "beta-acts-as-sigma",
        "sigma",
        "A trained β-VAE of σ₀ spends the rate of the VAE of σ² = β σ₀²",
        "algebra on Rybkin et al. 2021, Eq. 3-4; Doersch 2016, Sec. 2.4.3",
        ("T13", "A14"),
        f"relative difference of the KL, σ₀ {_TWICE:g} with β {_BETA:g} and σ {_TWICE / 2:g}",
        same(Margin(-0.05, 0.05)),
        setting=MLP,
        statistic=_same_rate,
        cells=lambda budget: (
            *cells_of(budget, likelihood="gaussian", sigma=_TWICE, beta=_BETA),
            *sigma_cells(budget, [_TWICE / 2]),
        ),
    ),
    Finding(
        "gaussian-ceiling",
        "sigma",
        "No ELBO passes −(D/2) log(2πσ²)",
        "algebra",
        ("T16", "A19"),
        "smallest distance of a cell's ELBO from its ceiling",
        same(Margin(low=0.0)),
        statistic=_below_ceiling,
        cells=sigma_cells,
        least_seeds=1,
        identity=True,
    ),
    Finding(
        "latents-used-or-not",
        "sigma",
        "With a learned σ the posterior variance of each latent goes to 0 or to 1",
        "Dai & Wipf 2019, Thm. 3 and Fig. 1",
        ("B17",),
        "share of 64 latents whose posterior mean has a variance below 0.1 or above 0.8",
        same(Margin(low=0.8)),
        setting=_RYBKIN,
        statistic=_split,
        cells=lambda budget: cells_of(
            budget, likelihood="gaussian", sigma="learned", latent_dim=64
        ),
    ),
)
"""The findings of this module."""
