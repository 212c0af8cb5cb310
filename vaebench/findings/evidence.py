"""The evidence behind verdicts: rows of records, their arrays and series, and facts.

A statistic is a pure function of an `Evidence`, which selects rows and pairs them by seed. The
functions here turn one number for each seed into a `Statistic`. Missing records raise `Untested`.
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
"""The 97.5 % quantile of the standard normal distribution."""


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
    arrays: Callable[[str], Arrays] = lambda _: {}
    series: Mapping[str, Mapping[str, Sequence[float | None]]] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    asked: tuple[Cell, ...] = ()

    def values(self, axis: str) -> list[Any]:
        """The distinct numbers of an axis that the finding asks for, in increasing order."""
        found = {getattr(cell, axis) for cell in self.asked}
        return sorted(value for value in found if isinstance(value, int | float))

    def where(self, **axes: object) -> "Evidence":
        """The finished records with these values of these axes.

        Raises:
            Untested: there is none.
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
        """The values of a metric in the finished records of one design, indexed by seed.

        Raises:
            Untested: no such record has a value of the metric.
            ValueError: the axes leave more than one record of a seed.
        """
        rows = self.where(**axes).frame
        if metric not in rows or rows[metric].isna().all():
            raise Untested(f"no record has a value of {metric}")
        known = rows[rows[metric].notna()]
        if known["seed"].duplicated().any():
            raise ValueError(f"one design has one row a seed; {axes} leave several")
        return pd.Series(known[metric].to_numpy(float), index=known["seed"].to_numpy())

    def difference(
        self, metric: str, more: Mapping[str, object], less: Mapping[str, object]
    ) -> "pd.Series[float]":
        """`metric` of the design `more` minus that of `less`, by seed.

        Raises:
            Untested: one of the two is missing.
            NotComparable: the two may not be compared in this metric.
        """
        first, second = self.where(**more), self.where(**less)
        require_comparable(pd.concat([first.frame, second.frame]), metric)
        return (first.by_seed(metric) - second.by_seed(metric)).dropna()

    def table(self, axis: str, metric: str, values: Sequence[object] | None = None) -> pd.DataFrame:
        """A column for each value of `axis`, a row for each seed that has all of them.

        Args:
            axis: the axis that is compared.
            metric: the metric in the table.
            values: of the axis; by default all numbers that the finding asks for.

        Raises:
            Untested: a value has no finished record.
        """
        require_comparable(self.where().frame, metric)
        values = self.values(axis) if values is None else values
        columns = [self.by_seed(metric, **{axis: value}) for value in values]
        return pd.concat(columns, axis=1, keys=list(values)).dropna()

    def each_cell(self, function: Callable[..., float], *arrays: str) -> "pd.Series[float]":
        """``function(row, *arrays)`` of the finished record of each seed, indexed by seed.

        Raises:
            Untested: a record does not keep one of the arrays of these names.
        """
        found = {}
        for row in self.where().frame.sort_values("seed").to_dict("records"):
            kept = self.arrays(row["cell_id"]) if arrays else {}
            for name in arrays:
                if name not in kept:
                    raise Untested(f"the records do not keep {name.replace('_', ' ')}")
            found[row["seed"]] = function(row, *(kept[name] for name in arrays))
        return pd.Series(found, dtype=float)

    def selection(self) -> tuple[str, str]:
        """The ELBO by which a design is chosen, and that by which it is then compared.

        Records without selection and held-out images have one ELBO for both: such a choice favours
        the chosen design slightly.
        """
        rows, split = self.where().frame, ("elbo_selection", "elbo_held_out")
        recorded = all(name in rows and rows[name].notna().all() for name in split)
        return split if recorded else ("elbo", "elbo")

    def data_fact(self, name: str) -> Any:
        """A number or list that was computed from the images of the data set of the cells.

        Raises:
            Untested: it is not recorded.
        """
        dataset = self.asked[0].dataset
        value = self.facts.get(f"data-{dataset}", {}).get(name)
        if value is None:
            raise Untested(f"{name} is not recorded of the images of {dataset}")
        return value


def rows_of(frame: pd.DataFrame, cells: Iterable[Cell]) -> pd.DataFrame:
    """The rows of these cells, in any state and of any device that trained them.

    A cell that was trained on two devices counts once: the finished one, else the first.
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
    result = interval(values.tolist())
    return Statistic(result.mean, result.low, result.high, result.n, unit)


def over_seeds_and_images(values: "pd.Series[float]", errors: "pd.Series[float]") -> Statistic:
    """The mean over seeds; its 95 % interval holds the spread over seeds and the sampling error
    of the test images.

    All seeds are evaluated on the same images, so the error of the images does not become smaller
    with more seeds. The two half-widths add in quadrature; one seed has that of the images alone.

    Args:
        values: one number a seed in nats/image, each a mean over test images.
        errors: its standard error over the test images, with the same index.
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
    """Spearman's correlation of a metric with an axis, by seed, from an `Evidence.table`.

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


def extreme(
    pick: Callable[["pd.Series[float]"], float], values: "pd.Series[float]", unit: str
) -> Statistic:
    """The smallest (`min`) or largest (`max`) value of all cells; it has no interval.

    Raises:
        Untested: no cell has a value.
    """
    known = values.dropna()
    if known.empty:
        raise Untested("no record has all the values that are compared")
    return Statistic(float(pick(known)), math.nan, math.nan, len(known), unit, "extreme")
