"""The mean over the seeds of a design, its 95 % Student t interval, and n.

The interval holds the spread over seeds only, never the standard error over images. One seed has no
interval. Diverged and missing seeds are counted and shown.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from vaebench.analysis.comparability import (
    basis,
    holds_one_value,
    is_timing,
    refusal,
    require_comparable,
)
from vaebench.analysis.labels import is_missing, order_key, value_text, varying
from vaebench.errors import UsageError

Places = NDArray[np.intp]
"""Which rows of a frame, counted from 0."""


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds with the ends of its 95 % interval (NaN where n < 2)."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float] | NDArray[np.float64], level: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, one a seed.

    >>> one = interval([1.0])
    >>> one.mean, one.n, math.isnan(one.low)
    (1.0, 1, True)
    """
    (found,) = intervals([np.asarray(values, dtype=np.float64)], level)
    return found


def intervals(samples: Sequence[NDArray[np.float64]], level: float = 0.95) -> list[Interval]:
    """The `interval` of each sample; samples of one size are computed together."""
    finite = [sample[np.isfinite(sample)] for sample in samples]
    by_size: dict[int, list[int]] = {}
    for place, sample in enumerate(finite):
        by_size.setdefault(len(sample), []).append(place)
    found = [Interval(math.nan, math.nan, math.nan, 0)] * len(samples)
    for n, places in by_size.items():
        if n == 0:
            continue
        table = np.stack([finite[place] for place in places])
        mean = table.mean(axis=1)
        half = np.full(len(places), math.nan)
        if n > 1:
            half = _quantile(0.5 + level / 2, n - 1) * table.std(axis=1, ddof=1) / math.sqrt(n)
            half[half < 1e-9 * np.abs(mean)] = 0.0  # rounding of equal values, no spread
        ends = zip(mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), strict=True)
        for place, (middle, low, high) in zip(places, ends, strict=True):
            found[place] = Interval(middle, low, high, n)
    return found


def shared(frame: pd.DataFrame, metric: str) -> NDArray[np.bool_]:
    """The rows whose value of this metric may be that of a whole pack: timings and memory."""
    if not is_timing(metric) or "pack_size" not in frame:
        return np.zeros(len(frame), dtype=np.bool_)
    return frame["pack_size"].to_numpy(dtype=np.float64) > 1


