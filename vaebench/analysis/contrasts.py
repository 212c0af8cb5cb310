"""Designs against the best one: paired differences over common seeds, adjusted for their number."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import nctdtr, stdtr, stdtrit

from vaebench.analysis.summary import Interval, interval, shared
from vaebench.records.metrics import metric_choice

LEVEL: Final = 0.05
"""Adjusted p-values below it show a difference."""

_MOST_SEEDS: Final = 1000


@dataclass(frozen=True)
class Contrast:
    """One design against the best.

    Attributes:
        design: the key of the design in the table of scores.
        loss: by how much it is worse than the best, in the metric's unit: the mean over common
            seeds with its 95 % interval and the number of seeds.
        p: p-value of the paired t test, by Holm's adjustment; NaN with fewer than two seeds.
        deviation: standard deviation of the paired differences; NaN with fewer than two seeds.
    """

    design: Hashable
    loss: Interval
    p: float
    deviation: float

    @property
    def worse(self) -> bool:
        """Whether the design is shown to be worse than the best."""
        return self.p < LEVEL and self.loss.mean > 0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment of p-values for their number; NaN stays NaN and does not count.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    tested = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, place in enumerate(sorted(tested, key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def score_table(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The finished values of a metric: one row for each seed, one column for each design.

    A cell with several records counts once, and so does a timing that several seeds of a design
    share because they were trained as one pack.
    """
    done = frame[(frame["status"] == "done") & frame[metric].notna()]
    done = done[~(shared(done, metric) & done.duplicated(["design", metric]))]
    table: pd.DataFrame = done.drop_duplicates(["design", "seed"]).pivot(
        index="seed", columns="design", values=metric
    )
    ordered: pd.DataFrame = table[list(dict.fromkeys(done["design"]))]
    return ordered


def contrasts(table: pd.DataFrame, best: Hashable, metric: str) -> list[Contrast]:
    """Compare each other design of a table of scores with the best one.

    Args:
        table: scores from `score_table`.
        best: the column that the others are compared with.
        metric: the name of the metric, which says whether higher is better.
    """
    sign = -1.0 if metric_choice(metric).better == "lower" else 1.0
    others = [design for design in table.columns if design != best]
    losses = [(sign * (table[best] - table[design])).dropna().to_numpy(float) for design in others]
    p_values = holm([p_value(each) for each in losses])
    return [
        Contrast(design, interval(each), p, float(each.std(ddof=1)) if len(each) > 1 else math.nan)
        for design, each, p in zip(others, losses, p_values, strict=True)
    ]


def p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of a t test of mean 0; equal differences other than 0 leave no doubt."""
    if len(differences) < 2:
        return math.nan
    if np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return float(differences[0] == 0)
    n = len(differences)
    error = differences.std(ddof=1) / math.sqrt(n)
    return float(2 * stdtr(n - 1, -abs(differences.mean() / error)))


def more_seeds(contrast: Contrast, power: float = 0.8) -> int | None:
    """Further seeds with which a paired t test shows this loss, at its present size and spread.

    Args:
        power: the probability of showing it.

    Returns:
        0 if the present seeds suffice; None if there is no loss or spread to go by, or if it takes
        more than 1,000 seeds.
    """
    loss, have = contrast.loss.mean, contrast.loss.n
    if not (loss > 0 and contrast.deviation > 0):
        return None
    for n in range(max(have, 2), _MOST_SEEDS + 1):
        critical = stdtrit(n - 1, 1 - LEVEL / 2)
        if nctdtr(n - 1, loss * math.sqrt(n) / contrast.deviation, critical) <= 1 - power:
            return n - have
    return None
