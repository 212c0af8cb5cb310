"""Findings about likelihood families, binarisation and what is called an ELBO."""

import math

from vaebench.findings.evidence import (
    Evidence,
    by_seed,
    data_fact,
    difference,
    highest,
    lowest,
    over_seeds,
    select,
    share_of,
    values_of,
)
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell

__all__ = ["METHODS"]

_CLIPS = [1e-2, 1e-4, 1e-6]


def _clip_cells(budget: Budget) -> tuple[Cell, ...]:
    return cells_of(
        budget,
        likelihood="continuous_bernoulli",
        dequantize=[False, True],
        pixel_clip=_CLIPS,
        epochs=20,
        seed=[0, 1, 2],
    )


def _clip_gain(evidence: Evidence, dequantize: bool) -> Statistic:
    """Smallest gain of ELBO by a smaller clip, seed by seed."""
    rows = select(evidence.frame, dequantize=dequantize)
    table = values_of(rows, "pixel_clip", "elbo", _CLIPS)
    return over_seeds(table.diff(axis=1).iloc[:, 1:].min(axis=1), "nats/image")


def _clip_matters(evidence: Evidence) -> Statistic:
    return _clip_gain(evidence, dequantize=False)


def _clip_matters_less(evidence: Evidence) -> Statistic:
    """Size of the gain from the largest to the smallest clip: dequantised over not."""
    gains = []
    for dequantize in (True, False):
        rows = select(evidence.frame, dequantize=dequantize)
        table = values_of(rows, "pixel_clip", "elbo", [_CLIPS[0], _CLIPS[-1]])
        gains.append(table[_CLIPS[-1]] - table[_CLIPS[0]])
    return share_of(gains[0].abs(), gains[1], "the gain by a smaller clip on exact zeros")


def _binarized_cells(budget: Budget) -> tuple[Cell, ...]:
    # As many epochs as it takes for a fixed set of images to be learnt by heart.
    return cells_of(
        budget,
        binarization=["static", "dynamic"],
        latent_dim=16 if budget == "quick" else 50,
        epochs=60,
    )


def _fixed_costs(evidence: Evidence) -> Statistic:
    cost = difference(
        evidence.frame, "elbo", {"binarization": "dynamic"}, {"binarization": "static"}
    )
    return over_seeds(cost, "nats/image")


def _fixed_overfits(evidence: Evidence) -> Statistic:
    gaps = []
    for binarization in ("static", "dynamic"):
        train = by_seed(evidence.frame, "elbo_train", binarization=binarization)
        gaps.append(train - by_seed(evidence.frame, "elbo", binarization=binarization))
    return over_seeds((gaps[0] - gaps[1]).dropna(), "nats/image")


def _grey_cells(budget: Budget) -> tuple[Cell, ...]:
    return cells_of(
        budget, likelihood="bernoulli", latent_dim=20, epochs=10 if budget == "full" else 30
    )


def _flatters(evidence: Evidence) -> Statistic:
    sampled = by_seed(evidence.frame, "reconstruction_error")
    return over_seeds(
        (sampled - by_seed(evidence.frame, "reconstruction_error_at_mean")).dropna(), "nats/image"
    )


def _above_floor(evidence: Evidence) -> Statistic:
    """Smallest distance of a reconstruction error above the mean entropy of the test pixels."""
    rows = select(evidence.frame)
    floor = _number(evidence, str(rows["dataset"].iloc[0]), "bce_floor_test")
    return lowest(rows["reconstruction_error"] - floor, "reconstruction_error", "nats/image")


def _below_blind(evidence: Evidence) -> Statistic:
    """Smallest distance below the decoder that ignores z."""
    rows = select(evidence.frame)
    blind = _number(evidence, str(rows["dataset"].iloc[0]), "bce_blind_test")
    return lowest(blind - rows["reconstruction_error"], "reconstruction_error", "nats/image")


def _number(evidence: Evidence, dataset: str, name: str) -> float:
    value = data_fact(evidence, dataset).get(name)
    if not isinstance(value, float):
        raise Untested(f"{name} is not recorded of the images of {dataset}")
    return value


def _bits_add_up(evidence: Evidence) -> Statistic:
    """Largest distance of rate and distortion in bits from bits per dimension."""
    rows = select(evidence.frame)
    parts = (rows["reconstruction_error"] + rows["kl"]) / (rows["data_pixels"] * math.log(2))
    distance = (parts / rows["bits_per_dim"] - 1).abs()
    return highest(distance, "bits_per_dim", "relative difference")


def _below_log_count(evidence: Evidence) -> Statistic:
    """Smallest distance of the mutual information below log N."""
    rows = select(evidence.frame)
    slack = rows["mutual_information_ceiling"] - rows["mutual_information"]
    return lowest(slack, "mutual_information", "nats")


def _images(budget: Budget) -> tuple[str, ...]:
    return ("digits",) if budget == "quick" else ("mnist",)


METHODS: dict[str, Method] = {
    "clip-is-measured": Method(_clip_matters, _clip_cells),
    "clip-matters-less-dequantised": Method(_clip_matters_less, _clip_cells),
    "fixed-binarisation-costs": Method(_fixed_costs, _binarized_cells),
    "fixed-binarisation-overfits": Method(_fixed_overfits, _binarized_cells),
    "posterior-mean-flatters": Method(_flatters, _grey_cells),
    "grey-entropy-floor": Method(_above_floor, _grey_cells, data=_images),
    "better-than-blind": Method(_below_blind, _grey_cells, data=_images),
    "record-bits-add-up": Method(_bits_add_up, _binarized_cells),
    "information-below-log-n": Method(_below_log_count, _binarized_cells),
}
"""How each finding of this module is measured."""
