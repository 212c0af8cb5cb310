"""Many seeds of one design into a mean, its 95 % Student t interval and n.

The interval is over seeds alone: the estimator's standard error (over images) is another thing
and never enters it. One seed has no interval. A diverged or missing seed is counted and shown,
never averaged away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from vaebench.analysis.comparability import require_comparable
from vaebench.analysis.labels import order_key, value_text, varying

__all__ = ["Interval", "interval", "number", "summarise", "summary_text"]


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
    finite = np.asarray([v for v in values if math.isfinite(v)], dtype=np.float64)
    n = len(finite)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * finite.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def _require_one_design(rows: pd.DataFrame, by: Sequence[str]) -> None:
    one = "design" in rows and rows["design"].nunique() == 1
    others = () if one else varying(rows, without=by)
    if others:
        raise ValueError(
            f"an interval is over seeds alone, but the rows also differ in {', '.join(others)}: "
            f"add {'it' if len(others) == 1 else 'them'} to `by` or select one value"
        )
    if rows["seed"].duplicated().any():
        seed = value_text(rows.loc[rows["seed"].duplicated(), "seed"].iloc[0])
        raise ValueError(f"a seed counts once, but seed {seed} is there twice: report one store")


def _first_reason(rows: pd.DataFrame, metric: str) -> str | None:
    column = f"{metric}_reason"
    if column not in rows:
        return None
    missing = rows[rows[metric].isna() & rows[column].notna()]
    done = missing[missing["status"] == "done"]
    return min(map(str, (missing if done.empty else done)[column]), default=None)


def _summary(rows: pd.DataFrame, metric: str) -> dict[str, object]:
    result = interval(rows[metric].to_numpy(dtype=np.float64))
    return {
        "mean": result.mean,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "cells": len(rows),
        "diverged": int((rows["status"] == "diverged").sum()),
        "reason": _first_reason(rows, metric),
    }


def summarise(frame: pd.DataFrame, by: Sequence[str], metric: str) -> pd.DataFrame:
    """The mean over seeds of one metric for each combination of the columns `by`.

    Args:
        frame: rows as `load_results` gives them.
        by: the columns that tell designs apart; all that vary, the seed excepted.
        metric: the name of a metric column.

    Returns:
        One row a combination: the columns of `by`, `mean`, `low`, `high` (95 % Student t over
        seeds; NaN for one seed), `n` (seeds with a value), `cells` (seeds with a record),
        `diverged`, and `reason` (why a value is missing, or None).

    Raises:
        NotComparable: the rows may not be compared in this metric.
        ValueError: the rows of one combination differ in more than the seed.
    """
    require_comparable(frame, metric, apart=by)
    if not by:
        _require_one_design(frame, by)
        return pd.DataFrame([_summary(frame, metric)])
    found = []
    for key, rows in frame.groupby(list(by), dropna=False, sort=False):
        _require_one_design(rows, by)
        found.append(dict(zip(by, key, strict=True)) | _summary(rows, metric))
    found.sort(key=lambda row: tuple(order_key(row[column]) for column in by))
    return pd.DataFrame(found).astype(dict.fromkeys(by, object))


def number(value: float, spread: float = math.nan) -> str:
    """A value with no more figures than its spread supports; 4 significant ones without one.

    >>> number(-103.2468, 1.44), number(0.012345), number(12.0, 0.0)
    ('-103.2', '0.01235', '12')
    """
    if math.isnan(value):
        return "n/a"
    if math.isnan(spread) or spread <= 0:
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    decimals = max(0, 1 - math.floor(math.log10(spread)))
    return f"{value:,.{min(decimals, 6)}f}" if spread < 10 or abs(value) >= 1 else f"{value:.2g}"


def summary_text(mean: float, low: float, high: float, n: int, cells: int, diverged: int) -> str:
    """One table entry: '-103.2 ± 1.4', with what is missing said beside it.

    >>> summary_text(-103.2468, -104.6868, -101.8068, 3, 3, 0)
    '-103.2 ± 1.4'
    >>> summary_text(-103.0, -104.0, -102.0, 4, 5, 1)
    '-103.0 ± 1.0, div. 1/5'
    """
    lost = f"div. {diverged}/{cells}" if diverged else ""
    if n == 0:
        return lost if diverged == cells else ", ".join(["n/a", lost] if lost else ["n/a"])
    half = (high - low) / 2
    if half < 1e-9 * abs(mean):  # rounding of equal values, no spread
        half = 0.0
    text = number(mean, half)
    if half > 0:
        text += f" ± {number(half, half)}"
    if n < cells - diverged:
        text += f", n {n}/{cells}"
    return f"{text}, {lost}" if lost else text
