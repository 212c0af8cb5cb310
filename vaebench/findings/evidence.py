"""The evidence behind verdicts: rows of records, their arrays and series, and facts.

A statistic is a pure function of an `Evidence`. The functions here select rows, pair them by seed
and turn one number for each seed into a `Statistic`. Missing records raise `Untested`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy import stats

from vaebench.analysis.comparability import require_comparable
from vaebench.analysis.frame import design_text, without_superseded
from vaebench.analysis.labels import value_text
from vaebench.analysis.summary import interval
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell

__all__ = [
    "Evidence",
    "asked",
    "by_seed",
    "data_fact",
    "difference",
    "each_seed",
    "highest",
    "lowest",
    "over_seeds",
    "over_seeds_and_images",
    "rank_correlation",
    "rows_of",
    "select",
    "selection_columns",
    "share_of",
    "values_of",
]

Arrays = Mapping[str, NDArray[Any]]
Fact = Mapping[str, JsonValue]


def _no_arrays(_: str) -> Arrays:
    return {}


@dataclass(frozen=True)
class Evidence:
    """The records that a finding is judged by.

    Attributes:
        frame: rows of the tidy frame (`vaebench.analysis.frame`).
        arrays: reads the arrays of a cell; empty where there are none.
        series: the numbers of each epoch of a cell, by name.
        facts: payloads of fact records, by record id.
        asked: the cells that the finding asks for. They say what is compared, because the largest
            size in an incomplete store is another one.
    """

    frame: pd.DataFrame
    arrays: Callable[[str], Arrays] = _no_arrays
    series: Mapping[str, Mapping[str, Sequence[float | None]]] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    asked: tuple[Cell, ...] = ()


def asked(evidence: Evidence, axis: str) -> list[Any]:
    """The distinct numbers of an axis that the finding asks for, in increasing order."""
    values = {getattr(cell, axis) for cell in evidence.asked}
    return sorted(value for value in values if isinstance(value, int | float))


def rows_of(frame: pd.DataFrame, cells: Iterable[Cell]) -> pd.DataFrame:
    """The rows of these cells, in any state and of any device that trained them.

    A cell that was trained on two devices counts once: the finished one, else the first.
    """
    if frame.empty:
        return frame
    frame = without_superseded(frame)
    devices = frame["device"].unique()
    wanted = {
        (design_text(cell, device), cell.seed): design_text(cell, "any")
        for cell in cells
        for device in devices
    }
    pairs = list(zip(frame["design"], frame["seed"], strict=True))
    kept = frame[[pair in wanted for pair in pairs]]
    keys = pd.Series([(wanted.get(pair), pair[1]) for pair in pairs], index=frame.index)
    kept = kept.sort_values("status", key=lambda state: state != "done", kind="stable")
    return kept[~keys[kept.index].duplicated()].sort_index()


def select(frame: pd.DataFrame, **axes: object) -> pd.DataFrame:
    """The finished rows with these values of these columns.

    Raises:
        Untested: there is none.
    """
    kept = frame[frame["status"] == "done"] if len(frame) else frame
    for name, value in axes.items():
        if len(kept):
            kept = kept[[entry == value for entry in kept[name]]]
    if kept.empty:
        told = ", ".join(f"{name} {value_text(value)}" for name, value in axes.items())
        raise Untested(f"there is no finished record{' of ' + told if told else ''}")
    return kept


def by_seed(frame: pd.DataFrame, metric: str, **axes: object) -> "pd.Series[float]":
    """The values of a metric in the finished rows with these axes, indexed by seed.

    Raises:
        Untested: no such row has a value of the metric.
        ValueError: the axes leave more than one row a seed.
    """
    rows = select(frame, **axes)
    if metric not in rows:
        raise Untested(f"the records hold no {metric}")
    rows = rows[rows[metric].notna()]
    if rows.empty:
        raise Untested(f"no record has a value of {metric}")
    if rows["seed"].duplicated().any():
        raise ValueError(f"one design has one row a seed; {axes} leave several")
    return pd.Series(rows[metric].to_numpy(float), index=rows["seed"].to_numpy())


def difference(
    frame: pd.DataFrame, metric: str, more: Mapping[str, object], less: Mapping[str, object]
) -> "pd.Series[float]":
    """`metric` of `more` minus that of `less`, paired by seed.

    Raises:
        Untested: one of the two is missing.
        NotComparable: the two may not be compared in this metric.
    """
    require_comparable(pd.concat([select(frame, **more), select(frame, **less)]), metric)
    paired = by_seed(frame, metric, **more) - by_seed(frame, metric, **less)
    return paired.dropna()


def each_seed(frame: pd.DataFrame, function: Callable[[pd.DataFrame], float]) -> "pd.Series[float]":
    """`function` of the finished rows of each seed, indexed by seed."""
    parts = select(frame).groupby("seed", sort=True)
    made = {seed: function(rows) for seed, rows in parts}
    return pd.Series(list(made.values()), index=list(made), dtype=float)


def values_of(frame: pd.DataFrame, axis: str, metric: str, values: Sequence[Any]) -> pd.DataFrame:
    """A table of `metric`: a column for each value of `axis`, a row for each seed with all values.

    Raises:
        Untested: a value has no finished row.
    """
    require_comparable(select(frame), metric)
    columns = [by_seed(frame, metric, **{axis: value}) for value in values]
    return pd.concat(columns, axis=1, keys=list(values)).dropna()


def selection_columns(rows: pd.DataFrame) -> tuple[str, str]:
    """The ELBO by which a design is chosen, and that by which it is then compared.

    Records without selection and held-out images have one ELBO for both: such a choice favours
    the chosen design slightly.
    """
    split = ("elbo_selection", "elbo_held_out")
    recorded = all(name in rows and rows[name].notna().all() for name in split)
    return split if recorded else ("elbo", "elbo")


def over_seeds(values: "pd.Series[float]", unit: str) -> Statistic:
    """The mean over seeds with its 95 % Student t interval.

    A seed whose number is not finite, for example the rank correlation of equal numbers, makes the
    statistic not finite.

    Raises:
        Untested: there is no seed.
    """
    if values.empty:
        raise Untested("no seed has all the cells that are compared")
    if not np.isfinite(values.to_numpy(float)).all():
        return Statistic(math.nan, math.nan, math.nan, len(values), unit)
    result = interval([float(value) for value in values])
    return Statistic(result.mean, result.low, result.high, result.n, unit)


def over_seeds_and_images(
    values: "pd.Series[float]", errors: "pd.Series[float]", unit: str
) -> Statistic:
    """The mean over seeds; its 95 % interval holds the spread over seeds and the sampling error
    of the test images.

    All seeds are evaluated on the same images, so the error of the images does not become smaller
    with more seeds. The two half-widths add in quadrature; one seed has that of the images alone.

    Args:
        values: one number a seed, each a mean over test images.
        errors: its standard error over the test images, with the same index.
    """
    found = over_seeds(values, unit)
    half = _NORMAL * math.sqrt(float((errors.loc[values.index].astype(float) ** 2).mean()))
    if not math.isfinite(half):
        return found
    basis: Literal["images", "seeds and images"] = "images"
    if found.n > 1:
        half, basis = math.hypot(half, (found.high - found.low) / 2), "seeds and images"
    return replace(found, low=found.value - half, high=found.value + half, basis=basis)


_NORMAL = 1.959964
"""The 97.5 % quantile of the standard normal distribution."""


def rank_correlation(table: pd.DataFrame) -> Statistic:
    """Spearman's correlation of a metric with an axis, by seed, from a table of `values_of`.

    It is NaN if all numbers are equal.
    """
    ranks = [
        float(stats.spearmanr(table.columns, row).statistic) if np.ptp(row) > 0 else math.nan
        for row in table.to_numpy(float)
    ]
    return over_seeds(pd.Series(ranks, index=table.index, dtype=float), "rank correlation")


def share_of(part: "pd.Series[float]", whole: "pd.Series[float]", what: str) -> Statistic:
    """The mean over seeds of ``part`` as a share of ``whole``, which is `what`.

    Raises:
        Untested: there is no seed, or the whole of a seed is not above 0.
    """
    paired = pd.DataFrame({"part": part, "whole": whole}).dropna()
    if (paired["whole"] <= 0).any():
        raise Untested(f"{what} is not above 0 in every seed, so a share of it has no meaning")
    return over_seeds(paired["part"] / paired["whole"], "share")


def lowest(values: "pd.Series[float]", metric: str, unit: str) -> Statistic:
    """The smallest value of all cells; it has no interval.

    Raises:
        Untested: no cell has a value.
    """
    return _one_of_all(values, metric, unit, pd.Series.min)


def highest(values: "pd.Series[float]", metric: str, unit: str) -> Statistic:
    """The largest value; see `lowest`."""
    return _one_of_all(values, metric, unit, pd.Series.max)


def _one_of_all(
    values: "pd.Series[float]", metric: str, unit: str, which: Callable[["pd.Series[float]"], float]
) -> Statistic:
    there = values.dropna()
    if there.empty:
        raise Untested(f"no record has a value of {metric}")
    return Statistic(float(which(there)), math.nan, math.nan, len(there), unit, "extreme")


def data_fact(evidence: Evidence, dataset: str) -> Fact:
    """The numbers that were computed from the images of a data set.

    Raises:
        Untested: it was not.
    """
    name = f"data-{dataset}"
    if name not in evidence.facts:
        raise Untested(f"nothing is recorded of the images of {dataset}")
    return evidence.facts[name]
