"""Findings about the size of the latent space, the tutorial's own question.

Verdicts are a function of training: each is of the longest training in its grid unless it says
otherwise. On 8×8 digits 1,000 latents are 16 a pixel, as 10,000 are 13 a pixel of MNIST; margins
in nats are those of MNIST times the ratio of the pixels, 64 / 784.
"""

import pandas as pd

from vaebench.findings.evidence import (
    Evidence,
    asked,
    over_seeds,
    select,
    share_of,
    values_of,
)
from vaebench.findings.finding import Budget, Finding
from vaebench.findings.settings import cells_of
from vaebench.findings.theory import same
from vaebench.findings.verdict import Margin, Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid

__all__ = ["LATENT", "PLATEAUS", "below_plateau", "latent_cells", "plateau_of"]

PLATEAUS: dict[str, tuple[int, ...]] = {"digits": (8, 16, 32), "mnist": (16, 32, 100)}
"""Latent sizes that should be about equally good, by data set."""

_SIZES = [1, 2, 3, 4, 8, 16, 32, 64, 1000]
_SHORT, _LONG = 20, 80


def latent_cells(budget: Budget) -> tuple[Cell, ...]:
    """The latent-size sweep at two training budgets; in full the packaged grid `latent-dim`."""
    if budget == "full":
        return Grid.load("latent-dim").cells
    # Each block with as many seeds as its question needs and ten minutes allow.
    blocks = (
        (_SIZES[:-1], _LONG, [0, 1, 2, 3, 4]),
        (_SIZES[-1], _LONG, [0, 1, 2]),
        ([2, *PLATEAUS["digits"], _SIZES[-1]], _SHORT, [0, 1, 2]),
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


def plateau_of(frame: pd.DataFrame) -> tuple[int, ...]:
    """The sizes of the plateau for the data set of these rows.

    Raises Untested for a data set without one.
    """
    dataset = str(frame["dataset"].iloc[0])
    if dataset not in PLATEAUS:
        raise Untested(f"no plateau is stated for {dataset}")
    return PLATEAUS[dataset]


def _longest(evidence: Evidence) -> pd.DataFrame:
    return select(evidence.frame, epochs=asked(evidence, "epochs")[-1])


def _shortest(evidence: Evidence) -> pd.DataFrame:
    return select(evidence.frame, epochs=asked(evidence, "epochs")[0])


def _largest(evidence: Evidence) -> int:
    return int(asked(evidence, "latent_dim")[-1])


def below_plateau(rows: pd.DataFrame, size: int, metric: str = "elbo") -> "pd.Series[float]":
    """Mean of a metric over the plateau minus that of one size, a number a seed."""
    plateau = plateau_of(rows)
    table = values_of(rows, "latent_dim", metric, [*plateau, size])
    return table[list(plateau)].mean(axis=1) - table[size]


def _lost_by_three(evidence: Evidence) -> Statistic:
    return over_seeds(below_plateau(_longest(evidence), 3), "nats/image")


def _lost_by_two(evidence: Evidence) -> Statistic:
    return over_seeds(below_plateau(_longest(evidence), 2), "nats/image")


def _spread(evidence: Evidence) -> Statistic:
    """Range of the ELBO over the plateau, as a share of what one latent loses."""
    rows = _longest(evidence)
    table = values_of(rows, "latent_dim", "elbo", [*plateau_of(rows), 1])
    best = table[list(plateau_of(rows))]
    ranges = best.max(axis=1) - best.min(axis=1)
    return share_of(ranges, best.mean(axis=1) - table[1], "what one latent loses")


def _lost_by_largest(evidence: Evidence) -> Statistic:
    rows = _longest(evidence)
    return over_seeds(below_plateau(rows, _largest(evidence)), "nats/image")


def _lost_by_largest_early(evidence: Evidence) -> Statistic:
    rows = _shortest(evidence)
    return over_seeds(below_plateau(rows, _largest(evidence)), "nats/image")


def _lost_by_thousand(evidence: Evidence) -> Statistic:
    return over_seeds(below_plateau(_longest(evidence), 1000), "nats/image")


def _mended(evidence: Evidence) -> Statistic:
    """What the largest size loses after the short training minus after the long."""
    early, late = _shortest(evidence), _longest(evidence)
    size = _largest(evidence)
    return over_seeds(
        (below_plateau(early, size) - below_plateau(late, size)).dropna(), "nats/image"
    )


def _kl_of_largest(evidence: Evidence) -> Statistic:
    rows = _longest(evidence)
    return over_seeds(-below_plateau(rows, _largest(evidence), "kl"), "nats/image")


def _steps_up(evidence: Evidence) -> Statistic:
    """Smallest of the gains of ELBO from size to size up to the plateau, seed by seed."""
    rows = _longest(evidence)
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= plateau_of(rows)[0]]
    table = values_of(rows, "latent_dim", "elbo", sizes)
    return over_seeds(table.diff(axis=1).iloc[:, 1:].min(axis=1), "nats/image")


