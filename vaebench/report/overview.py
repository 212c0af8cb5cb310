"""The tables of a report: one row a design, one table for what may be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaebench.analysis.columns import AXIS_COLUMNS, heading, unit
from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.frame import NOT_MEASURED, without_superseded
from vaebench.analysis.kinds import common_text, kind, named_designs
from vaebench.analysis.labels import (
    is_missing,
    ordered,
    plain,
    reading_order,
    shown,
    telling,
    value_text,
    varying,
)
from vaebench.analysis.summary import Interval, design_summaries, intervals, number, summary_text
from vaebench.auditing.peers import hidden_sigmas
from vaebench.grid.cell import AXES
from vaebench.plots.figures import split_places
from vaebench.report.tables import Table

__all__ = [
    "Overview",
    "alike",
    "code_tables",
    "cost_tables",
    "hidden_sigma_table",
    "once",
    "overlap",
    "result_tables",
    "spent_table",
    "unfinished",
    "warnings_table",
]

_ALWAYS: Final = (
    "elbo",
    "reconstruction_error",
    "kl",
    "bits_per_dim",
    "mse",
    "active_units",
)
_IF_MEASURED: Final = (
    "sigma_fitted",
    "iw_bound",
    "posterior_gap",
    "mutual_information",
    "marginal_kl",
    "nonzero_codes",
    "knn_accuracy",
    "tsne_trustworthiness",
)
_COST: Final = (
    "samples_per_second",
    "step_ms_median",
    "step_ms_p95",
    "train_seconds",
    "evaluation_seconds",
    "tsne_seconds",
    "peak_memory_mib",
)


@dataclass(frozen=True)
class Overview:
    """A table to read, and the same numbers in full precision."""

    table: Table
    numbers: pd.DataFrame


class _Footnotes:
    """Numbers each distinct reason once, in the order of appearance."""

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        return f"[{self._marks.setdefault(reason, len(self._marks) + 1)}]"

    def notes(self) -> tuple[str, ...]:
        return tuple(f"[{mark}] {reason}" for reason, mark in self._marks.items())


def _design_axes(frame: pd.DataFrame, always: Sequence[str]) -> list[str]:
    named = [axis for axis in always if frame[axis].notna().any()]
    return sorted(dict.fromkeys([*varying(frame), *named]), key=reading_order)


def _entry(row: Mapping[str, Any], footnotes: _Footnotes) -> str:
    text = summary_text(*(row[name] for name in ("mean", "low", "high", "n", "cells", "diverged")))
    reason = row["reason"]
    if text == "n/a" and reason == NOT_MEASURED:
        return "-"  # a metric that such a design does not have
    if text.startswith("n/a") and not is_missing(reason):
        return text.replace("n/a", f"n/a {footnotes.mark(plain(reason, 300))}", 1)
    return text


def _overview(
    frame: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str], name: str, title: str
) -> Overview:
    footnotes = _Footnotes()
    bound = is_bound(frame)
    texts: list[tuple[str, ...]] = []
    numbers: list[dict[str, object]] = []
    parts = split_places(frame, axes)
    summaries = design_summaries(frame, [rows for _, rows in parts], metrics)
    for (key, rows), found in zip(parts, summaries, strict=True):
        design = tuple(shown(value) for value in key)
        texts.append((*design, str(len(rows)), *(_entry(found[m], footnotes) for m in metrics)))
        numbers.append(dict(zip(axes, key, strict=True)) | _numbers(found))
    table = Table(
        name=name,
        title=title,
        header=(*map(heading, axes), "seeds", *(heading(metric, bound) for metric in metrics)),
        units=(*("" for _ in axes), "", *map(unit, metrics)),
        rows=tuple(texts),
        numeric=(*(axis == "latent_dim" for axis in axes), True, *(True for _ in metrics)),
        notes=footnotes.notes(),
    )
    return Overview(table, pd.DataFrame(numbers))


def _numbers(found: Mapping[str, Mapping[str, Any]]) -> dict[str, object]:
    any_of = next(iter(found.values()))
    row: dict[str, object] = {"seeds": any_of["cells"], "diverged": any_of["diverged"]}
    for metric, one in found.items():
        row[metric] = one["mean"]
        row[f"{metric}_low"] = one["low"]
        row[f"{metric}_high"] = one["high"]
        row[f"{metric}_n"] = int(one["n"])
    return row


def once(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A design and seed counts once for each value of `column`: the finished record, of several
    the one by today's numerics, else the first by name.
    """
    frame = without_superseded(frame)
    order = frame.assign(lost=frame["status"] != "done").sort_values(["lost", "cell_id", "store"])
    kept = order.drop_duplicates([*AXIS_COLUMNS, column]).index
    return _in_one_block(frame.loc[frame.index.isin(kept)])