def measurements(values: NDArray[np.float64], shared: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values that were measured apart from each other, one or more of `values`.

    Cells of a pack are timed together, and each has its share: one and the same number, to the
    last bit, which is one measurement however many seeds carry it.

    >>> measurements(np.array([0.93, 0.93, 0.95]), np.array([True, True, True])).tolist()
    [0.93, 0.95]
    >>> measurements(np.array([0.25, 0.25]), np.array([False, False])).tolist()
    [0.25, 0.25]
    """
    return np.concatenate([values[~shared], np.unique(values[shared])])


@functools.cache
def _quantile(probability: float, freedom: int) -> float:
    """Student's t quantile; a table asks for the same few thousands of times."""
    return float(stdtrit(freedom, probability))


def _require_one_design(rows: pd.DataFrame) -> None:
    one = "design" in rows and holds_one_value(rows["design"])
    others = () if one else varying(rows)
    if others:
        raise UsageError(
            f"an interval is over seeds alone, but the rows also differ in {', '.join(others)}: "
            f"add {'it' if len(others) == 1 else 'them'} to `by` or select one value"
        )
    if rows["seed"].duplicated().any():
        seed = value_text(rows.loc[rows["seed"].duplicated(), "seed"].iloc[0])
        raise UsageError(f"a seed counts once, but seed {seed} is there twice: report one store")


@dataclass(frozen=True)
class _Columns:
    """The columns of a frame that a summary of one metric needs, as arrays."""

    metric: str
    value: NDArray[np.float64]
    shared: NDArray[np.bool_]
    reason: NDArray[Any] | None
    status: NDArray[Any]

    @classmethod
    def of(cls, frame: pd.DataFrame, metric: str) -> "_Columns":
        reason = f"{metric}_reason"
        return cls(
            metric,
            frame[metric].to_numpy(dtype=np.float64),
            shared(frame, metric),
            frame[reason].to_numpy(dtype=object) if reason in frame else None,
            frame["status"].to_numpy(dtype=object),
        )

    def first_reason(self, rows: Places) -> str | None:
        """The first reason in alphabetical order why a value is missing, of a finished cell if
        one lacks it.
        """
        if self.reason is None:
            return None
        lacking = rows[np.isnan(self.value[rows])]
        told = [(row, self.reason[row]) for row in lacking if not is_missing(self.reason[row])]
        done = [reason for row, reason in told if self.status[row] == "done"]
        return min(map(str, done or [reason for _, reason in told]), default=None)

    def summaries(self, designs: Sequence[Places]) -> list[dict[str, Any]]:
        """The row of `summarise` for each of the designs."""
        results = intervals([measurements(self.value[rows], self.shared[rows]) for rows in designs])
        return [
            {
                "mean": result.mean,
                "low": result.low,
                "high": result.high,
                "n": result.n,
                "cells": len(rows),
                "diverged": int((self.status[rows] == "diverged").sum()),
                "reason": self.first_reason(rows) if result.n < len(rows) else None,
            }
            for rows, result in zip(designs, results, strict=True)
        ]


def design_summaries(
    frame: pd.DataFrame, designs: Sequence[Places], metrics: Sequence[str]
) -> list[dict[str, dict[str, Any]]]:
    """The row of `summarise` for each design and each metric.

    Args:
        frame: rows as `tidy` gives them.
        designs: the places in the frame of the rows of each design, one row a seed.
        metrics: the names of metric columns.

    Raises:
        NotComparable: the rows of a design may not be compared in one of the metrics.
        UsageError: the rows of a design differ in more than the seed.
    """
    _require_designs(frame, designs)
    for metric in {basis(metric): metric for metric in metrics}.values():
        if refusal(frame, metric) is not None:
            for rows in designs:
                require_comparable(frame.iloc[rows], metric)
    found = [_Columns.of(frame, metric).summaries(designs) for metric in metrics]
    return [dict(zip(metrics, of_one, strict=True)) for of_one in zip(*found, strict=True)]


def _require_designs(frame: pd.DataFrame, designs: Sequence[Places]) -> None:
    seed = frame["seed"].to_numpy(dtype=object)
    design = frame["design"].to_numpy(dtype=object) if "design" in frame else None
    for rows in designs:
        one = design is not None and len(set(design[rows])) == 1
        if not one or len(set(seed[rows])) < len(rows):
            _require_one_design(frame.iloc[rows])


def summarise(frame: pd.DataFrame, by: Sequence[str], metric: str) -> pd.DataFrame:
    """The mean over seeds of one metric for each combination of the columns `by`.

    Args:
        frame: rows as `tidy` gives them.
        by: the columns in which designs differ: all that vary except the seed.
        metric: the name of a metric column.

    Returns:
        One row a combination: the columns of `by`, `mean`, `low`, `high` (95 % Student t over
        seeds; NaN for one seed), `n` (seeds with a value; of a timing the `measurements`), `cells`
        (seeds with a record), `diverged`, and `reason` (why a value is missing, or None).

    Raises:
        NotComparable: the rows may not be compared in this metric.
        UsageError: the rows of one combination differ in more than the seed.
    """
    if not by:
        (one,) = design_summaries(frame, [np.arange(len(frame))], [metric])
        return pd.DataFrame([one[metric]])
    require_comparable(frame, metric, apart=by)
    parts = frame[list(by)].reset_index(drop=True).groupby(list(by), dropna=False, sort=False)
    places = [same.index.to_numpy() for _, same in parts]
    _require_designs(frame, places)
    keys = (dict(zip(by, key, strict=True)) for key, _ in parts)
    summaries = _Columns.of(frame, metric).summaries(places)
    found = [key | summary for key, summary in zip(keys, summaries, strict=True)]
    found.sort(key=lambda row: tuple(order_key(row[column]) for column in by))
    return pd.DataFrame(found).astype(dict.fromkeys(by, object))


def number(value: float, spread: float = math.nan) -> str:
    """A value with no more figures than its spread supports; 4 significant ones without one.

    >>> number(-103.2468, 1.44), number(0.012345), number(12.0, 0.0), number(-0.77, 12.0)
    ('-103.2', '0.01235', '12', '-1')
    >>> number(2.43e-7, 1.1e-7), number(1.1e-7, 1.1e-7)
    ('2.4e-07', '1.1e-07')
    >>> number(-2.04e26, 8.8e26), number(3.1e12), number(math.inf, 1.0)
    ('-2.0e+26', '3.1e+12', 'inf')
    """
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else str(value)
    if not 0 < spread < math.inf:
        return f"{value:,.0f}" if 10_000 <= abs(value) < _SPELT_OUT else f"{value:.4g}"
    if max(abs(value), spread) >= _SPELT_OUT:
        figures = math.floor(math.log10(max(abs(value), spread))) - math.floor(math.log10(spread))
        return f"{value:.{min(1 + figures, _MOST_DECIMALS)}e}"
    decimals = max(0, 1 - math.floor(math.log10(spread)))
    if decimals <= _MOST_DECIMALS or abs(value) >= 1e-3:
        return f"{value:,.{decimals}f}"
    figures = math.floor(math.log10(abs(value))) + decimals if value else 0
    return f"{value:.{max(figures, 0)}e}"


_MOST_DECIMALS = 6
_SPELT_OUT = 1e9


def summary_text(
    mean: float, low: float, high: float, n: int, cells: int, diverged: int, mark: str = ""
) -> str:
    """One table entry: '-103.2 ± 1.4', followed by the seeds that are missing.

    `mark` follows 'n/a' where no seed has a value.

    >>> summary_text(-103.2468, -104.6868, -101.8068, 3, 3, 0)
    '-103.2 ± 1.4'
    >>> summary_text(-103.0, -104.0, -102.0, 4, 5, 1)
    '-103.0 ± 1.0, div. 1/5'
    >>> summary_text(8.0, 8.0, 8.0, 3, 3, 0)
    '8'
    >>> summary_text(5.8861018, 5.8860934, 5.8861102, 3, 3, 0)
    '5.8861018 ± 0.0000084'
    """
    lost = f"div. {diverged}/{cells}" if diverged else ""
    if n == 0:
        return lost if diverged == cells else ", ".join(filter(None, [f"n/a{mark}", lost]))
    half = (high - low) / 2
    text = number(mean, half)
    if half > 0:
        spread = number(half, half)
        if "e" in spread and "e" not in text:  # as many decimals as the mean
            spread = f"{half:.{len(text.partition('.')[2])}f}"
        text += f" ± {spread}"
    if n < cells - diverged:
        text += f", n {n}/{cells}"
    return f"{text}, {lost}" if lost else text
