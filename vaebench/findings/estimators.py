"""Findings about the importance-weighted objective and bound (Burda et al. 2016)."""

import numpy as np
import pandas as pd

from vaebench.findings.evidence import Evidence, difference, each_seed, over_seeds, select
from vaebench.findings.finding import Budget, Finding
from vaebench.findings.settings import cells_of
from vaebench.findings.theory import same
from vaebench.findings.verdict import Margin, Statistic, Untested
from vaebench.grid.cell import Cell

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
    rows = select(evidence.frame, **_design("elbo", 1))
    return over_seeds(-rows.set_index("seed")["iw_bound"], "nats/image")


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
    rows = select(evidence.frame, **_design("elbo", 1))
    return over_seeds(rows.set_index("seed")["posterior_gap"], "nats/image")


_TRUNCATED: dict[Budget, str] = {
    "quick": "8×8 digits, k up to 20 of 50, 30 epochs of 3,280, L_200 for L_5000",
    "full": "k up to 20 of 50, 40 epochs of 3,280 with all eight stages in them, L_1000 "
    "for L_5000 on 1,000 test images",
}

ESTIMATORS: tuple[Finding, ...] = (
    Finding(
        "iwae-ordering",
        "iwae",
        "log P(X) rises from the VAE to the IWAE with few samples and on to the one with many",
        "Burda et al. 2016, Table 1",
        ("B02", "B03"),
        "smaller of the two gains in the importance-weighted bound",
        same(Margin(low=0.0, strict=True)),
        statistic=_ordering,
        cells=lambda budget: _cells(budget, (("elbo", 1), ("iwae", 5), ("iwae", 20))),
        truncation=_TRUNCATED,
    ),
    Finding(
        "vae-gains-little-from-k",
        "iwae",
        "Averaging the ELBO over many samples gains a VAE little",
        "Burda et al. 2016, Table 1",
        ("B04",),
        "gain in the importance-weighted bound, k = 20 over k = 1",
        {"quick": Margin(-0.02, 0.08), "full": Margin(-0.3, 1.0)},  # as the pixels: 64 / 784
        statistic=_vae_gain,
        cells=lambda budget: _cells(budget, (("elbo", 1), ("elbo", 20))),
        truncation=_TRUNCATED,
    ),
    Finding(
        "iwae-more-active-units",
        "iwae",
        "An IWAE uses more latent dimensions than a VAE",
        "Burda et al. 2016, Table 1",
        ("B03",),
        "active units, IWAE with k = 20 minus VAE",
        same(Margin(low=0.5)),
        statistic=_more_units,
        cells=lambda budget: _cells(budget, (("elbo", 1), ("iwae", 20))),
        untested={
            "quick": "on 8×8 digits a VAE of 16 latents uses all of them already, so that there "
            "is nothing to add; the full budget tests it on MNIST"
        },
        truncation=_TRUNCATED,
    ),
    Finding(
        "iwae-table-vae",
        "iwae",
        "A one-layer VAE reaches an NLL of 86.76 on dynamically binarised MNIST",
        "Burda et al. 2016, Table 1; reproductions 86.35 to 87.78",
        ("B01",),
        "NLL of the VAE with k = 1",
        {"full": Margin(85.6, 89.0)},
        statistic=_table,
        cells=lambda budget: _cells(budget, (("elbo", 1),)) if budget == "full" else (),
        least_seeds=1,
        untested={"quick": "the published value is of MNIST"},
        truncation=_TRUNCATED,
    ),
    Finding(
        "iwae-whole-schedule",
        "iwae",
        "On the paper's whole schedule of 3,280 epochs a one-layer VAE reaches an NLL of 86.76",
        "Burda et al. 2016, Table 1; reproductions 86.35 to 87.78",
        ("B01",),
        "NLL of the VAE with k = 1",
        {"full": Margin(85.66, 87.86)},
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
        truncation=_TRUNCATED,
    ),
    Finding(
        "posterior-gap-remains",
        "iwae",
        "In a trained VAE D[Q‖P(z|X)] does not vanish",
        "Doersch 2016, Sec. 2.3.1",
        ("T11", "T5"),
        "importance-weighted bound minus ELBO",
        same(Margin(low=0.1)),
        statistic=_gap,
        cells=lambda budget: _cells(budget, (("elbo", 1),)),
        truncation=_TRUNCATED,
    ),
)
"""The findings of this module."""
