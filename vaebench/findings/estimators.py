"""Findings about the importance-weighted objective and bound (Burda et al. 2016)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from vaebench.findings.evidence import Evidence, over_seeds, over_seeds_and_images
from vaebench.findings.finding import Measured, Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats

Design = tuple[str, int]
"""An objective with its number of importance samples."""
_VAE, _VAE_20, _IWAE_5, _IWAE_20 = ("elbo", 1), ("elbo", 20), ("iwae", 5), ("iwae", 20)


def _axes(design: Design) -> dict[str, Any]:
    return dict(zip(("objective", "importance_samples"), design, strict=True))


def _cells(budget: Budget, *designs: Design) -> tuple[Cell, ...]:
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
    shared = {"binarization": "dynamic", **(quick if budget == "quick" else full)}
    return tuple(cell for design in designs for cell in cells_of(budget, **_axes(design), **shared))


def _whole_schedule(budget: Budget) -> tuple[Cell, ...]:
    """Return the one-layer VAE of Table 1, trained for all eight stages: 9.84 million updates."""
    longer = {"epochs": 3280, "iw_samples": 5000, "iw_images": 10_000, "seed": 0}
    first = _cells(budget, _VAE)[:1] if budget == "full" else ()
    return tuple(cell.model_copy(update=longer) for cell in first)


def _gain(evidence: Evidence, metric: str, more: Design, less: Design) -> "pd.Series[float]":
    return evidence.difference(metric, _axes(more), _axes(less))


def _ordering(evidence: Evidence) -> Statistic:
    """Smaller of the two gains: from VAE to IWAE with k = 5, and from there to k = 20."""
    pairs = ((_IWAE_5, _VAE), (_IWAE_20, _IWAE_5))
    steps = [_gain(evidence, "iw_bound", more, less) for more, less in pairs]
    return over_seeds(pd.concat(steps, axis=1).dropna().min(axis=1))


def _with_error(metric: str, error: str, sign: int = 1) -> Callable[[Evidence], Statistic]:
    """Return a statistic whose interval includes the sampling error of the test images."""

    def statistic(evidence: Evidence) -> Statistic:
        rows = evidence.where().frame.set_index("seed")
        return over_seeds_and_images(sign * rows[metric], rows[error])

    return statistic


_nll = _with_error("iw_bound", "iw_se", -1)


def _curve_rises(evidence: Evidence) -> Statistic:
    """Smallest difference between successive points of the bound as a function of k."""

    def step(_: object, curve: NDArray[Any]) -> float:
        if len(curve) < 2:
            raise Untested("the records do not contain the bound at two or more values of k")
        return float(np.min(np.diff(curve.astype(float))))

    return over_seeds(evidence.each_cell(step, "iw_curve"))


def _signal_to_noise(samples: int, draws: int = 20_000) -> tuple[float, float]:
    """Return the signal-to-noise ratios of the gradients of the importance-weighted bound.

    The model is z ~ N(mu, I), x|z ~ N(z, I) in three dimensions with q = N(m, 2/3 I), where m is
    near the posterior mean. The first ratio is for m, the parameter of the encoder; the second is
    for mu, the parameter of the decoder. A ratio is the norm of the mean gradient divided by the
    square root of the summed variances.

    Args:
        samples: importance samples of the bound.
        draws: number of independent gradient estimates.
    """
    rng = np.random.default_rng(11)
    x, mu = 1.5 * rng.normal(size=3), np.full(3, 0.3)
    m = (x + mu) / 2 + 0.3 * rng.choice([-1, 1], size=3)
    gradients: tuple[list[Floats], list[Floats]] = ([], [])
    for _ in range(draws // 2000):
        noise = rng.standard_normal((2000, samples, 3))
        z = m + math.sqrt(2 / 3) * noise
        weights = softmax(-0.5 * ((x - z) ** 2 + (z - mu) ** 2 - noise**2).sum(axis=2), axis=1)
        # Reparameterised gradients of log w = log p(x, z) - log q(z) with respect to m and mu.
        for kept, gradient in zip(gradients, (x + mu - 2 * z, z - mu), strict=True):
            kept.append((weights[..., None] * gradient).sum(axis=1))
    found = [np.concatenate(kept) for kept in gradients]
    encoder, decoder = (np.linalg.norm(g.mean(0)) / math.sqrt(g.var(0).sum()) for g in found)
    return float(encoder), float(decoder)


def _slope(of: int) -> Measured:
    """Slope of log(signal-to-noise ratio) over log k for the encoder (0) or the decoder (1)."""
    counts = (4, 16, 64)
    ratios = [_signal_to_noise(count)[of] for count in counts]
    slope = float(np.polyfit(np.log(counts), np.log(ratios), 1)[0])
    details = {f"ratio with k = {k}": ratio for k, ratio in zip(counts, ratios, strict=True)}
    return slope, "log per log k", details


METHODS: dict[str, Method] = {
    "iwae-ordering": Method(_ordering, lambda b: _cells(b, _VAE, _IWAE_5, _IWAE_20)),
    "vae-gains-little-from-k": Method(
        lambda e: over_seeds(_gain(e, "iw_bound", _VAE_20, _VAE)),
        lambda b: _cells(b, _VAE, _VAE_20),
    ),
    "iwae-more-active-units": Method(
        lambda e: over_seeds(_gain(e, "active_units", _IWAE_20, _VAE), "units"),
        lambda b: _cells(b, _VAE, _IWAE_20),
    ),
    "iwae-table-vae": Method(_nll, lambda b: _cells(b, _VAE) if b == "full" else ()),
    "iwae-whole-schedule": Method(_nll, _whole_schedule),
    "iwae-whole-schedule-units": Method(
        lambda e: over_seeds(e.by_seed("active_units"), "units"), _whole_schedule
    ),
    "bound-curve-rises": Method(_curve_rises, lambda b: _cells(b, _VAE)),
    "encoder-signal-falls": Method(compute=lambda: _slope(0)),
    "decoder-signal-rises": Method(compute=lambda: _slope(1)),
    "posterior-gap-remains": Method(
        _with_error("posterior_gap", "posterior_gap_se"), lambda b: _cells(b, _VAE)
    ),
}
"""The method of each finding in this module; `e` is the evidence, `b` the budget."""
