"""Findings about the importance-weighted objective and bound (Burda et al. 2016)."""

import math
from functools import partial

import numpy as np
import pandas as pd
from pydantic import JsonValue
from scipy.special import softmax

from vaebench.findings.evidence import (
    Evidence,
    difference,
    each_seed,
    over_seeds,
    over_seeds_and_images,
    select,
)
from vaebench.findings.finding import Measured, Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats

__all__ = ["METHODS"]

_DESIGNS: tuple[tuple[str, int], ...] = (("elbo", 1), ("elbo", 20), ("iwae", 5), ("iwae", 20))


def _cells(budget: Budget, designs: tuple[tuple[str, int], ...] = _DESIGNS) -> tuple[Cell, ...]:
    quick = {"latent_dim": 16, "iw_samples": 200, "iw_images": 200, "seed": [0, 1, 2]}
    full = {
        "hidden": (200, 200),
        "activation": "tanh",
        "latent_dim": 50,
        "batch_size": 20,
        "epochs": 40,
        "learning_rate_schedule": "iwae",
        "iw_samples": 1000,
        "iw_images": 1000,
    }
    return tuple(
        cell
        for objective, k in designs
        for cell in cells_of(
            budget,
            binarization="dynamic",
            objective=objective,
            importance_samples=k,
            **(quick if budget == "quick" else full),
        )
    )


def _whole_schedule(budget: Budget) -> tuple[Cell, ...]:
    """The one-layer VAE of the paper's Table 1 over all eight stages: 9.84 million updates."""
    if budget == "quick":
        return ()
    longer = {"epochs": 3280, "iw_samples": 5000, "iw_images": 10_000, "seed": 0}
    return tuple(
        cell.model_copy(update=longer) for cell in _cells(budget, (("elbo", 1),)) if cell.seed == 0
    )


def _design(objective: str, k: int) -> dict[str, object]:
    return {"objective": objective, "importance_samples": k}


def _gain(
    evidence: Evidence, metric: str, more: tuple[str, int], less: tuple[str, int]
) -> pd.Series:
    return difference(evidence.frame, metric, _design(*more), _design(*less))


def _ordering(evidence: Evidence) -> Statistic:
    """The smaller of the two steps VAE, IWAE with 5, IWAE with 20, seed by seed."""
    steps = [
        _gain(evidence, "iw_bound", ("iwae", 5), ("elbo", 1)),
        _gain(evidence, "iw_bound", ("iwae", 20), ("iwae", 5)),
    ]
    return over_seeds(pd.concat(steps, axis=1).dropna().min(axis=1), "nats/image")


def _vae_gain(evidence: Evidence) -> Statistic:
    return over_seeds(_gain(evidence, "iw_bound", ("elbo", 20), ("elbo", 1)), "nats/image")


def _more_units(evidence: Evidence) -> Statistic:
    return over_seeds(_gain(evidence, "active_units", ("iwae", 20), ("elbo", 1)), "units")


def _table(evidence: Evidence) -> Statistic:
    rows = select(evidence.frame, **_design("elbo", 1)).set_index("seed")
    return over_seeds_and_images(-rows["iw_bound"], rows["iw_se"], "nats/image")


def _table_units(evidence: Evidence) -> Statistic:
    rows = select(evidence.frame, **_design("elbo", 1))
    return over_seeds(rows.set_index("seed")["active_units"], "units")


def _curve_rises(evidence: Evidence) -> Statistic:
    """Smallest step of the recorded k-curve, seed by seed."""

    def step(rows: pd.DataFrame) -> float:
        kept = evidence.arrays(str(rows["cell_id"].iloc[0]))
        if "iw_curve" not in kept or len(kept["iw_curve"]) < 2:
            raise Untested("the records hold no curve of the bound over k")
        return float(np.min(np.diff(np.asarray(kept["iw_curve"], dtype=float))))

    return over_seeds(each_seed(evidence.frame, step), "nats/image")


def _gap(evidence: Evidence) -> Statistic:
    rows = select(evidence.frame, **_design("elbo", 1)).set_index("seed")
    return over_seeds_and_images(rows["posterior_gap"], rows["posterior_gap_se"], "nats/image")


def _signal_to_noise(samples: int, draws: int = 20_000) -> tuple[float, float]:
    """Signal-to-noise ratios of the gradients of the bound with `samples` importance samples.

    The model is z ~ N(mu, I), x|z ~ N(z, I) with q = N(m, 2/3 I) in three dimensions, m near the
    posterior mean; the encoder's parameter is m, the decoder's mu. A ratio is the norm of the mean
    gradient over the root of the summed variances, over `draws` independent estimates.
    """
    rng = np.random.default_rng(11)
    x, mu = 1.5 * rng.normal(size=3), np.full(3, 0.3)
    m = (x + mu) / 2 + 0.3 * rng.choice([-1, 1], size=3)
    gradients: tuple[list[Floats], list[Floats]] = ([], [])
    for _ in range(draws // 2000):
        noise = rng.standard_normal((2000, samples, 3))
        z = m + math.sqrt(2 / 3) * noise
        weights = softmax(-0.5 * ((x - z) ** 2 + (z - mu) ** 2 - noise**2).sum(axis=2), axis=1)
        # The reparameterised gradients of log w = log p(x, z) - log q(z) by m and by mu.
        for kept, gradient in zip(gradients, (x + mu - 2 * z, z - mu), strict=True):
            kept.append((weights[..., None] * gradient).sum(axis=1))
    found = [np.concatenate(kept) for kept in gradients]
    encoder, decoder = (np.linalg.norm(g.mean(0)) / math.sqrt(g.var(0).sum()) for g in found)
    return float(encoder), float(decoder)


def _slope(of: int) -> Measured:
    """Slope of log signal-to-noise over log k, of the encoder (0) or the decoder (1)."""
    counts = (4, 16, 64)
    ratios = [_signal_to_noise(count)[of] for count in counts]
    slope = float(np.polyfit(np.log(counts), np.log(ratios), 1)[0])
    details: dict[str, JsonValue] = {
        f"ratio with k = {count}": ratio for count, ratio in zip(counts, ratios, strict=True)
    }
    return Statistic.exact(slope, "log per log k"), details


METHODS: dict[str, Method] = {
    "iwae-ordering": Method(
        _ordering, lambda budget: _cells(budget, (("elbo", 1), ("iwae", 5), ("iwae", 20)))
    ),
    "vae-gains-little-from-k": Method(
        _vae_gain, lambda budget: _cells(budget, (("elbo", 1), ("elbo", 20)))
    ),
    "iwae-more-active-units": Method(
        _more_units, lambda budget: _cells(budget, (("elbo", 1), ("iwae", 20)))
    ),
    "iwae-table-vae": Method(
        _table, lambda budget: _cells(budget, (("elbo", 1),)) if budget == "full" else ()
    ),
    "iwae-whole-schedule": Method(_table, _whole_schedule),
    "iwae-whole-schedule-units": Method(_table_units, _whole_schedule),
    "bound-curve-rises": Method(_curve_rises, lambda budget: _cells(budget, (("elbo", 1),))),
    "encoder-signal-falls": Method(compute=partial(_slope, 0)),
    "decoder-signal-rises": Method(compute=partial(_slope, 1)),
    "posterior-gap-remains": Method(_gap, lambda budget: _cells(budget, (("elbo", 1),))),
}
"""How each finding of this module is measured."""
