"""Two sets of records compared: paired by seed, equal in every axis that is not compared.

The compared axes have one value on each side, and these values differ. In all other axes a cell and
its partner are equal. The interval is over the paired differences of the seeds, so an effect of the
seed on both sides cancels.
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

from vaebench.analysis.columns import AXIS_COLUMNS, METRIC_COLUMNS, unit
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
from vaebench.grid.cell import AXES, is_own_data
from vaebench.grid.spec import parse_override
from vaebench.grid.values import closest

_SELECTION = re.compile(r"(?P<store>.+?):(?P<words>[A-Za-z_]+=.*)")
_FEW = 6


@dataclass(frozen=True)
class Comparison:
    """Side b against side a in one metric.

    Attributes:
        metric: the name of the metric that is compared.
        apart: the compared axes: axis -> its value in a, and in b.
        frame: one row for each design. The axes in which the designs differ; `a` and `b`, the means
            over the paired seeds; `difference`, the mean of b - a, with `low` and `high`, its 95 %
            Student t interval (NaN for one seed), and `p`, the p-value of the paired t test with
            Holm's adjustment for the number of rows; `n`, the seeds with a value on both sides, for
            a timing the pairs that were measured separately; `cells`, the seeds with a record on
            both sides; `together`, for a timing the seeds of one pack.
        alone: the number of records of a, and of b, without a partner on the other side.
        without: the number of paired records of a, and of b, without a value, by reason.
        unused: a line for each record of the two folders that could not be used.
        notes: a line for each side with records of an older version of the numerics.
        records: the paired rows of both sides.
    """

    metric: str
    apart: Mapping[str, tuple[Hashable, Hashable]]
    frame: pd.DataFrame
    alone: tuple[int, int]
    without: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    records: pd.DataFrame = field(default_factory=pd.DataFrame)

    def _repr_html_(self) -> str:
        sides = [
            f"{axis}: {value_text(a)} (a), {value_text(b)} (b)"
            for axis, (a, b) in self.apart.items()
        ]
        title = escape(f"{self.metric} [{unit(self.metric)}], b - a. {'; '.join(sides)}")
        notes = "".join(f"<p>{escape(note)}</p>" for note in (*self.notes, *self.unused))
        table = self.frame.to_html(index=False, float_format="{:.4g}".format, na_rep="")
        return f"<p><strong>{title}</strong></p>{table}{notes}"


def compare(a: Path | str, b: Path | str, metric: str = "elbo") -> Comparison:
    """Compare two results folders, or two designs: `DIR:axis=value,axis=value` selects one.

    Raises:
        NotComparable: the values mean different things; the text says which.
        UsageError: there is no such metric, axis or value, or no cell has a partner.
        FileNotFoundError: there is no such folder.
        StorageError: a folder can't be read.
        RecordError: none of a folder's records can be used.
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
            raise UsageError(f"{store} holds no record of a cell")
        frame = _selected(every, chosen, str(side))
        frames.append(without_superseded(frame))
        unused += map(str, damages)
        notes += [f"{store}: {note}" for note in outdated_notes(frame)]
    tell_networks_apart(*frames)
    found = paired(frames[0], frames[1], metric)
    return replace(found, unused=tuple(dict.fromkeys(unused)), notes=tuple(dict.fromkeys(notes)))


def parse_side(text: str) -> tuple[Path, dict[str, Hashable]]:
    """Split `DIR:axis=value,axis=value` into the folder and the selected values.

    >>> parse_side("results/quick:sigma=0.1,latent_dim=8")
    (PosixPath('results/quick'), {'sigma': 0.1, 'latent_dim': 8})

    Raises:
        UsageError: there is no such axis or value.
    """
    found = _SELECTION.fullmatch(text)
    if found is None:
        return Path(text), {}
    chosen: dict[str, Hashable] = {}
    for axis, value in map(_choice, re.split(r",(?=\s*[A-Za-z_]+=)", found["words"])):
        if axis in chosen:
            raise UsageError(f"a side of a comparison has one value of an axis; {axis} has two")
        chosen[axis] = value
    return Path(found["store"]), chosen


def _choice(word: str) -> tuple[str, Hashable]:
    """The axis and the checked value of `axis=value`."""
    try:
        axis, values = parse_override(word)
    except GridError:
        raise UsageError(f"a selection is DIR:axis=value; got {word!r}") from None
    if axis not in AXES:
        raise UsageError(f"there is no axis {axis!r}{closest(axis, AXES)}")
    if len(values) != 1:
        raise UsageError(f"a side of a comparison has one value of an axis; got {word!r}")
    value, edition = values[0], ""
    if axis == "dataset" and isinstance(value, str) and is_own_data(value):
        value = f"./{Path(value).name}"  # as records have it
    if axis == "architecture" and isinstance(value, str):
        # A version of a user's network, as tables name it.
        value, at, digest = value.partition(EDITION)
        edition = at + digest
    try:
        checked = AXES[axis].check(value)
        return axis, f"{checked}{edition}" if edition else checked
    except ValueError as error:
        raise UsageError(f"{axis}: {error}") from error


