"""The data that statistics are computed from: rows of records, arrays, series and facts.

A statistic is a pure function of an `Evidence`, which selects rows and pairs them by seed. The
functions in this module convert one number per seed to a `Statistic`. Missing records raise
`Untested`.
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

Arrays = Mapping[str, NDArray[Any]]
_NORMAL = 1.959964
"""97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Evidence:
    """The records from which a finding is judged.

    Attributes:
        frame: rows of the tidy frame (`vaebench.analysis.frame`).
        arrays: reads the arrays of a cell; returns an empty mapping if there are none.
        series: maps a cell id to its numbers per epoch, by name.
        facts: payloads of fact records, by record id.
        asked: the cells of the test. They define the compared values, because an incomplete store
            does not contain all of them.
    """

    frame: pd.DataFrame
    arrays: Callable[[str], Arrays] = lambda _: {}
    series: Mapping[str, Mapping[str, Sequence[float | None]]] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    asked: tuple[Cell, ...] = ()

    def values(self, axis: str) -> list[Any]:
        """Return the distinct numbers of an axis in the cells of the test, in increasing order."""
        found = {getattr(cell, axis) for cell in self.asked}
        return sorted(value for value in found if isinstance(value, int | float))

    def where(self, **axes: object) -> "Evidence":
        """Select the finished records with these values of these axes.

        Raises:
            Untested: there is no such record.
        """
        kept = self.frame
        for name, value in {"status": "done", **axes}.items():
            if len(kept):
                kept = kept[[entry == value for entry in kept[name]]]
        if kept.empty:
            told = ", ".join(f"{name} {value_text(value)}" for name, value in axes.items())
            raise Untested(f"there is no finished record{' of ' + told if told else ''}")
        return replace(self, frame=kept)

    def by_seed(self, metric: str, **axes: object) -> "pd.Series[float]":
        """Return a metric of the finished records of one design, indexed by seed.

        Raises:
            Untested: no such record has a value of the metric.
            ValueError: the axes select several records of one seed.
        """
        rows = self.where(**axes).frame
        if metric not in rows or rows[metric].isna().all():
            raise Untested(f"no record has a value of {metric}")
        known = rows[rows[metric].notna()]
        if known["seed"].duplicated().any():
            raise ValueError(f"axes must select one record per seed; {axes} select several")
        return pd.Series(known[metric].to_numpy(float), index=known["seed"].to_numpy())

    def difference(
        self, metric: str, more: Mapping[str, object], less: Mapping[str, object]
    ) -> "pd.Series[float]":
        """Return a metric of the design `more` minus that of the design `less`, by seed.

        Raises:
            Untested: a design has no record.
            NotComparable: the designs cannot be compared in this metric.
        """
        first, second = self.where(**more), self.where(**less)
        require_comparable(pd.concat([first.frame, second.frame]), metric)
        return (first.by_seed(metric) - second.by_seed(metric)).dropna()

    def table(self, axis: str, metric: str, values: Sequence[object] | None = None) -> pd.DataFrame:
        """Tabulate a metric: one column per value of `axis`, one row per seed with all values.

        Args:
            axis: name of the compared axis.
            metric: name of the metric.
            values: values of the axis; by default all numbers over the cells of the test.

        Raises:
            Untested: a value has no finished record.
        """
        require_comparable(self.where().frame, metric)
        values = self.values(axis) if values is None else values
        columns = [self.by_seed(metric, **{axis: value}) for value in values]
        return pd.concat(columns, axis=1, keys=list(values)).dropna()

    def each_cell(self, function: Callable[..., float], *arrays: str) -> "pd.Series[float]":
        """Return ``function(row, *arrays)`` for each finished record, indexed by seed.

        Args:
            function: returns a number from a row and the named arrays of its cell.
            arrays: names of arrays.

        Raises:
            Untested: a record does not have one of the arrays.
        """
        found = {}
        for row in self.where().frame.sort_values("seed").to_dict("records"):
            kept = self.arrays(row["cell_id"]) if arrays else {}
            for name in arrays:
                if name not in kept:
                    raise Untested(f"the records do not contain {name.replace('_', ' ')}")
            found[row["seed"]] = function(row, *(kept[name] for name in arrays))
        return pd.Series(found, dtype=float)

    def selection(self) -> tuple[str, str]:
        """Return the ELBO metric for choosing a design, and the one for comparing it.

        Records without selection and held-out images have one ELBO for both purposes; then the
        score of the chosen design is slightly optimistic.
        """
        rows, split = self.where().frame, ("elbo_selection", "elbo_held_out")
        recorded = all(name in rows and rows[name].notna().all() for name in split)
        return split if recorded else ("elbo", "elbo")

    def data_fact(self, name: str) -> Any:
        """Return a recorded property of the data set of the cells: a number or a list.

        Raises:
            Untested: the property is not recorded.
        """
        dataset = self.asked[0].dataset
        value = self.facts.get(f"data-{dataset}", {}).get(name)
        if value is None:
            raise Untested(f"{name} is not recorded for the images of {dataset}")
        return value


