"""Compare two sets of records, paired by seed and by all axes that are not compared.

The two sets are called sides a and b. A compared axis has one value on each side, and the two
values differ. A cell and its partner on the other side are equal in all other axes. The interval is
over the paired differences of the seeds, so effects of the seed on both sides cancel.
"""

import itertools
import operator
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from vaebench.analysis.columns import AXIS_COLUMNS, METRIC_COLUMNS, of_data, unit
from vaebench.analysis.comparability import basis, require_comparable
from vaebench.analysis.contrasts import holm, p_value
from vaebench.analysis.frame import (
    EDITION,
    load_with_damage,
    network_names,
    outdated_notes,
    tell_networks_apart,
    without_superseded,
)
from vaebench.analysis.labels import order_key, ordered, reading_order, value_text
from vaebench.analysis.summary import interval, shared
from vaebench.errors import GridError, NotComparable, RecordError, UsageError
from vaebench.grid.cell import AXES
from vaebench.grid.rules import is_own_data
from vaebench.grid.spec import parse_override
from vaebench.grid.values import closest

_SELECTION = re.compile(r"(?P<store>.+?):(?P<words>[A-Za-z_]+=.*)")
_FEW = 6


@dataclass(frozen=True)
class Comparison:
    """The comparison of side b with side a in one metric.

    Attributes:
        metric: name of the compared metric.
        apart: maps a compared axis to its values in a and b.
        frame: one row per design. The axes in which designs differ; `a` and `b`: means over the
            paired seeds; `difference`: mean of b - a; `low`, `high`: its 95 % Student t interval,
            NaN for one seed; `p`: p-value of the paired t test with Holm's adjustment for the
            number of rows; `n`: seeds with a value on both sides, or for a timing the number of
            separately measured pairs; `cells`: seeds with a record on both sides; `together`: for
            a timing the number of seeds that both sides measured in one pack.
        alone: number of records in a and in b without a partner on the other side.
        without: number of paired records in a and in b without a value, by reason.
        unused: a message for each record that cannot be used.
        notes: a message for each side with records of an older version of the numerics.
        records: paired rows of both sides.
    """

    metric: str
    apart: Mapping[str, tuple[Hashable, Hashable]]
    frame: pd.DataFrame
    alone: tuple[int, int]
    without: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    records: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def unit(self) -> str:
        """The unit of the metric, for tables of numbers that of rows."""
        return of_data(unit(self.metric), self.records)

    def _repr_html_(self) -> str:
        sides = [
            f"{axis}: {value_text(a)} (a), {value_text(b)} (b)"
            for axis, (a, b) in self.apart.items()
        ]
        title = escape(f"{self.metric} [{self.unit}], b - a. {'; '.join(sides)}")
        notes = "".join(f"<p>{escape(note)}</p>" for note in (*self.notes, *self.unused))
        table = self.frame.to_html(index=False, float_format="{:.4g}".format, na_rep="")
        return f"<p><strong>{title}</strong></p>{table}{notes}"


def compare(a: Path | str, b: Path | str, metric: str = "elbo") -> Comparison:
    """Compare two results folders, or two designs.

    Args:
        a: a folder, or `DIR:axis=value,axis=value` to select some of its records.
        b: the same for the other side.
        metric: name of the compared metric.

    Raises:
        NotComparable: the values cannot be compared; the message contains the reason.
        UsageError: a metric, axis or value does not exist, or no cell has a partner.
        FileNotFoundError: a folder does not exist.
        StorageError: a folder cannot be read.
        RecordError: no record of a folder can be used.
    """
    frames: list[pd.DataFrame] = []
    unused: list[str] = []
    notes: list[str] = []
    for side in (a, b):
        store, chosen = parse_side(str(side))
        every, damages = load_with_damage(store)
        if every.empty and damages:
            raise RecordError(
                f"none of the {len(damages)} records of {store} can be used: {damages[0]}"
            )
        if every.empty:
            raise UsageError(f"both sides of a comparison must have records; {store} has none")
        frame = _selected(every, chosen, str(side))
        frames.append(without_superseded(frame))
        unused += map(str, damages)
        notes += [f"{store}: {note}" for note in outdated_notes(frame)]
    tell_networks_apart(*frames)
    found = paired(frames[0], frames[1], metric)
    return replace(found, unused=tuple(dict.fromkeys(unused)), notes=tuple(dict.fromkeys(notes)))


def parse_side(text: str) -> tuple[Path, dict[str, Hashable]]:
    """Split `DIR:axis=value,axis=value` into a folder and selected values.

    >>> parse_side("results/quick:sigma=0.1,latent_dim=8")
    (PosixPath('results/quick'), {'sigma': 0.1, 'latent_dim': 8})

    Raises:
        UsageError: an axis or value does not exist, or an axis is repeated.
    """
    found = _SELECTION.fullmatch(text)
    if found is None:
        return Path(text), {}
    chosen: dict[str, Hashable] = {}
    for axis, value in map(_choice, re.split(r",(?=\s*[A-Za-z_]+=)", found["words"])):
        if axis in chosen:
            raise UsageError(f"an axis must be selected once; {axis} is given twice in {text!r}")
        chosen[axis] = value
    return Path(found["store"]), chosen