def _overfits(evidence: Evidence) -> Statistic:
    """Train-test gap of the ELBO beyond the plateau minus that at its beginning."""
    rows = _longest(evidence)
    small, *_, last = plateau_of(rows)
    large = min(size for size in asked(evidence, "latent_dim") if size > last)
    train = values_of(rows, "latent_dim", "elbo_train", [small, large])
    gap = train - values_of(rows, "latent_dim", "elbo", [small, large])
    return over_seeds((gap[large] - gap[small]).dropna(), "nats/image")


def _new_units(evidence: Evidence) -> Statistic:
    rows = _longest(evidence)
    _, middle, last = plateau_of(rows)
    table = values_of(rows, "latent_dim", "active_units", [middle, last])
    return over_seeds(table[last] - table[middle], "units")


def _rate_cells(budget: Budget) -> tuple[Cell, ...]:
    """The largest size after short training, at the sweep's learning rate and at half of it."""
    sweep = latent_cells(budget)
    short, size = min(cell.epochs for cell in sweep), max(cell.latent_dim for cell in sweep)
    usual = [cell for cell in sweep if (cell.epochs, cell.latent_dim) == (short, size)]
    halved = [Cell(**{**dict(cell), "learning_rate": cell.learning_rate / 2}) for cell in usual]
    return (*usual, *halved)


def _lower_rate(evidence: Evidence) -> Statistic:
    rates = asked(evidence, "learning_rate")
    table = values_of(evidence.frame, "learning_rate", "elbo", rates)
    return over_seeds(table[rates[0]] - table[rates[1]], "nats/image")


def _tutorial_cells(budget: Budget) -> tuple[Cell, ...]:
    if budget == "quick":
        return ()
    return cells_of(
        "full",
        hidden=(1000, 500, 250),
        latent_dim=[16, 32, 100, 10000],
        batch_size=100,
        weight_decay=5e-4,
        epochs=6,
    )


def _truncated(steps: str, epochs: str, scaled: bool = False) -> dict[Budget, str]:
    """How the sweep falls short: ``steps`` of the quick budget and ``epochs`` of the full one."""
    quick = (
        f"8×8 digits cut at one half, one hidden layer, {steps} steps of 60,000; the bound in "
        "place of the look of samples"
    )
    if scaled:
        quick += "; 1,000 latents, 16 a pixel, for 10,000 of MNIST, 13 a pixel"
    full = f"one hidden layer and {epochs} of 100; the bound in place of the look of samples"
    return {"quick": quick, "full": full}


_TRUNCATED = _truncated("1,840", "6 epochs")
_SCALED = _truncated("1,840", "6 epochs", scaled=True)
_SCALED_EARLY = _truncated("460", "1 epoch", scaled=True)
_SCALED_BOTH = _truncated("460 and 1,840", "1 and 6 epochs", scaled=True)
_PROTOTXT = "; its prototxt: 1000-500-250, grey targets, weight decay 5e-4, batch 100"
_OF_ITS_SIZE: dict[Budget, str] = {"quick": "a network of its size is for MNIST"}
_SECTION = "Doersch 2016, Sec. 4.1"


def _margins(nats: float) -> dict[Budget, Margin]:
    return {"quick": Margin(low=round(nats * 64 / 784, 2)), "full": Margin(low=nats)}


