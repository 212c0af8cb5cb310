"""Findings about likelihood families, binarisation, and bounds on the reconstruction error.

The clip is the axis `pixel_clip`: it limits the mean parameter of a Bernoulli to [clip, 1 - clip].
"""

import math

from vaebench.findings.evidence import Evidence, extreme, over_seeds, share_of
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic
from vaebench.grid.cell import Cell


def _clip_cells(budget: Budget) -> tuple[Cell, ...]:
    return cells_of(
        budget,
        likelihood="continuous_bernoulli",
        dequantize=[False, True],
        pixel_clip=[1e-2, 1e-4, 1e-6],
        epochs=20,
        seed=[0, 1, 2],
    )


def _binarized_cells(budget: Budget) -> tuple[Cell, ...]:
    # With 60 epochs a model can memorise a fixed set of binarised images.
    return cells_of(
        budget,
        binarization=["static", "dynamic"],
        latent_dim=16 if budget == "quick" else 50,
        epochs=60,
    )


def _grey_cells(budget: Budget) -> tuple[Cell, ...]:
    epochs = 10 if budget == "full" else 30
    return cells_of(budget, likelihood="bernoulli", latent_dim=20, epochs=epochs)


def _clip_matters(evidence: Evidence) -> Statistic:
    """Smallest gain in ELBO between successive values of the clip, from large to small."""
    falling = evidence.values("pixel_clip")[::-1]
    table = evidence.where(dequantize=False).table("pixel_clip", "elbo", falling)
    return over_seeds(table.diff(axis=1).iloc[:, 1:].min(axis=1))


def _clip_matters_less(evidence: Evidence) -> Statistic:
    """Ratio of two gains in ELBO from the largest to the smallest clip: dequantised, and not."""
    smallest, *_, largest = evidence.values("pixel_clip")
    dequantised, exact = (
        evidence.where(dequantize=each).difference(
            "elbo", {"pixel_clip": smallest}, {"pixel_clip": largest}
        )
        for each in (True, False)
    )
    return share_of(dequantised.abs(), exact, "the gain by a smaller clip on exact zeros")


def _fixed_costs(evidence: Evidence) -> Statistic:
    cost = evidence.difference("elbo", {"binarization": "dynamic"}, {"binarization": "static"})
    return over_seeds(cost)


def _fixed_overfits(evidence: Evidence) -> Statistic:
    fixed, drawn = (
        sides.by_seed("elbo_train") - sides.by_seed("elbo")
        for sides in (evidence.where(binarization=of) for of in ("static", "dynamic"))
    )
    return over_seeds((fixed - drawn).dropna())


def _flatters(evidence: Evidence) -> Statistic:
    sampled = evidence.by_seed("reconstruction_error")
    return over_seeds((sampled - evidence.by_seed("reconstruction_error_at_mean")).dropna())


def _above_floor(evidence: Evidence) -> Statistic:
    """Smallest difference between the reconstruction error and the mean entropy of the pixels."""
    floor = evidence.data_fact("bce_floor_test")
    return extreme(min, evidence.where().frame["reconstruction_error"] - floor, "nats/image")


def _below_blind(evidence: Evidence) -> Statistic:
    """Smallest difference between the error of a decoder that ignores z and that of a cell."""
    blind = evidence.data_fact("bce_blind_test")
    return extreme(min, blind - evidence.where().frame["reconstruction_error"], "nats/image")


def _bits_add_up(evidence: Evidence) -> Statistic:
    """Largest relative difference between rate plus distortion, in bits, and bits per dimension."""
    rows = evidence.where().frame
    parts = (rows["reconstruction_error"] + rows["kl"]) / (rows["data_pixels"] * math.log(2))
    return extreme(max, (parts / rows["bits_per_dim"] - 1).abs(), "relative difference")


def _below_log_count(evidence: Evidence) -> Statistic:
    """Smallest difference between log N and the mutual information."""
    rows = evidence.where().frame
    return extreme(min, rows["mutual_information_ceiling"] - rows["mutual_information"], "nats")


METHODS: dict[str, Method] = {
    "clip-is-measured": Method(_clip_matters, _clip_cells),
    "clip-matters-less-dequantised": Method(_clip_matters_less, _clip_cells),
    "fixed-binarisation-costs": Method(_fixed_costs, _binarized_cells),
    "fixed-binarisation-overfits": Method(_fixed_overfits, _binarized_cells),
    "posterior-mean-flatters": Method(_flatters, _grey_cells),
    "grey-entropy-floor": Method(_above_floor, _grey_cells, of_data=True),
    "better-than-blind": Method(_below_blind, _grey_cells, of_data=True),
    "record-bits-add-up": Method(_bits_add_up, _binarized_cells),
    "information-below-log-n": Method(_below_log_count, _binarized_cells),
}
"""The method of each finding in this module."""