def _selected(frame: pd.DataFrame, chosen: Mapping[str, Hashable], side: str) -> pd.DataFrame:
    """The records of one side with the chosen values."""
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
                f"{side} selects no record: its values of {axis} are {there or 'none'}"
            )
        frame = kept
    return frame


def _values_text(values: "pd.Series[Any]") -> str:
    distinct = [value_text(value) for value in ordered(values)]
    return ", ".join(distinct[:_FEW]) + (", ..." if len(distinct) > _FEW else "")


def paired(a: pd.DataFrame, b: pd.DataFrame, metric: str = "elbo") -> Comparison:
    """Pair the rows of two frames, as `tidy` gives them, and take differences b - a.

    Raises:
        NotComparable: the values of a pair mean different things.
        UsageError: there is no such metric, no cell has a partner, or a cell has several.
    """
    if metric not in METRIC_COLUMNS:
        raise UsageError(f"there is no metric {metric!r}{closest(metric, METRIC_COLUMNS)}")
    if a.empty or b.empty:
        raise UsageError("a comparison needs records on both sides; one side has none")
    _require_common_ground(a, b, metric)
    # The compared axes: one value on each side, and not the same.
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
    """The number of records without a usable value, by reason."""
    lacking = rows[rows[metric].isna() | (rows["status"] != "done")]
    reasons = lacking[f"{metric}_reason"].fillna("the cell is " + lacking["status"])
    return {str(why): int(n) for why, n in reasons.value_counts().items()}


def _require_common_ground(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> None:
    """Refuse two sides if no record of one may be compared with one of the other."""
    columns = list(basis(metric))
    grounds = [set(map(tuple, side[columns].map(value_text).to_numpy())) for side in (a, b)]
    if grounds[0].isdisjoint(grounds[1]):
        for side, name in ((a, "first"), (b, "second")):
            if side[metric].isna().all():
                why = ", ".join(f"{reason} ({n})" for reason, n in _without(side, metric).items())
                raise UsageError(f"no record of the {name} side has a value of {metric}: {why}")
        require_comparable(pd.concat([a, b]), metric)


def _keyed(frame: pd.DataFrame, same: Sequence[str], side: str) -> pd.DataFrame:
    """The rows by design, named by the text of its values in `same`, and by seed."""
    frame = frame.sort_values("seed", kind="stable")
    designs = ["\n".join(map(value_text, row)) for row in frame[list(same)].to_numpy()]
    keyed = frame.set_index(pd.MultiIndex.from_arrays([designs, frame["seed"].to_numpy()]))
    twice = keyed.index[keyed.index.duplicated()]
    if len(twice):
        in_what = (
            "their data, which have one name and were edited: keep them in separate stores"
            if keyed.loc[[twice[0]], "data_checksum"].nunique() > 1
            else "the machine only: compare one store"
        )
        raise UsageError(
            f"a seed counts once, but {side} has several records of seed {twice[0][1]} that "
            f"differ in {in_what}"
        )
    return keyed


def _no_partner(a: pd.DataFrame, b: pd.DataFrame, same: Sequence[str]) -> str:
    """Why no cell has a partner: an axis without a common value, else the nearest two cells."""
    rule = "a cell is compared with one that is equal in every other axis; "
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
    return f"{rule}no cell has such a partner: the nearest two differ in {differing}"


_LOOKED_THROUGH: Final = 200
"""Designs of each side among which the nearest two are searched."""
_OF_A_PACK: Final = frozenset(
    {"train_seconds", "step_ms_median", "step_ms_p95", "samples_per_second", "peak_memory_mib"}
)
"""Metrics that are measured for the whole pack of a cell."""


def _require_equal_packs(one: pd.DataFrame, other: pd.DataFrame, metric: str) -> None:
    sizes = pd.DataFrame({"a": one["pack_size"], "b": other["pack_size"]}).dropna().astype(int)
    unequal = sizes[sizes["a"] != sizes["b"]]
    if metric in _OF_A_PACK and len(unequal):
        first = unequal.iloc[0]
        raise NotComparable(
            f"{metric} is not compared over packs of {first['a']} and {first['b']} cells: a pack's "
            "steps and memory are shared by its cells; run both with --pack 1"
        )


def _difference(
    one: pd.DataFrame, other: pd.DataFrame, metric: str, varying: Sequence[str]
) -> dict[str, Any]:
    """The row of `Comparison.frame` for one design, from its rows on both sides."""
    require_comparable(pd.concat([one, other]), metric)
    _require_equal_packs(one, other, metric)
    # The time of a diverged cell covers only the steps before.
    done = (one["status"] == "done") & (other["status"] == "done")
    whole = done & one[metric].notna() & other[metric].notna()
    # Cells of one pack are timed together, so the two have no separate times.
    together = shared(one, metric) & shared(other, metric) & (one[metric] == other[metric])
    whole &= ~together
    pairs = pd.DataFrame({"a": one.loc[whole, metric], "b": other.loc[whole, metric]})
    # Seeds that were trained as one pack share one measurement, which counts once: they are
    # grouped by a number that is equal for rows of one measurement. Timings are not negative.
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
