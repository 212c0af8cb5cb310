"""The mean over the seeds of a design, with its 95 % Student t interval.

The interval includes the spread over seeds only, not the standard error over images. There is no
interval for one seed. Diverged and missing seeds are counted and shown.

A pack is a group of cells that were trained together as one program; its cells share a timing.
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

from vaebench.analysis.comparability import basis, is_timing, refusal, require_comparable
from vaebench.analysis.labels import is_missing, order_key, value_text, varying
from vaebench.errors import UsageError

Places = NDArray[np.intp]
"""Positions of rows in a frame, counted from 0."""


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds with the ends of its 95 % interval, which are NaN for n < 2."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float] | NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return Student's t interval for the mean of independent values, one per seed.

    >>> one = interval([1.0])
    >>> one.mean, one.n, math.isnan(one.low)
    (1.0, 1, True)
    """
    (found,) = intervals([np.asarray(values, dtype=np.float64)], level)
    return found


def intervals(samples: Sequence[NDArray[np.float64]], level: float = 0.95) -> list[Interval]:
    """Return the `interval` of each sample; samples of equal size are computed together."""
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
            half[half < 1e-9 * np.abs(mean)] = 0.0  # equal values, apart from rounding
        ends = zip(mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), strict=True)
        for place, (middle, low, high) in zip(places, ends, strict=True):
            found[place] = Interval(middle, low, high, n)
    return found


def shared(frame: pd.DataFrame, metric: str) -> NDArray[np.bool_]:
    """Return which rows have a value that was measured for a whole pack: time or memory."""
    if not is_timing(metric) or "pack_size" not in frame:
        return np.zeros(len(frame), dtype=np.bool_)
    return frame["pack_size"].to_numpy(dtype=np.float64) > 1


def measurements(values: NDArray[np.float64], shared: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the separately measured values.

    Cells of a pack are timed together, and each gets the same share, equal to the last bit. This is
    one measurement, independent of the number of seeds in the pack.

    Args:
        values: one value per seed.
        shared: whether the value was measured for a pack.

    >>> measurements(np.array([0.93, 0.93, 0.95]), np.array([True, True, True])).tolist()
    [0.93, 0.95]
    >>> measurements(np.array([0.25, 0.25]), np.array([False, False])).tolist()
    [0.25, 0.25]
    """
    return np.concatenate([values[~shared], np.unique(values[shared])])


@functools.cache
def _quantile(probability: float, freedom: int) -> float:
    """Return Student's t quantile; cached, because tables need few values many times."""
    return float(stdtrit(freedom, probability))


def _summaries(frame: pd.DataFrame, designs: Sequence[Places], metric: str) -> list[dict[str, Any]]:
    """Return the columns of `summarise` for one metric, for each design."""
    value, pooled = frame[metric].to_numpy(dtype=np.float64), shared(frame, metric)
    status = frame["status"].to_numpy(dtype=object)
    reasons = f"{metric}_reason"
    reason = (
        frame[reasons].to_numpy(dtype=object) if reasons in frame else np.full(len(frame), None)
    )

    def first_reason(rows: Places) -> str | None:
        """Return the first reason in alphabetical order, of a finished cell if there is one."""
        lacking = [row for row in rows[np.isnan(value[rows])] if not is_missing(reason[row])]
        done = [row for row in lacking if status[row] == "done"]
        return min((str(reason[row]) for row in done or lacking), default=None)

    results = intervals([measurements(value[rows], pooled[rows]) for rows in designs])
    return [
        vars(result)
        | {
            "cells": len(rows),
            "diverged": int((status[rows] == "diverged").sum()),
            "reason": first_reason(rows) if result.n < len(rows) else None,
        }
        for rows, result in zip(designs, results, strict=True)
    ]


def design_summaries(
    frame: pd.DataFrame, designs: Sequence[Places], metrics: Sequence[str]
) -> list[dict[str, dict[str, Any]]]:
    """Summarise several metrics of designs.

    Args:
        frame: rows of the tidy frame.
        designs: positions of the rows of each design, one row per seed.
        metrics: names of metric columns.

    Returns:
        For each design a mapping from the metric to the columns `mean` to `reason` of `summarise`.

    Raises:
        NotComparable: the rows of a design cannot be compared in one of the metrics.
        UsageError: the rows of a design differ in more than the seed.
    """
    _require_designs(frame, designs)
    for metric in {basis(metric): metric for metric in metrics}.values():
        if refusal(frame, metric) is not None:
            for rows in designs:
                require_comparable(frame.iloc[rows], metric)
    found = [_summaries(frame, designs, metric) for metric in metrics]
    return [dict(zip(metrics, of_one, strict=True)) for of_one in zip(*found, strict=True)]


def _require_designs(frame: pd.DataFrame, designs: Sequence[Places]) -> None:
    """Raise UsageError if the rows of a design differ in an axis, or if a seed is repeated."""
    seed = frame["seed"].to_numpy(dtype=object)
    design = frame["design"].to_numpy(dtype=object) if "design" in frame else None
    for rows in designs:
        one = design is not None and len(set(design[rows])) == 1
        others = () if one else varying(frame.iloc[rows])
        if others:
            raise UsageError(
                "rows that are averaged must differ in the seed only; these also differ in "
                f"{', '.join(others)}: add {'it' if len(others) == 1 else 'them'} to `by`, or "
                "select one value"
            )
        if len(set(seed[rows])) < len(rows):
            twice = pd.Series(seed[rows])
            raise UsageError(
                "a seed must not be repeated in a design; there are several records of seed "
                f"{value_text(twice[twice.duplicated()].iloc[0])}: report one store"
            )


def summarise(frame: pd.DataFrame, by: Sequence[str], metric: str) -> pd.DataFrame:
    """Return the mean over seeds of a metric for each combination of the columns `by`.

    Args:
        frame: rows of the tidy frame.
        by: the columns in which designs differ: all that vary except the seed.
        metric: name of a metric column.

    Returns:
        One row per combination with the columns `by`, `mean`, `low` and `high` (95 % Student t
        interval over seeds; NaN for one seed), `n` (seeds with a value; for a timing the number of
        `measurements`), `cells` (seeds with a record), `diverged` (diverged seeds), and `reason`
        (why a value is missing, or None).

    Raises:
        NotComparable: the rows cannot be compared in this metric.
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
    summaries = _summaries(frame, places, metric)
    found = [key | summary for key, summary in zip(keys, summaries, strict=True)]
    found.sort(key=lambda row: tuple(order_key(row[column]) for column in by))
    return pd.DataFrame(found).astype(dict.fromkeys(by, object))


def number(value: float, spread: float = math.nan) -> str:
    """Format a number with as many digits as its spread supports; without one, with 4 digits.

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
    """Format an entry of a table: '-103.2 ± 1.4', followed by the number of missing seeds.

    Args:
        mean, low, high, n, cells, diverged: columns of `summarise`.
        mark: printed after 'n/a' if no seed has a value.

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
