"""Findings about likelihood families, binarisation and what is called an ELBO."""

import math
from dataclasses import replace

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
from vaebench.findings.finding import Finding, same
from vaebench.findings.settings import IWAE, MLP, Budget, Setting, cells_of
from vaebench.findings.verdict import Margin, Statistic, Untested
from vaebench.grid.cell import Cell

__all__ = ["LIKELIHOOD_FINDINGS"]

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
    return share_of(gains[0].abs(), gains[1], "what the clip's smallness gains on exact zeros")


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


_BINARISED = replace(
    IWAE,
    text=f"{IWAE.text}; one draw of the pixels against a new one at each visit",
    data={**IWAE.data, "binarization": ("dynamic", "static")},
)
_GREY = Setting(
    "MNIST in grey levels under a cross-entropy, 784-400-20, Adam 1e-3, batch 128, 10 epochs",
    data={"dataset": ("mnist",), "binarization": ("none",), "likelihood": ("bernoulli",)},
    network={"architecture": ("mlp",), "hidden": ((400,),), "latent_dim": (20,)},
    optimizer={"learning_rate": (1e-3,), "batch_size": (128,)},
    initialization={"initialization": ("default",)},
    iterations=4_690,
)
"""The VAE example of PyTorch (pytorch/examples)."""

LIKELIHOOD_FINDINGS: tuple[Finding, ...] = (
    Finding(
        "clip-is-measured",
        "likelihood",
        "On data with exact zeros a continuous Bernoulli's score grows with the clip's smallness",
        "derived from Loaiza-Ganem & Cunningham 2019",
        ("A25",),
        "smallest gain of ELBO from clip 1e-2 to 1e-4 to 1e-6",
        {"quick": Margin(low=0.08), "full": Margin(low=1.0)},
        setting=MLP,
        statistic=_clip_matters,
        cells=_clip_cells,
    ),
    Finding(
        "clip-matters-less-dequantised",
        "likelihood",
        "On dequantised data the clip of a continuous Bernoulli matters far less",
        "derived from Loaiza-Ganem & Cunningham 2019",
        ("A25",),
        "size of the gain from clip 1e-2 to 1e-6 on dequantised data, over that on exact zeros",
        same(Margin(high=0.5)),
        setting=MLP,
        statistic=_clip_matters_less,
        cells=_clip_cells,
    ),
    Finding(
        "fixed-binarisation-costs",
        "likelihood",
        "Training on a fixed binarisation costs nats on the same test draw",
        "Burda et al. 2016, Tables 1 and 3",
        ("B07",),
        "ELBO trained on fresh draws minus ELBO trained on one draw",
        {"quick": Margin(low=0.1), "full": Margin(1.2, 3.0)},
        setting=_BINARISED,
        statistic=_fixed_costs,
        cells=_binarized_cells,
        proxy="the ELBO in place of L_5000",
    ),
    Finding(
        "fixed-binarisation-overfits",
        "likelihood",
        "A fixed binarisation widens the gap between training and test images",
        "Burda et al. 2016, Table 3 and Sec. 5",
        ("B07",),
        "train-test gap of the ELBO on one draw minus that on fresh draws",
        {"quick": Margin(low=0.08), "full": Margin(low=1.0)},
        setting=_BINARISED,
        statistic=_fixed_overfits,
        cells=_binarized_cells,
        proxy="the ELBO in place of L_5000",
    ),
    Finding(
        "posterior-mean-flatters",
        "likelihood",
        "An “ELBO” at the posterior mean is too good",
        "clab/dynet README against pytorch/examples PR 1416",
        ("B22",),
        "reconstruction error with z sampled minus that at the posterior mean",
        {"quick": Margin(low=0.5), "full": Margin(5.0, 11.0)},
        setting=_GREY,
        statistic=_flatters,
        cells=_grey_cells,
    ),
    Finding(
        "grey-entropy-floor",
        "likelihood",
        "No reconstruction error on grey pixels is below their entropy",
        "Gibbs' inequality",
        ("T18", "A20"),
        "smallest distance of a cell's error above the floor",
        same(Margin(low=0.0)),
        statistic=_above_floor,
        cells=_grey_cells,
        least_seeds=1,
        data=_images,
        identity=True,
    ),
    Finding(
        "better-than-blind",
        "likelihood",
        "A trained VAE beats the decoder that ignores z",
        "exact bound of the data",
        ("T18", "A20"),
        "smallest distance of a cell's error below the z-blind decoder",
        {"quick": Margin(low=0.08), "full": Margin(low=1.0)},
        setting=_GREY,
        statistic=_below_blind,
        cells=_grey_cells,
        least_seeds=1,
        data=_images,
    ),
    Finding(
        "record-bits-add-up",
        "likelihood",
        "Bits for z and bits for X given z are the bits of X: rate and distortion of every cell",
        "Doersch 2016, Sec. 2.4.2; a check of the records, by algebra",
        ("T12",),
        "largest relative distance of the sum from bits per dimension, binarised images",
        same(Margin(high=1e-4)),
        statistic=_bits_add_up,
        cells=_binarized_cells,
        least_seeds=1,
        identity=True,
    ),
    Finding(
        "information-below-log-n",
        "likelihood",
        "The code cannot tell more of N images apart than log N",
        "Hoffman & Johnson 2016; Alemi et al. 2018; a check of the records, by algebra",
        ("A21",),
        "smallest distance of the mutual information below log N",
        same(Margin(low=0.0)),
        statistic=_below_log_count,
        cells=_binarized_cells,
        least_seeds=1,
        identity=True,
    ),
)
"""The findings of this module."""
