"""Findings about latents that are not used: known manifolds, deep networks, moments of the code."""

import math
from collections.abc import Callable

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
from vaebench.findings.finding import Finding, Measured, mathematics, same
from vaebench.findings.settings import MLP, Budget, Setting, cells_of
from vaebench.findings.verdict import Margin, Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.ppca import LinearVAE, fit

__all__ = ["COLLAPSE"]

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
    """A metric of each depth, from shallow to deep, a row a seed."""
    depths = sorted({cell.hidden or () for cell in evidence.asked}, key=len)
    rows = select(evidence.frame, posterior=posterior)
    return values_of(rows, "hidden", metric, [value_text(hidden) for hidden in depths])


def _autoencoder_fails(evidence: Evidence) -> Statistic:
    """Squared error of the deepest autoencoder over that of the best depth of all seeds."""
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
    """The same in the optimum of a linear VAE, in which two of the latents are not used."""
    rng = np.random.default_rng(12)
    images = rng.standard_normal((400, 10)) @ (rng.normal(size=(10, 10)) * np.linspace(2, 0.2, 10))
    spectrum = fit(images)
    sigma = math.sqrt(float(spectrum.eigenvalues[5:7].mean()))
    model = LinearVAE.optimum(spectrum, 8, sigma)
    moment = (model.encode(images) ** 2).mean(axis=0) + model.posterior_variance
    return Statistic.exact(float(np.max(np.abs(moment - 1))), "distance from 1"), {}


_DAI = Setting(
    "Fashion-MNIST in grey levels, 1 to 10 hidden layers of 512 ReLU units, trained to convergence",
    data={"dataset": ("fashion-mnist",), "binarization": ("none",)},
    network={
        "architecture": ("mlp",),
        "hidden": tuple((512,) * depth for depth in range(1, 11)),
        "activation": ("relu",),
    },
    iterations=46_900,
)
"""Dai et al. 2020 print figures only; 46,900 steps (100 epochs of batch 128) are our choice."""

_DEPTH = "Dai, Wang & Wipf 2020 (figures only; the margin is ours)"


def _of_depth(
    name: str,
    claim: str,
    measure: str,
    margin: Margin,
    statistic: Callable[[Evidence], Statistic],
) -> Finding:
    return Finding(
        name,
        "collapse",
        claim,
        _DEPTH,
        ("B24",),
        measure,
        same(margin),
        _DAI,
        statistic,
        cells=_depth_cells,
    )


COLLAPSE: tuple[Finding, ...] = (
    Finding(
        "active-units-are-the-manifold",
        "collapse",
        "The number of active latents is the dimension of the manifold of the data",
        "reading of Dai & Wipf 2019, Thm. 3; the data set and the margin are ours",
        ("B17",),
        f"largest distance over seeds of the active units from {_MANIFOLD}, of 16 latents",
        same(Margin(high=1.0)),
        Setting(
            "data of a known manifold, an MLP with a learned σ, trained to convergence",
            network={"likelihood": ("gaussian",), "sigma": ("learned",)},
            published=False,
        ),
        _active_off_manifold,
        cells=_manifold_cells,
    ),
    _of_depth(
        "deep-autoencoder-fails",
        "With many layers even the autoencoder without a KL term reconstructs badly",
        "mean squared error of the deepest autoencoder over that of the best depth",
        Margin(low=1.1),
        _autoencoder_fails,
    ),
    _of_depth(
        "deep-vae-is-worse",
        "At every depth the VAE reconstructs worse than its autoencoder twin",
        "smallest ratio over depths of the squared errors, VAE over autoencoder",
        Margin(low=1.05),
        _vae_is_worse,
    ),
    _of_depth(
        "deep-decoders-collapse",
        "Deeper networks use fewer latents",
        "active units with one hidden layer minus those of the deepest network",
        Margin(low=1.0),
        _deeper_collapses,
    ),
    Finding(
        "moments-add-up",
        "collapse",
        "In every latent, used or not, the means of σ² and of μ² add up to 1",
        "Asperti's variance law; the margin is ours",
        ("T7",),
        "largest distance over latents of E[μ² + σ²]/λ² from 1",
        same(Margin(high=0.1)),
        MLP,
        _moment_off,
        cells=lambda budget: cells_of(
            budget, likelihood="gaussian", sigma="learned", latent_dim=16, seed=[0, 1, 2]
        ),
    ),
    mathematics(
        "moments-add-up-linear",
        "collapse",
        "In the optimum of a linear VAE the means of σ² and of μ² add up to 1 in every latent",
        "Asperti's variance law; exact for the linear VAE, derived here",
        ("T7",),
        "largest distance over latents of E[μ² + σ²] from 1, two of eight latents unused",
        Margin(high=1e-8),
        _moment_off_linear,
    ),
)
"""The findings of this module."""