LATENT: tuple[Finding, ...] = (
    Finding(
        "latent-three",
        "latent-dim",
        "Fewer than 4 latent dimensions are noticeably worse",
        _SECTION,
        ("T20", "B11"),
        "ELBO of the plateau minus that of 3 latents",
        _margins(5.0),
        statistic=_lost_by_three,
        cells=latent_cells,
        truncation=_TRUNCATED,
    ),
    Finding(
        "latent-two",
        "latent-dim",
        "Two latent dimensions are far too few",
        _SECTION,
        ("T20", "B11"),
        "ELBO of the plateau minus that of 2 latents",
        _margins(10.0),
        statistic=_lost_by_two,
        cells=latent_cells,
        truncation=_TRUNCATED,
    ),
    Finding(
        "latent-plateau",
        "latent-dim",
        "Over a broad range the model is insensitive to the number of latents",
        _SECTION,
        ("T20", "B11"),
        "range of the ELBO over the plateau (digits 8 to 32, MNIST 16 to 100), over what 1 loses",
        {"quick": Margin(high=0.2), "full": Margin(high=0.2)},
        statistic=_spread,
        cells=latent_cells,
        truncation=_TRUNCATED,
    ),
    Finding(
        "latent-thousand",
        "latent-dim",
        "With 1,000 latent dimensions results are still good",
        _SECTION,
        ("T20", "B11"),
        "ELBO of the plateau minus that of 1,000 latents",
        {"full": Margin(high=5.0)},
        statistic=_lost_by_thousand,
        cells=lambda budget: latent_cells(budget) if budget == "full" else (),
        truncation=_TRUNCATED,
        untested={
            "quick": "1,000 latents of 8×8 digits are 16 a pixel, the case of 10,000 of MNIST"
        },
    ),
    Finding(
        "latent-ten-thousand",
        "latent-dim",
        "With 10,000 latent dimensions results are degraded",
        _SECTION,
        ("T20", "B11"),
        "ELBO of the plateau minus that of the largest size, longest training",
        _margins(5.0),
        statistic=_lost_by_largest,
        cells=latent_cells,
        truncation=_SCALED,
    ),
    Finding(
        "latent-ten-thousand-early",
        "latent-dim",
        "With 10,000 latent dimensions results are degraded, after short training too",
        _SECTION,
        ("T20", "B11"),
        "ELBO of the plateau minus that of the largest size, shortest training",
        _margins(5.0),
        statistic=_lost_by_largest_early,
        cells=latent_cells,
        truncation=_SCALED_EARLY,
    ),
    Finding(
        "latent-training-mends",
        "latent-dim",
        "What far too many latents lose is a matter of training: more epochs win part of it back",
        "reading of Doersch 2016, Sec. 4.1 (“stochastic gradient descent struggles”)",
        ("T20", "B11"),
        "loss of the largest size after short training minus after long",
        same(Margin(low=0.0, strict=True)),
        statistic=_mended,
        cells=latent_cells,
        truncation=_SCALED_BOTH,
    ),
    Finding(
        "latent-lower-rate-mends",
        "latent-dim",
        "A lower learning rate wins back part of what far too many latents lose",
        "reading of Doersch 2016, Sec. 4.1 (“stochastic gradient descent struggles”)",
        ("T20", "T18"),
        "ELBO of the largest size at half the learning rate minus that at the whole",
        same(Margin(low=0.0, strict=True)),
        statistic=_lower_rate,
        cells=_rate_cells,
        truncation=_SCALED_EARLY,
    ),
    Finding(
        "latent-kl-too-high",
        "latent-dim",
        "With 10,000 latent dimensions training cannot keep the KL low",
        _SECTION,
        ("T20",),
        "KL of the largest size minus that of the plateau",
        same(Margin(low=0.0, strict=True)),
        statistic=_kl_of_largest,
        cells=latent_cells,
        truncation=_SCALED,
    ),
    Finding(
        "latent-tutorial-network",
        "latent-dim",
        "With 10,000 latent dimensions the tutorial's own network is degraded",
        _SECTION + _PROTOTXT,
        ("T20", "B11"),
        "ELBO of the plateau minus that of 10,000 latents",
        {"full": Margin(low=5.0)},
        statistic=_lost_by_largest,
        cells=_tutorial_cells,
        truncation={"full": "6 epochs of 100, and PyTorch's initial weights"},
        untested=_OF_ITS_SIZE,
    ),
    Finding(
        "latent-tutorial-network-kl",
        "latent-dim",
        "With 10,000 latent dimensions training cannot keep the KL of the tutorial's own network "
        "low",
        _SECTION + _PROTOTXT,
        ("T20",),
        "KL of 10,000 latents minus that of the plateau",
        {"full": Margin(low=0.0, strict=True)},
        statistic=_kl_of_largest,
        cells=_tutorial_cells,
        truncation={"full": "6 epochs of 100, and PyTorch's initial weights"},
        untested=_OF_ITS_SIZE,
    ),
    Finding(
        "latent-more-is-better",
        "latent-dim",
        "Up to the plateau every further latent dimension helps",
        "Kingma & Welling 2014, Fig. 2",
        ("B12",),
        "smallest gain of ELBO from size to size (1, 2, 4, 8; MNIST also 16)",
        same(Margin(low=0.0, strict=True)),
        statistic=_steps_up,
        cells=latent_cells,
        truncation=_TRUNCATED,
    ),
    Finding(
        "latent-no-overfitting",
        "latent-dim",
        "Superfluous latent dimensions do not overfit",
        "Kingma & Welling 2014, Sec. 5 and Fig. 2",
        ("B12",),
        "train-test gap of the ELBO beyond the plateau minus that at its beginning",
        {"quick": Margin(high=0.08), "full": Margin(high=1.0)},
        statistic=_overfits,
        cells=latent_cells,
        truncation=_TRUNCATED,
    ),
    Finding(
        "latent-units-saturate",
        "latent-dim",
        "More latent dimensions do not add active units",
        "Burda et al. 2016, Sec. 5.2",
        ("B08",),
        "active units at 100 latents minus those at 32",
        {"full": Margin(-4.0, 4.0)},
        statistic=_new_units,
        cells=lambda budget: latent_cells(budget) if budget == "full" else (),
        truncation={"full": "6 epochs of 3,280"},
        untested={
            "quick": "in 80 epochs of digits the weak units have not yet come below the threshold"
        },
    ),
)
"""The findings of this module."""
