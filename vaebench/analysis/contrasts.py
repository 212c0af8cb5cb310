"""Compare designs with the best one: paired t tests over common seeds with Holm's adjustment."""

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
"""Significance level of adjusted p-values."""

_MOST_SEEDS: Final = 1000


@dataclass(frozen=True)
class Contrast:
    """The comparison of one design with the best design.

    Attributes:
        design: column of the design in the table of scores.
        loss: how much worse it is than the best design, in the unit of the metric: the mean over
            common seeds with its 95 % interval.
        p: p-value of the paired t test with Holm's adjustment; NaN for fewer than two seeds.
        deviation: standard deviation of the paired differences; NaN for fewer than two seeds.
    """

    design: Hashable
    loss: Interval
    p: float
    deviation: float

    @property
    def worse(self) -> bool:
        """Whether the design is significantly worse than the best design."""
        return self.p < LEVEL and self.loss.mean > 0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests by Holm's method; NaN stays NaN and is not counted.

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
    """Tabulate the finished values of a metric: one row per seed, one column per design.

    If a cell has several records, one is used. A timing that several seeds of a design share,
    because they were trained as one pack, is used once.
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
        best: column of the best design.
        metric: name of the metric, which defines whether higher is better.
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
    """Return the two-sided p-value of a t test for mean 0; equal differences give 0 or 1."""
    if len(differences) < 2:
        return math.nan
    if np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return float(differences[0] == 0)
    n = len(differences)
    error = differences.std(ddof=1) / math.sqrt(n)
    return float(2 * stdtr(n - 1, -abs(differences.mean() / error)))


def more_seeds(contrast: Contrast, power: float = 0.8) -> int | None:
    """Return how many more seeds a paired t test needs to detect the observed loss.

    Args:
        contrast: the loss and its spread, which are assumed to be the true ones.
        power: probability of detecting the loss.

    Returns:
        0 if the present seeds are enough; None if the loss or its spread is not positive, or if
        more than 1,000 seeds are needed.
    """
    loss, have = contrast.loss.mean, contrast.loss.n
    if not (loss > 0 and contrast.deviation > 0):
        return None
    for n in range(max(have, 2), _MOST_SEEDS + 1):
        critical = stdtrit(n - 1, 1 - LEVEL / 2)
        if nctdtr(n - 1, loss * math.sqrt(n) / contrast.deviation, critical) <= 1 - power:
            return n - have
    return None