def rows_of(frame: pd.DataFrame, cells: Iterable[Cell]) -> pd.DataFrame:
    """Select the rows of these cells, in any state and from any device.

    If a cell was trained on two devices, one row is kept: a finished one if there is one.
    """
    if frame.empty:
        return frame
    frame = without_superseded(frame)
    wanted = {
        (design_text(cell, device), cell.seed): design_text(cell, "any")
        for cell in cells
        for device in frame["device"].unique()
    }
    pairs = list(zip(frame["design"], frame["seed"], strict=True))
    kept = frame[[pair in wanted for pair in pairs]]
    keys = pd.Series([(wanted.get(pair), pair[1]) for pair in pairs], index=frame.index)
    kept = kept.sort_values("status", key=lambda state: state != "done", kind="stable")
    return kept[~keys[kept.index].duplicated()].sort_index()


def over_seeds(values: "pd.Series[float]", unit: str = "nats/image") -> Statistic:
    """Return the mean over seeds with its 95 % Student t interval.

    If the number of a seed is not finite, for example the rank correlation of equal numbers, the
    statistic is NaN.

    Raises:
        Untested: there is no seed.
    """
    if values.empty:
        raise Untested("no seed has all the cells that are compared")
    if not np.isfinite(values.to_numpy(float)).all():
        return Statistic(math.nan, math.nan, math.nan, len(values), unit)
    result = interval(values.tolist())
    return Statistic(result.mean, result.low, result.high, result.n, unit)


def over_seeds_and_images(values: "pd.Series[float]", errors: "pd.Series[float]") -> Statistic:
    """Return the mean over seeds; its interval includes the sampling error of the test images.

    All seeds are evaluated on the same images, so the error of the images does not decrease with
    more seeds. The two half-widths are added in quadrature; with one seed only the error of the
    images is used.

    Args:
        values: one number per seed in nats/image, each a mean over test images.
        errors: standard errors over the test images, with the same index.
    """
    found = over_seeds(values)
    half = _NORMAL * math.sqrt(float((errors.loc[values.index].astype(float) ** 2).mean()))
    if not math.isfinite(half):
        return found
    basis: Literal["images", "seeds and images"] = "images"
    if found.n > 1:
        half, basis = math.hypot(half, (found.high - found.low) / 2), "seeds and images"
    return replace(found, low=found.value - half, high=found.value + half, basis=basis)


def rank_correlation(table: pd.DataFrame) -> Statistic:
    """Return the mean over seeds of Spearman's correlation between a metric and an axis.

    Args:
        table: the metric, from `Evidence.table`. A row of equal numbers makes the result NaN.
    """
    ranks = [
        float(stats.spearmanr(table.columns, row).statistic) if np.ptp(row) > 0 else math.nan
        for row in table.to_numpy(float)
    ]
    return over_seeds(pd.Series(ranks, index=table.index, dtype=float), "rank correlation")


def share_of(part: "pd.Series[float]", whole: "pd.Series[float]", what: str) -> Statistic:
    """Return the mean over seeds of ``part / whole``.

    Args:
        part, whole: one number per seed.
        what: name of ``whole`` for the message.

    Raises:
        Untested: there is no seed, or ``whole`` is not positive in every seed.
    """
    paired = pd.DataFrame({"part": part, "whole": whole}).dropna()
    if (paired["whole"] <= 0).any():
        raise Untested(f"{what} must be positive in every seed to be a denominator; it is not")
    return over_seeds(paired["part"] / paired["whole"], "share")


def extreme(
    pick: Callable[["pd.Series[float]"], float], values: "pd.Series[float]", unit: str
) -> Statistic:
    """Return the smallest (`min`) or largest (`max`) value over all cells, without an interval.

    Raises:
        Untested: no cell has a value.
    """
    known = values.dropna()
    if known.empty:
        raise Untested("no record has all the values that are compared")
    return Statistic(float(pick(known)), math.nan, math.nan, len(known), unit, "extreme")
