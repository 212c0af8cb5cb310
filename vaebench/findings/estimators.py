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
from vaebench.findings.finding import Finding, Measured, mathematics, same
from vaebench.findings.settings import IWAE, Budget, cells_of
from vaebench.findings.verdict import Margin, Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats

__all__ = ["ESTIMATORS"]

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


_RAINFORTH = "Rainforth et al. 2018, Theorem 1 (asymptotic); the model is ours"
_FEWER = "k = 20 for 50; fewer importance samples and test images behind the bound"

ESTIMATORS: tuple[Finding, ...] = (
    Finding(
        "iwae-ordering",
        "iwae",
        "log P(X) rises from the VAE to the IWAE with few samples and on to the one with many",
        "Burda et al. 2016, Table 1",
        ("B02", "B03"),
        "smaller of the two gains in the importance-weighted bound",
        {"quick": Margin(low=0.01), "full": Margin(low=0.1)},
        setting=IWAE,
        statistic=_ordering,
        cells=lambda budget: _cells(budget, (("elbo", 1), ("iwae", 5), ("iwae", 20))),
        proxy=_FEWER,
    ),
    Finding(
        "vae-gains-little-from-k",
        "iwae",
        "Averaging the ELBO over many samples gains a VAE little",
        "Burda et al. 2016, Table 1",
        ("B04",),
        "gain in the importance-weighted bound, k = 20 over k = 1",
        {"quick": Margin(-0.02, 0.08), "full": Margin(-0.3, 1.0)},  # as the pixels: 64 / 784
        setting=IWAE,
        statistic=_vae_gain,
        cells=lambda budget: _cells(budget, (("elbo", 1), ("elbo", 20))),
        proxy=_FEWER,
    ),
    Finding(
        "iwae-more-active-units",
        "iwae",
        "An IWAE uses more latent dimensions than a VAE",
        "Burda et al. 2016, Table 1",
        ("B03",),
        "active units, IWAE with k = 20 minus VAE",
        same(Margin(low=0.5)),
        setting=IWAE,
        statistic=_more_units,
        cells=lambda budget: _cells(budget, (("elbo", 1), ("iwae", 20))),
        untested={
            "quick": "on 8×8 digits a VAE of 16 latents uses all of them already, so that there "
            "is nothing to add; the full budget tests it on MNIST"
        },
        proxy=_FEWER,
    ),
    Finding(
        "iwae-table-vae",
        "iwae",
        "A one-layer VAE reaches an NLL of 86.76 on dynamically binarised MNIST",
        "Burda et al. 2016, Table 1; reproductions 86.35 to 87.78",
        ("B01",),
        "NLL of the VAE with k = 1",
        {"full": Margin(85.6, 89.0)},
        setting=IWAE,
        statistic=_table,
        cells=lambda budget: _cells(budget, (("elbo", 1),)) if budget == "full" else (),
        least_seeds=1,
        untested={"quick": "the published value is of MNIST"},
        proxy="L_1000 on 1,000 test images for L_5000 on all; on digits L_200",
    ),
    Finding(
        "iwae-whole-schedule",
        "iwae",
        "On the paper's whole schedule of 3,280 epochs a one-layer VAE reaches an NLL of 86.76",
        "Burda et al. 2016, Table 1; reproductions 86.35 to 87.78",
        ("B01",),
        "NLL of the VAE with k = 1",
        {"full": Margin(85.66, 87.86)},
        setting=IWAE,
        statistic=_table,
        cells=_whole_schedule,
        least_seeds=1,
        untested={"quick": "the published value is of MNIST"},
    ),
    Finding(
        "iwae-whole-schedule-units",
        "iwae",
        "On the paper's whole schedule a one-layer VAE uses 19 of its 50 latent dimensions",
        "Burda et al. 2016, Table 1",
        ("B01",),
        "active units of the VAE with k = 1",
        {"full": Margin(17, 22)},
        setting=IWAE,
        statistic=_table_units,
        cells=_whole_schedule,
        least_seeds=1,
        untested={"quick": "the published value is of MNIST"},
    ),
    Finding(
        "bound-curve-rises",
        "iwae",
        "In every trained cell the importance-weighted bound rises with k",
        "Burda et al. 2016, Thm. 1; a check of the records, by Jensen's inequality",
        ("T10", "A17"),
        "smallest step of L_1, L_10, L_100, ... on the same codes",
        same(Margin(low=0.0, strict=True)),
        statistic=_curve_rises,
        cells=lambda budget: _cells(budget, (("elbo", 1),)),
        identity=True,
    ),
    mathematics(
        "encoder-signal-falls",
        "iwae",
        "With more importance samples the signal-to-noise ratio of the encoder's gradient falls as "
        "1/√k",
        _RAINFORTH,
        ("T8",),
        "slope of the log ratio over log k, k = 4, 16, 64, in a Gaussian model",
        Margin(-0.6, -0.4),
        partial(_slope, 0),
    ),
    mathematics(
        "decoder-signal-rises",
        "iwae",
        "With more importance samples the signal-to-noise ratio of the decoder's gradient rises as "
        "√k",
        _RAINFORTH,
        ("T8",),
        "slope of the log ratio over log k, k = 4, 16, 64, in a Gaussian model",
        Margin(0.4, 0.6),
        partial(_slope, 1),
    ),
    Finding(
        "posterior-gap-remains",
        "iwae",
        "In a trained VAE D[Q‖P(z|X)] does not vanish",
        "Doersch 2016, Sec. 2.3.1",
        ("T11", "T5"),
        "importance-weighted bound minus ELBO",
        same(Margin(low=0.1)),
        setting=IWAE,
        statistic=_gap,
        cells=lambda budget: _cells(budget, (("elbo", 1),)),
        proxy="L_1000 on 1,000 test images for L_5000 on all; on digits L_200",
    ),
)
"""The findings of this module."""