def _in_one_block(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame with its text as plain objects, which pandas keeps as one table.

    A selection of rows takes every column of pandas' own text type by itself, and a report makes
    a selection for each of thousands of designs.
    """
    text = [name for name, of in frame.dtypes.items() if isinstance(of, pd.StringDtype)]
    return frame.astype(dict.fromkeys(text, object)).copy()


def result_tables(frame: pd.DataFrame) -> list[Overview]:
    """One table for each set of records whose nats may be compared."""
    if frame.empty:
        return []
    made = []
    for group in groups(once(frame, "data_checksum"), "elbo"):
        measured = [m for m in _IF_MEASURED if group.frame[m].notna().any()]
        axes = _design_axes(group.frame, ("likelihood", "sigma", "latent_dim"))
        name, title = f"results-{group.slug}", f"Results on {group.label}"
        found = _overview(group.frame, axes, [*_ALWAYS, *measured], name, title)
        notes = (
            *found.table.notes,
            *_images(group.frame, [*_ALWAYS, *measured]),
            *_ceilings(group.frame),
            *alike(group.frame, axes),
        )
        made.append(replace(found, table=replace(found.table, notes=notes)))
    return made


_NEAR_CEILING: Final = 0.95


def _ceilings(frame: pd.DataFrame) -> tuple[str, ...]:
    """A note where information stands at the logarithm of the number of images, its ceiling."""
    ceiling, told = frame["mutual_information_ceiling"], frame["mutual_information"]
    near = frame[told > _NEAR_CEILING * ceiling]
    if near.empty:
        return ()
    highest = ", ".join(f"{value:.2f}" for value in sorted(set(near["mutual_information_ceiling"])))
    return (
        f"Mutual information can't exceed ln N of the N images that it is worked out on, {highest} "
        "nats here. Values near that say that it is at least so high, and the marginal KL beside "
        "them at most.",
    )


def alike(frame: pd.DataFrame, told: Sequence[str] = ()) -> tuple[str, ...]:
    """The sentence that says what all designs of a table or figure have in common.

    Network, training and what else is not as usual; but for the axes that are `told` anyway.
    """
    same = []
    for axis in AXIS_COLUMNS:
        values = ordered(frame[axis])
        if axis in told or axis in _SAID or len(values) != 1 or is_missing(values[0]):
            continue
        usual = values[0] == AXES[axis].default or values[0] == value_text(AXES[axis].default)
        if axis in _ALWAYS_SAID or not usual:
            same.append(f"{_WORDS.get(axis, axis.replace('_', ' '))} {shown(values[0])}")
    return (f"All have {', '.join(same)}.",) if same else ()


_SAID: Final = frozenset({"dataset", "binarization", "dequantize", "seed", "device"}) | {
    *("eval_samples", "iw_samples", "iw_images", "ais_images", "tsne_points")
}
"""What a title says, or every row, and how closely was measured."""
_ALWAYS_SAID: Final = frozenset({"hidden", "latent_dim", "epochs"})
_WORDS: Final = {"latent_dim": "latent dimension", "hidden": "hidden layers"}

_OF_IMAGES: Final = frozenset({"elbo", "reconstruction_error", "kl", "iw_bound", "posterior_gap"})


def _images(frame: pd.DataFrame, metrics: Sequence[str]) -> tuple[str, ...]:
    """A note on how many test images the nats are means over, where that is recorded."""
    by_count: dict[tuple[int, ...], list[str]] = {}
    for metric in metrics:
        counts = tuple(sorted(set(frame[f"{metric}_n"].dropna().astype(int))))
        if metric in _OF_IMAGES and counts:
            by_count.setdefault(counts, []).append(heading(metric))
    told = [
        f"{', '.join(names)}: {' or '.join(f'{count:,}' for count in counts)}"
        for counts, names in by_count.items()
    ]
    if not told:
        return ()
    apart = "; a posterior gap is over its own images, so it is not IW bound − ELBO of this table"
    return (f"Test images that are averaged over: {'; '.join(told)}{apart * (len(told) > 1)}.",)


def cost_tables(frame: pd.DataFrame) -> list[Overview]:
    """Time and memory of training, one table a machine."""
    made = []
    for place, group in enumerate(_timed(frame), 1):
        packed = (group.frame["pack_size"] > 1).any()
        measured = [m for m in _COST if group.frame[m].notna().any()]
        measured = [*(["pack_size"] if packed else []), *measured]
        axes = _design_axes(group.frame, ("device", "likelihood", "latent_dim"))
        told = telling(axes, [key for key, _ in split_places(group.frame, axes)])
        axes = sorted(told, key=reading_order)
        title = f"Cost of training on {group.label}"
        # A cell that diverged stopped early: its time is none of a training.
        done = group.frame["status"] == "done"
        finished = group.frame.assign(**{m: group.frame[m].where(done) for m in measured})
        cost = _overview(finished, axes, measured, f"cost-{place}", title)
        notes = (*cost.table.notes, _SHARED) if packed else cost.table.notes
        made.append(replace(cost, table=replace(cost.table, notes=notes)))
    return made


_SHARED: Final = (
    "n 1/3: one measurement for three seeds, which were trained as one pack, so it has no "
    "interval. A cell has its share of the pack's step, and its peak memory is the whole pack's: "
    "packs of different sizes are not alike."
)


def spent_table(frame: pd.DataFrame) -> Overview | None:
    """Where the time of the cells went, a row a machine; None where no record tells."""
    told = [(group.label, _spent(group.frame)) for group in _timed(frame)]
    rows = [(label, len(spent), spent.sum()) for label, spent in told if len(spent)]
    if not rows:
        return None
    notes = ["Seconds of all cells added up; in a pack each has its share of the step."]
    silent = frame[frame["train_seconds"].notna() & frame["evaluation_seconds"].isna()]
    finished = int((silent["status"] == "done").sum())
    if finished:
        notes.append(f"{finished} more were recorded before evaluation was timed.")
    if len(silent) > finished:
        notes.append(f"Not counted: {len(silent) - finished} that did not get to evaluation.")
    table = Table(
        name="where-the-time-went",
        title="Where the time of the cells went",
        header=("machine", "cells", *_SPENT),
        units=("", "", *("s" for _ in _SPENT)),
        rows=tuple((label, str(count), *_shares(seconds)) for label, count, seconds in rows),
        numeric=(False, *(True for _ in range(1 + len(_SPENT)))),
        notes=tuple(notes),
    )
    numbers = [
        {"machine": label, "cells": count, **seconds.rename(_seconds_column).to_dict()}
        for label, count, seconds in rows
    ]
    return Overview(table, pd.DataFrame(numbers))


def _seconds_column(words: str) -> str:
    return f"{words} seconds".replace(" ", "_").replace("-", "").lower()


_SPENT: Final = ("training", "t-SNE", "other evaluation")


def _spent(frame: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each cell that tells all of them, a column a kind of work."""
    known = frame.dropna(subset=["train_seconds", "evaluation_seconds"])
    maps = known["tsne_seconds"].fillna(0.0)
    parts = (known["train_seconds"], maps, known["evaluation_seconds"] - maps)
    return pd.DataFrame(dict(zip(_SPENT, parts, strict=True)))


def _shares(seconds: "pd.Series[float]") -> tuple[str, ...]:
    total = float(seconds.sum()) or 1.0
    return tuple(f"{float(part):,.1f} ({float(part) / total:.0%})" for part in seconds)


def _timed(frame: pd.DataFrame) -> tuple[Group, ...]:
    return groups(frame[frame[list(_COST)].notna().any(axis=1)], "train_seconds")


def unfinished(frame: pd.DataFrame) -> Table | None:
    """Why cells are not done, a row a status and kind of reason; None where all are."""
    rows = frame[frame["status"] != "done"]
    if rows.empty:
        return None
    made = []
    for (status, _), same in rows.groupby(["status", rows["status_reason"].map(_kind)]):
        told = common_text([_words(reason) for reason in same["status_reason"]])
        made.append((value_text(status), told, str(len(same)), named_designs(frame, same)))
    return Table(
        name="unfinished",
        title="Cells that did not finish",
        header=("status", "reason", "cells", "designs"),
        units=("", "", "", ""),
        rows=tuple(sorted(made)),
        numeric=(False, False, True, False),
        notes=_own_words(made, "status_reason"),
    )


_OWN_WORDS: Final = (
    "“…” stands for numbers that differ from cell to cell; each cell's own words are in "
    "tables/results.csv, column"
)


def _own_words(rows: Sequence[tuple[str, ...]], column: str) -> tuple[str, ...]:
    """The footnote that an ellipsis in a row needs."""
    return (f"{_OWN_WORDS} {column}.",) if any("…" in text for row in rows for text in row) else ()


def _words(text: object) -> str:
    return plain(text, 300)


def _kind(text: object) -> str:
    return kind(_words(text))


def warnings_table(frame: pd.DataFrame, named: bool = False) -> Table | None:
    """What cells warned of, a row a kind, and how many did; None where none did.

    Args:
        frame: rows as `load_results` gives them.
        named: with a column that names the designs.
    """
    said = (
        frame["warnings"].dropna().astype(str).str.split(" | ", regex=False).explode().map(_words)
    )
    if said.empty:
        return None
    made = []
    for _, same in said.groupby(said.map(kind)):
        cells = frame.loc[same.index.unique()]
        designs = (named_designs(frame, cells),) if named else ()
        made.append((common_text(same.tolist()), str(len(cells)), *designs))
    made.sort(key=lambda row: (-int(row[1]), row[0]))
    return Table(
        name="warnings",
        title="Warnings in the records",
        header=("warning", "cells", "designs")[: 3 if named else 2],
        units=("",) * (3 if named else 2),
        rows=tuple(made),
        numeric=(False, True, False)[: 3 if named else 2],
        notes=_own_words(made, "warnings") if named else (),
    )


def overlap(one: "pd.Series[Any]", other: "pd.Series[Any]") -> bool | None:
    """Whether two intervals over seeds overlap; None where one of them does not exist."""
    ends = [one["low"], one["high"], other["low"], other["high"]]
    if any(math.isnan(end) for end in ends):
        return None
    return bool(one["low"] <= other["high"] and other["low"] <= one["high"])


def hidden_sigma_table() -> Table:
    """The sigma that well-known code bases set by how they reduce and weigh their loss.

    Computed by the audit from each one's own words (`vaebench audit --peers`).
    """
    rows = tuple(
        (
            each.peer,
            each.setting,
            each.formula,
            number(each.sigma),
            ", ".join(each.moves_with) or "-",
        )
        for each in hidden_sigmas()
    )
    return Table(
        name="hidden-sigma",
        title="The sigma you did not choose",
        header=("code base", "setting", "loss per image", "σ", "moves with"),
        units=("", "", "", "pixel", ""),
        rows=rows,
        numeric=(False, False, False, True, False),
    )


_CODE: Final = ("bits for z", "bits for x given z", "bits for x")


def code_tables(frame: pd.DataFrame) -> list[Overview]:
    """The two-part code of an image (Doersch 2016, 2.4.2): bits for z, then for x given z.

    The image is the discrete one, at the precision of its own grey levels; so only designs with a
    `bits_per_dim` have a code, and one table holds what may be compared in it.
    """
    coded = frame[frame["bits_per_dim"].notna() & frame["kl"].notna()]
    made = []
    for group in groups(once(coded, "data_checksum"), "bits_per_dim"):
        axes = _design_axes(group.frame, ("likelihood", "sigma", "latent_dim"))
        parts = split_places(group.frame, axes)
        spreads = [
            intervals([bits[rows] for _, rows in parts]) for bits in _code_lengths(group.frame)
        ]
        texts, numbers = [], []
        for (key, rows), *found in zip(parts, *spreads, strict=True):
            told = (summary_text(f.mean, f.low, f.high, f.n, len(rows), 0) for f in found)
            texts.append((*map(shown, key), str(len(rows)), *told))
            design = dict(zip(axes, key, strict=True))
            numbers.append(design | {"seeds": len(rows)} | _code_numbers(found))
        table = Table(
            name=f"code-{group.slug}",
            title=f"Two-part code of an image of {group.label}",
            header=(*map(heading, axes), "seeds", *_CODE),
            units=(*("" for _ in axes), "", *("bits/image" for _ in _CODE)),
            rows=tuple(texts),
            numeric=(*(axis == "latent_dim" for axis in axes), *(True,) * 4),
        )
        made.append(Overview(table, pd.DataFrame(numbers)))
    return made


def _code_numbers(found: Sequence[Interval]) -> dict[str, object]:
    row: dict[str, object] = {}
    for words, of in zip(_CODE, found, strict=True):
        name = words.replace(" ", "_")
        row |= {name: of.mean, f"{name}_low": of.low, f"{name}_high": of.high, f"{name}_n": of.n}
    return row


def _code_lengths(frame: pd.DataFrame) -> tuple[NDArray[np.float64], ...]:
    """Rate, distortion and their sum in bits, a row a cell."""
    rate = frame["kl"].to_numpy(dtype=np.float64) / math.log(2)
    total = (frame["bits_per_dim"] * frame["data_pixels"]).to_numpy(dtype=np.float64)
    return rate, total - rate, total
