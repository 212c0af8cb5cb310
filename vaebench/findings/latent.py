"""Findings about the size of the latent space, the question of the tutorial's Section 4.1.

A loss is always against the best of the sizes from 4 to below 1,000 at the same training budget
and learning rate. On MNIST a loss of at least 5 nats is "degraded", at most 5 are "still good" or
a plateau; the smallest effect that counts is 1 nat. On 8×8 digits 1,000 latents are 16 a pixel, as
10,000 are 13 a pixel of MNIST; margins in nats are those of MNIST times 64 / 784.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from vaebench.findings.evidence import (
    Evidence,
    asked,
    by_seed,
    difference,
    each_seed,
    over_seeds,
    over_seeds_and_images,
    select,
    selection_columns,
    values_of,
)
from vaebench.findings.finding import Method
from vaebench.findings.settings import (
    Budget,
    cells_of,
)
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid

__all__ = [
    "METHODS",
    "PLATEAUS",
    "PUBLISHED_CURVES",
    "PUBLISHED_NLL",
    "latent_cells",
    "latent_tests",
    "loss",
    "unused_kl",
]

PLATEAUS: dict[str, tuple[int, ...]] = {"digits": (8, 16, 32), "mnist": (16, 32, 100)}
"""Latent sizes that should be about equally good, by data set."""

_SIZES = [1, 2, 3, 4, 8, 16, 32, 64]
_SHORT, _LONG = 20, 80


Tests = Callable[[Budget], tuple[tuple[Cell, ...], ...]]
"""The cells of a whole test by budget, then those of its smaller tests."""


@cache
def latent_cells(budget: Budget) -> tuple[Cell, ...]:
    """The sweep over latent sizes: in full the packaged grid `tutorial-latent`."""
    if budget == "full":
        return Grid.load("tutorial-latent").cells
    # Each block has as many seeds as its question needs within ten minutes.
    blocks = (
        (_SIZES, _LONG, [0, 1, 2, 3, 4]),
        (1000, _LONG, [0, 1, 2]),
        ([2, 4, 8, 16, 32, 64, 1000], _SHORT, [0, 1, 2]),
    )
    return tuple(
        cell
        for sizes, epochs, seeds in blocks
        for cell in cells_of(
            "quick",
            binarization="threshold",
            latent_dim=sizes,
            epochs=epochs,
            tsne_points=150,
            seed=seeds,
        )
    )


@cache
def latent_tests(budget: Budget) -> tuple[tuple[Cell, ...], ...]:
    """The sweep, then smaller tests of the same question: shorter trainings, an older grid."""
    cells = latent_cells(budget)
    if budget == "quick":
        return (cells,)
    counts = sorted({cell.epochs for cell in cells}, reverse=True)
    shorter = [tuple(cell for cell in cells if cell.epochs <= count) for count in counts]
    return (*shorter[:-1], Grid.load("latent-dim").cells)


@cache
def _first_epoch(budget: Budget) -> tuple[tuple[Cell, ...], ...]:
    found = []
    for cells in latent_tests(budget):
        short = min(cell.epochs for cell in cells)
        found.append(tuple(cell for cell in cells if cell.epochs == short))
    return tuple(dict.fromkeys(found))


@cache
def _rate_tests(budget: Budget) -> tuple[tuple[Cell, ...], ...]:
    """The same sizes at two learning rates: the smaller sizes show what the rate alone does."""
    if budget == "full":
        return (Grid.load("tutorial-learning-rate").cells,)
    usual = [cell for cell in latent_cells("quick") if cell.epochs == _SHORT]
    halved = [Cell(**{**dict(cell), "learning_rate": cell.learning_rate / 2}) for cell in usual]
    return ((*usual, *halved),)


@cache
def _tutorial_tests(budget: Budget) -> tuple[tuple[Cell, ...], ...]:
    if budget == "quick":
        return ()
    before = cells_of(
        "full",
        hidden=(1000, 500, 250),
        latent_dim=[16, 32, 100, 10000],
        batch_size=100,
        weight_decay=5e-4,
        epochs=6,
    )
    return (Grid.load("tutorial-network").cells, before)


def _longest(evidence: Evidence) -> pd.DataFrame:
    return select(evidence.frame, epochs=asked(evidence, "epochs")[-1])


def _shortest(evidence: Evidence) -> pd.DataFrame:
    return select(evidence.frame, epochs=asked(evidence, "epochs")[0])


def _largest(evidence: Evidence) -> int:
    return int(asked(evidence, "latent_dim")[-1])


def loss(
    rows: pd.DataFrame, sizes: Sequence[int], size: int, metric: str = "elbo"
) -> "pd.Series[float]":
    """ELBO of the best latent size minus that of `size`, in nats, by seed.

    The best is one of the `sizes` from 4 to below 1,000 that have all seeds of `size`. It is chosen
    on the selection images and compared on the held-out ones; records without these columns use
    the test images for both.
    """
    chosen_by, compared_by = selection_columns(rows)
    seeds = by_seed(rows, chosen_by, latent_dim=size).index
    scores = {
        each: by_seed(rows, chosen_by, latent_dim=each)
        for each in sizes
        if 4 <= each < 1000 and each != size
    }
    choice = {each: of[seeds].mean() for each, of in scores.items() if set(seeds) <= set(of.index)}
    if not choice:
        raise Untested("no seed has all the cells that are compared")
    best = {"latent_dim": max(choice, key=choice.__getitem__)}
    return difference(rows, compared_by if metric == "elbo" else metric, best, {"latent_dim": size})


def _lost_by(size: int | None, metric: str = "elbo") -> Callable[[Evidence], Statistic]:
    """The loss of one size, of the largest for None, after the longest training."""

    def statistic(evidence: Evidence) -> Statistic:
        sizes = asked(evidence, "latent_dim")
        at = _largest(evidence) if size is None else size
        return over_seeds(loss(_longest(evidence), sizes, at, metric), "nats/image")

    return statistic


def _plateau(evidence: Evidence) -> pd.DataFrame:
    """The ELBO of each size of the plateau; one row for each seed."""
    rows = _longest(evidence)
    return values_of(rows, "latent_dim", "elbo", list(PLATEAUS[evidence.asked[0].dataset]))


def _spread(evidence: Evidence) -> Statistic:
    table = _plateau(evidence)
    return over_seeds(table.max(axis=1) - table.min(axis=1), "nats/image")


def _mended(evidence: Evidence) -> Statistic:
    """The loss of the largest size after the short training minus that after the long one."""
    sizes, size = asked(evidence, "latent_dim"), _largest(evidence)
    early, late = (loss(rows, sizes, size) for rows in (_shortest(evidence), _longest(evidence)))
    return over_seeds((early - late).dropna(), "nats/image")


def _lower_rate(evidence: Evidence) -> Statistic:
    """The loss of the largest size at the usual rate minus that at the next lower one."""
    sizes, size = asked(evidence, "latent_dim"), _largest(evidence)
    rates = asked(evidence, "learning_rate")
    usual = 1e-3 if 1e-3 in rates[1:] else rates[-1]
    lower = rates[rates.index(usual) - 1]
    losses = [
        loss(select(evidence.frame, learning_rate=rate), sizes, size) for rate in (usual, lower)
    ]
    return over_seeds((losses[0] - losses[1]).dropna(), "nats/image")


def unused_kl(evidence: Evidence, rows: pd.DataFrame) -> "pd.Series[float]":
    """KL in nats of the units whose posterior mean varies by less than 0.01 λ², by seed.

    Raises:
        Untested: the records do not keep the KL and the variance of each unit.
    """

    def unused(one: pd.DataFrame) -> float:
        kept = evidence.arrays(str(one["cell_id"].iloc[0]))
        if not {"kl_per_dimension", "posterior_mean_variance"} <= set(kept):
            raise Untested("the records do not keep the KL and the variance of each unit")
        threshold = 0.01 * float(one["prior_scale"].iloc[0]) ** 2
        kl = np.asarray(kept["kl_per_dimension"], dtype=float)
        return float(kl[np.asarray(kept["posterior_mean_variance"]) < threshold].sum())

    return each_seed(rows, unused)


def _unused_kl_of_largest(evidence: Evidence) -> Statistic:
    rows = select(_longest(evidence), latent_dim=_largest(evidence))
    return over_seeds(unused_kl(evidence, rows), "nats/image")


def _steps_up(evidence: Evidence) -> Statistic:
    """Smallest of the gains of ELBO from size to size up to the plateau, by seed."""
    plateau = PLATEAUS[evidence.asked[0].dataset]
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= plateau[0]]
    table = values_of(_longest(evidence), "latent_dim", "elbo", sizes)
    return over_seeds(table.diff(axis=1).iloc[:, 1:].min(axis=1), "nats/image")


def _overfits(evidence: Evidence) -> Statistic:
    """Train-test gap of the ELBO beyond the plateau minus that at its beginning."""
    rows = _longest(evidence)
    small, *_, last = PLATEAUS[evidence.asked[0].dataset]
    large = min(size for size in asked(evidence, "latent_dim") if size > last)
    train = values_of(rows, "latent_dim", "elbo_train", [small, large])
    gap = train - values_of(rows, "latent_dim", "elbo", [small, large])
    return over_seeds((gap[large] - gap[small]).dropna(), "nats/image")


def _new_units(evidence: Evidence) -> Statistic:
    _, middle, last = PLATEAUS[evidence.asked[0].dataset]
    table = values_of(_longest(evidence), "latent_dim", "active_units", [middle, last])
    return over_seeds(table[last] - table[middle], "units")


PUBLISHED_NLL: dict[int, float] = {2: 135.73, 5: 110.21, 10: 93.84, 20: 88.90, 40: 88.93}
"""Latent size -> NLL in nats of the Gaussian VAE, Davidson et al. 2018 (1804.00891), table 1."""

PUBLISHED_CURVES: dict[str, dict[int, float]] = {
    "Davidson et al. 2018 (784-256-128, 1,000 epochs)": PUBLISHED_NLL
}
"""Published log-likelihoods of dynamically binarised MNIST over latent sizes, for figures."""


def _published_cells(budget: Budget) -> tuple[tuple[Cell, ...], ...]:
    """Their network and solver over a tenth of their epochs."""
    if budget == "quick":
        return ((),)
    cells = cells_of(
        "full",
        binarization="dynamic",
        hidden=(256, 128),
        latent_dim=list(PUBLISHED_NLL),
        batch_size=64,
        epochs=100,
        iw_samples=500,
        iw_images=1000,
    )
    return (cells,)


def _off_published(evidence: Evidence) -> Statistic:
    """Largest distance of the NLL from the published one over the sizes, by seed."""
    table = -values_of(evidence.frame, "latent_dim", "iw_bound", list(PUBLISHED_NLL))
    errors = values_of(evidence.frame, "latent_dim", "iw_se", list(PUBLISHED_NLL))
    worst = (table - pd.Series(PUBLISHED_NLL)).abs().max(axis=1)
    return over_seeds_and_images(worst, errors.max(axis=1), "nats/image")


def _method(statistic: Callable[[Evidence], Statistic], tests: Tests = latent_tests) -> Method:
    return Method(
        statistic, lambda budget: tests(budget)[0], fallbacks=lambda budget: tests(budget)[1:]
    )


METHODS: dict[str, Method] = {
    "latent-three": _method(_lost_by(3)),
    "latent-two": _method(_lost_by(2)),
    "latent-plateau": _method(_spread),
    "latent-thousand": _method(_lost_by(1000)),
    "latent-ten-thousand": _method(_lost_by(None)),
    "latent-ten-thousand-bound": _method(_lost_by(None, "iw_bound")),
    "latent-ten-thousand-early": _method(_lost_by(None), _first_epoch),
    "latent-training-mends": _method(_mended),
    "latent-lower-rate-mends": _method(_lower_rate, _rate_tests),
    "latent-kl-too-high": _method(_unused_kl_of_largest),
    "latent-tutorial-network": _method(_lost_by(10_000), _tutorial_tests),
    "latent-tutorial-network-thousand": _method(_lost_by(1000), _tutorial_tests),
    "latent-tutorial-network-kl": _method(_unused_kl_of_largest, _tutorial_tests),
    "latent-more-is-better": _method(_steps_up),
    "latent-no-overfitting": _method(_overfits),
    "latent-published-curve": _method(_off_published, _published_cells),
    "latent-units-saturate": _method(_new_units),
}
"""How each finding of this module is measured."""