def _choice(word: str) -> tuple[str, Hashable]:
    """Return the axis and the checked value of `axis=value`."""
    try:
        axis, values = parse_override(word)
    except GridError:
        raise UsageError(f"a selection must be DIR:axis=value; got {word!r}") from None
    if axis not in AXES:
        raise UsageError(f"there is no axis {axis!r}{closest(axis, AXES)}")
    if len(values) != 1:
        raise UsageError(f"a selection must have one value per axis; got {word!r}")
    value, edition = values[0], ""
    if axis == "dataset" and isinstance(value, str) and is_own_data(value):
        value = f"./{Path(value).name}"  # the form in records
    if axis == "architecture" and isinstance(value, str):
        # Tables name a version of a user's network as `name@digest`.
        value, at, digest = value.partition(EDITION)
        edition = at + digest
    try:
        checked = AXES[axis].check(value)
        return axis, f"{checked}{edition}" if edition else checked
    except ValueError as error:
        raise UsageError(f"{axis}: {error}") from error


def _selected(frame: pd.DataFrame, chosen: Mapping[str, Hashable], side: str) -> pd.DataFrame:
    """Select the records of one side with the chosen values."""
    for axis, value in chosen.items():
        texts = frame[axis].map(value_text)
        kept = frame[texts == value_text(value)]
        if kept.empty and axis == "architecture":
            # `name` selects all versions of a user's network, `name@digest` one.
            named = zip(texts, frame["network_sha256"], strict=True)
            kept = frame[[value in network_names(text, digest) for text, digest in named]]
        if kept.empty:
            there = _values_text(frame[axis])
            raise UsageError(
                f"{side} selects no record: the values of {axis} there are {there or 'none'}"
            )
        frame = kept
    return frame


def _values_text(values: "pd.Series[Any]") -> str:
    distinct = [value_text(value) for value in ordered(values)]
    return ", ".join(distinct[:_FEW]) + (", ..." if len(distinct) > _FEW else "")


def paired(a: pd.DataFrame, b: pd.DataFrame, metric: str = "elbo") -> Comparison:
    """Compare two tidy frames: pair their rows and compute the differences b - a.

    Raises:
        NotComparable: the values of a pair cannot be compared.
        UsageError: the metric does not exist, no cell has a partner, or a cell has several.
    """
    if metric not in METRIC_COLUMNS:
        raise UsageError(f"there is no metric {metric!r}{closest(metric, METRIC_COLUMNS)}")
    if a.empty or b.empty:
        empty = " and ".join(name for name, side in (("a", a), ("b", b)) if side.empty)
        raise UsageError(f"both sides of a comparison must have records; side {empty} has none")
    _require_common_ground(a, b, metric)
    # Compared axes have one value on each side, and the two values differ.
    values = {axis: (ordered(a[axis]), ordered(b[axis])) for axis in AXIS_COLUMNS if axis != "seed"}
    apart = {
        axis: (left[0], right[0])
        for axis, (left, right) in values.items()
        if len(left) == len(right) == 1 and left != right
    }
    same = [axis for axis in values if axis not in apart]
    one, other = _keyed(a, same, "the first side"), _keyed(b, same, "the second side")
    both = one.index[one.index.isin(other.index)]
    if both.empty:
        raise UsageError(_no_partner(a, b, same))
    one, other = one.loc[both], other.loc[both]
    differing = [axis for axis in same if one[axis].map(value_text).nunique() > 1]
    varying = sorted(differing, key=reading_order)
    rows = [
        _difference(cells, other.loc[cells.index], metric, varying)
        for _, cells in one.groupby(level=0, sort=False)
    ]
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p"] = p
    rows.sort(key=lambda row: tuple(order_key(row[axis]) for axis in varying))
    return Comparison(
        metric,
        apart,
        pd.DataFrame(rows),
        alone=(len(a) - len(both), len(b) - len(both)),
        without=(_without(one, metric), _without(other, metric)),
        records=pd.concat([one, other]),
    )


def _without(rows: pd.DataFrame, metric: str) -> dict[str, int]:
    """Count the records without a usable value, by reason."""
    lacking = rows[rows[metric].isna() | (rows["status"] != "done")]
    reasons = lacking[f"{metric}_reason"].fillna("the cell is " + lacking["status"])
    return {str(why): int(n) for why, n in reasons.value_counts().items()}


