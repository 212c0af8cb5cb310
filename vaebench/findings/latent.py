"""Findings about the number of latent dimensions, from Section 4.1 of the tutorial.

The loss of a latent dimension is the difference in ELBO from the best dimension between 4 and 999,
at the same number of epochs and the same learning rate. On MNIST a loss of at least 5 nats counts
as "degraded", and a smaller one as "still good" or a plateau; the smallest relevant effect is 1
nat. For 8×8 digits these margins are multiplied by 64 / 784. There 1,000 latents are 16 per pixel,
comparable to 10,000 latents on MNIST, which are 13 per pixel.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from vaebench.findings.evidence import Evidence, over_seeds, over_seeds_and_images
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid

PLATEAUS: dict[str, tuple[int, ...]] = {"digits": (8, 16, 32), "mnist": (16, 32, 100)}
"""Latent dimensions that should be about equally good, by data set."""

PUBLISHED_NLL: dict[int, float] = {2: 135.73, 5: 110.21, 10: 93.84, 20: 88.90, 40: 88.93}
"""Maps a latent dimension to the NLL in nats of Davidson et al. 2018 (1804.00891), table 1."""

PUBLISHED_CURVES: dict[str, dict[int, float]] = {
    "Davidson et al. 2018 (784-256-128, 1,000 epochs)": PUBLISHED_NLL
}
"""Published curves for figures: NLL of dynamically binarised MNIST by latent dimension."""

_SHORT, _LONG = 20, 80

Cells = tuple[Cell, ...]
Tests = Callable[[Budget], tuple[Cells, ...]]
"""Returns the cells of a whole test for a budget, followed by the cells of smaller tests."""


@cache
def latent_tests(budget: Budget) -> tuple[Cells, ...]:
    """Return the sweep over latent dimensions, followed by smaller tests.

    For the full budget the sweep is the packaged grid `tutorial-latent`. Smaller tests are the same
    grid with fewer epochs, and an older grid.
    """
    if budget == "full":
        cells = Grid.load("tutorial-latent").cells
        counts = sorted({cell.epochs for cell in cells}, reverse=True)
        shorter = [tuple(cell for cell in cells if cell.epochs <= count) for count in counts]
        return (*shorter[:-1], Grid.load("latent-dim").cells)
    # The number of seeds in each block is a compromise between precision and ten minutes in all.
    blocks = (
        ([1, 2, 3, 4, 8, 16, 32, 64], _LONG, [0, 1, 2, 3, 4]),
        (1000, _LONG, [0, 1, 2]),
        ([2, 4, 8, 16, 32, 64, 1000], _SHORT, [0, 1, 2]),
    )
    shared = {"binarization": "threshold", "tsne_points": 150}
    products = [
        cells_of("quick", latent_dim=sizes, epochs=epochs, seed=seeds, **shared)
        for sizes, epochs, seeds in blocks
    ]
    return (sum(products, ()),)


@cache
def _shortest(budget: Budget) -> tuple[Cells, ...]:
    """Return the cells of `latent_tests` with the fewest epochs of each test."""
    found: dict[Cells, None] = {}
    for cells in latent_tests(budget):
        short = min(cell.epochs for cell in cells)
        found[tuple(cell for cell in cells if cell.epochs == short)] = None
    return tuple(found)


@cache
def _rate_tests(budget: Budget) -> tuple[Cells, ...]:
    """Return the same latent dimensions at two learning rates."""
    if budget == "full":
        return (Grid.load("tutorial-learning-rate").cells,)
    usual = [cell for cell in latent_tests("quick")[0] if cell.epochs == _SHORT]
    halved = [Cell(**{**dict(cell), "learning_rate": cell.learning_rate / 2}) for cell in usual]
    return ((*usual, *halved),)


@cache
def _tutorial_tests(budget: Budget) -> tuple[Cells, ...]:
    """Return the cells with the network of the tutorial, which is defined for MNIST only."""
    before = cells_of(
        budget,
        hidden=(1000, 500, 250),
        latent_dim=[16, 32, 100, 10000],
        batch_size=100,
        weight_decay=5e-4,
        epochs=6,
    )
    return (Grid.load("tutorial-network").cells, before)


def _published_cells(budget: Budget) -> tuple[Cells, ...]:
    """Return the network and optimizer of Davidson et al. 2018 with a tenth of their epochs."""
    cells = cells_of(
        budget,
        binarization="dynamic",
        hidden=(256, 128),
        latent_dim=list(PUBLISHED_NLL),
        batch_size=64,
        epochs=100,
        iw_samples=500,
        iw_images=1000,
    )
    return (cells,)


def _trained(evidence: Evidence, which: int = -1) -> Evidence:
    """Return the records of the longest trainings, or of the shortest ones for ``which=0``."""
    return evidence.where(epochs=evidence.values("epochs")[which])


def _largest(evidence: Evidence) -> int:
    return int(evidence.values("latent_dim")[-1])


def loss(
    evidence: Evidence, size: int, metric: str = "elbo", sizes: Sequence[int] = ()
) -> "pd.Series[float]":
    """Return a metric of the best latent dimension minus that of `size`, in nats, by seed.

    The best dimension is chosen on the selection images and compared on the held-out images;
    records without these columns use the test images for both.

    Args:
        evidence: the records.
        size: a latent dimension.
        metric: the compared metric.
        sizes: candidates for the best dimension, by default those of the test. Only those from 4 to
            999 with all seeds of `size` are used.

    Raises:
        Untested: no candidate has all seeds of `size`.
    """
    chosen_by, compared_by = evidence.selection()
    seeds = evidence.by_seed(chosen_by, latent_dim=size).index
    choice = {}
    for each in sizes or evidence.values("latent_dim"):
        if 4 <= each < 1000 and each != size:
            scores = evidence.by_seed(chosen_by, latent_dim=each)
            if seeds.isin(scores.index).all():
                choice[each] = scores[seeds].mean()
    if not choice:
        raise Untested("no seed has all the cells that are compared")
    best = {"latent_dim": max(choice, key=choice.__getitem__)}
    metric = compared_by if metric == "elbo" else metric
    return evidence.difference(metric, best, {"latent_dim": size})


def _lost_by(size: int | None, metric: str = "elbo") -> Callable[[Evidence], Statistic]:
    """Return the statistic of a loss after the longest training; None is the largest dimension."""
    return lambda e: over_seeds(loss(_trained(e), size or _largest(e), metric))


def _plateau(evidence: Evidence) -> tuple[int, ...]:
    return PLATEAUS[evidence.asked[0].dataset]


def _spread(evidence: Evidence) -> Statistic:
    """Range of the ELBO over the dimensions of the plateau."""
    table = _trained(evidence).table("latent_dim", "elbo", _plateau(evidence))
    return over_seeds(table.max(axis=1) - table.min(axis=1))


def _mended(evidence: Evidence) -> Statistic:
    """Loss of the largest dimension after the short training minus its loss after the long one."""
    size = _largest(evidence)
    early, late = (loss(_trained(evidence, which), size) for which in (0, -1))
    return over_seeds((early - late).dropna())


def _lower_rate(evidence: Evidence) -> Statistic:
    """Loss of the largest dimension at the usual learning rate minus its loss at the next lower."""
    size, rates = _largest(evidence), evidence.values("learning_rate")
    usual = 1e-3 if 1e-3 in rates[1:] else rates[-1]
    lower = rates[rates.index(usual) - 1]
    losses = [loss(evidence.where(learning_rate=rate), size) for rate in (usual, lower)]
    return over_seeds((losses[0] - losses[1]).dropna())


def unused_kl(evidence: Evidence) -> "pd.Series[float]":
    """Return the KL in nats of all inactive units, by seed.

    A unit is inactive if the variance of its posterior mean over images is below 0.01 λ².

    Raises:
        Untested: the records do not contain the KL and the variance of each unit.
    """

    def unused(row: Mapping[str, Any], kl: NDArray[Any], variance: NDArray[Any]) -> float:
        return float(kl[variance < 0.01 * float(row["prior_scale"]) ** 2].astype(float).sum())

    return evidence.each_cell(unused, "kl_per_dimension", "posterior_mean_variance")


def _unused_kl_of_largest(evidence: Evidence) -> Statistic:
    return over_seeds(unused_kl(_trained(evidence).where(latent_dim=_largest(evidence))))


def _steps_up(evidence: Evidence) -> Statistic:
    """Smallest gain in ELBO between successive dimensions up to the plateau."""
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= _plateau(evidence)[0]]
    table = _trained(evidence).table("latent_dim", "elbo", sizes)
    return over_seeds(table.diff(axis=1).iloc[:, 1:].min(axis=1))


def _overfits(evidence: Evidence) -> Statistic:
    """Train-test gap of the ELBO beyond the plateau minus the gap at the start of the plateau."""
    small, *_, last = _plateau(evidence)
    large = min(size for size in evidence.values("latent_dim") if size > last)
    train, test = (
        _trained(evidence).table("latent_dim", metric, [small, large])
        for metric in ("elbo_train", "elbo")
    )
    gap = train - test
    return over_seeds((gap[large] - gap[small]).dropna())


def _new_units(evidence: Evidence) -> Statistic:
    _, middle, last = _plateau(evidence)
    table = _trained(evidence).table("latent_dim", "active_units", [middle, last])
    return over_seeds(table[last] - table[middle], "units")


def _off_published(evidence: Evidence) -> Statistic:
    """Largest difference over dimensions between the NLL and the published NLL."""
    bounds, errors = (evidence.table("latent_dim", metric) for metric in ("iw_bound", "iw_se"))
    worst = (bounds + pd.Series(PUBLISHED_NLL)).abs().max(axis=1)
    return over_seeds_and_images(worst, errors.max(axis=1))


def _method(statistic: Callable[[Evidence], Statistic], tests: Tests = latent_tests) -> Method:
    return Method(statistic, lambda budget: tests(budget)[0], lambda budget: tests(budget)[1:])


METHODS: dict[str, Method] = {
    "latent-three": _method(_lost_by(3)),
    "latent-two": _method(_lost_by(2)),
    "latent-plateau": _method(_spread),
    "latent-thousand": _method(_lost_by(1000)),
    "latent-ten-thousand": _method(_lost_by(None)),
    "latent-ten-thousand-bound": _method(_lost_by(None, "iw_bound")),
    "latent-ten-thousand-early": _method(_lost_by(None), _shortest),
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
"""The method of each finding in this module."""