def _require_common_ground(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> None:
    """Raise an error if no record of one side may be compared with a record of the other."""
    columns = list(basis(metric))
    grounds = [set(map(tuple, side[columns].map(value_text).to_numpy())) for side in (a, b)]
    if grounds[0].isdisjoint(grounds[1]):
        for side, name in ((a, "first"), (b, "second")):
            if side[metric].isna().all():
                why = ", ".join(f"{reason} ({n})" for reason, n in _without(side, metric).items())
                raise UsageError(f"no record of the {name} side has a value of {metric}: {why}")
        require_comparable(pd.concat([a, b]), metric)


def _keyed(frame: pd.DataFrame, same: Sequence[str], side: str) -> pd.DataFrame:
    """Index the rows by design (the text of its values in `same`) and seed."""
    frame = frame.sort_values("seed", kind="stable")
    designs = ["\n".join(map(value_text, row)) for row in frame[list(same)].to_numpy()]
    keyed = frame.set_index(pd.MultiIndex.from_arrays([designs, frame["seed"].to_numpy()]))
    twice = keyed.index[keyed.index.duplicated()]
    if len(twice):
        in_what = (
            "the contents of their data set: keep the two versions in separate stores"
            if keyed.loc[[twice[0]], "data_checksum"].nunique() > 1
            else "the machine only: compare one store"
        )
        raise UsageError(
            f"a design must have one record per seed, but {side} has several of seed "
            f"{twice[0][1]} that differ in {in_what}"
        )
    return keyed


def _no_partner(a: pd.DataFrame, b: pd.DataFrame, same: Sequence[str]) -> str:
    """Explain why no cell has a partner: an axis without a common value, or the closest cells."""
    rule = "a cell must have a partner that is equal in all axes that are not compared; "
    axes = [*same, "seed"]
    texts = [side[axes].map(value_text).drop_duplicates() for side in (a, b)]
    for axis in axes:
        if set(texts[0][axis]).isdisjoint(texts[1][axis]):
            hint = "" if axis == "seed" else f"; select one on each side, DIR:{axis}=VALUE"
            return (
                f"{rule}the two sides share no {axis}: {_values_text(a[axis])} and "
                f"{_values_text(b[axis])}{hint}"
            )
    pairs = itertools.product(*(side.to_numpy().tolist()[:_LOOKED_THROUGH] for side in texts))
    one, other = min(pairs, key=lambda pair: sum(map(operator.ne, *pair)))
    values = zip(axes, one, other, strict=True)
    differing = ", ".join(f"{axis} ({x} and {y})" for axis, x, y in values if x != y)
    return f"{rule}no cell has one: the closest two differ in {differing}"


_LOOKED_THROUGH: Final = 200
"""Number of designs on each side that are searched for the closest two."""
_OF_A_PACK: Final = frozenset(
    {"train_seconds", "step_ms_median", "step_ms_p95", "samples_per_second", "peak_memory_mib"}
)
"""Metrics that are measured for a whole pack, not for each of its cells."""


def _require_equal_packs(one: pd.DataFrame, other: pd.DataFrame, metric: str) -> None:
    sizes = pd.DataFrame({"a": one["pack_size"], "b": other["pack_size"]}).dropna().astype(int)
    unequal = sizes[sizes["a"] != sizes["b"]]
    if metric in _OF_A_PACK and len(unequal):
        first = unequal.iloc[0]
        raise NotComparable(
            f"{metric} cannot be compared between packs of {first['a']} and {first['b']} cells, "
            "because the cells of a pack share its steps and memory: run both with --pack 1"
        )


def _difference(
    one: pd.DataFrame, other: pd.DataFrame, metric: str, varying: Sequence[str]
) -> dict[str, Any]:
    """Return the row of `Comparison.frame` for one design."""
    require_comparable(pd.concat([one, other]), metric)
    _require_equal_packs(one, other, metric)
    # The time of a diverged cell includes only the steps before it diverged.
    done = (one["status"] == "done") & (other["status"] == "done")
    whole = done & one[metric].notna() & other[metric].notna()
    # Cells of one pack are timed together, so the two have no separate times.
    together = shared(one, metric) & shared(other, metric) & (one[metric] == other[metric])
    whole &= ~together
    pairs = pd.DataFrame({"a": one.loc[whole, metric], "b": other.loc[whole, metric]})
    # Seeds that were trained as one pack share one measurement, which is used once. Rows are
    # grouped by a number that is equal for one measurement; timings are not negative.
    pairs["of_a"], pairs["of_b"] = (
        np.where(shared(rows, metric), rows[metric], -1.0 - np.arange(len(rows)))
        for rows in (one[whole], other[whole])
    )
    means = {"a": "mean", "b": "mean"}
    pairs = pairs.groupby("of_a").agg(means | {"of_b": "first"}).groupby("of_b").agg(means)
    differences = (pairs["b"] - pairs["a"]).to_numpy(dtype="float64")
    result = interval(differences)
    return {axis: one[axis].iloc[0] for axis in varying} | {
        "a": float(pairs["a"].mean()),
        "b": float(pairs["b"].mean()),
        "difference": result.mean,
        "low": result.low,
        "high": result.high,
        "p": p_value(differences),
        "n": result.n,
        "cells": len(one),
        "together": int(together.sum()),
    }
