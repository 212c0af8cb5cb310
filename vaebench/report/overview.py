"""The tables of a report: one row per design, one table for what may be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from vaebench.analysis.columns import AXIS_COLUMNS, heading, of_data, unit
from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.frame import NOT_MEASURED, without_superseded
from vaebench.analysis.kinds import by_kind, named_designs
from vaebench.analysis.labels import (
    distinguishing_axes,
    is_missing,
    ordered,
    plain,
    reading_order,
    shown,
    value_text,
    varying,
    without_external,
)
from vaebench.analysis.summary import design_summaries, intervals, number, summary_text
from vaebench.auditing.peers import hidden_sigmas
from vaebench.grid.cell import AXES
from vaebench.plots.selection import split_places
from vaebench.report.tables import Table

_ALWAYS: Final = ("elbo", "reconstruction_error", "kl", "bits_per_dim", "mse", "active_units")
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
_DESIGN: Final = ("likelihood", "sigma", "latent_dim")


def once(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one row per design, seed and value of `column`.

    The finished record is kept; of several, that of the current numerics, else the first by name.
    Text columns become plain objects, which pandas selects rows from faster: a report selects the
    rows of thousands of designs.
    """
    frame = without_superseded(frame)
    order = frame.assign(lost=frame["status"] != "done").sort_values(["lost", "cell_id", "store"])
    kept = order.drop_duplicates([*AXIS_COLUMNS, column]).index
    text = [name for name, of in frame.dtypes.items() if isinstance(of, pd.StringDtype)]
    return frame.loc[frame.index.isin(kept)].astype(dict.fromkeys(text, object)).copy()


class _Footnotes(dict[str, int]):
    """Numbers each distinct reason once, in order of appearance."""

    def mark(self, reason: str) -> str:
        return f"[{self.setdefault(reason, len(self) + 1)}]"

    def notes(self) -> tuple[str, ...]:
        return tuple(f"[{mark}] {reason}" for reason, mark in self.items())


def _entry(row: Mapping[str, Any], footnotes: _Footnotes) -> str:
    reason, mark = row["reason"], ""
    if not row["n"] and not row["diverged"] and reason == NOT_MEASURED:
        return "-"  # a metric that such a design does not have
    if not row["n"] and row["diverged"] < row["cells"] and not is_missing(reason):
        mark = f" {footnotes.mark(plain(reason, 300))}"
    counts = row["n"], row["cells"], row["diverged"]
    return summary_text(row["mean"], row["low"], row["high"], *counts, mark)


def _design_axes(frame: pd.DataFrame, always: Sequence[str]) -> list[str]:
    named = [axis for axis in always if frame[axis].notna().any()]
    if len(without_external(frame)) < len(frame):
        named.append("architecture")
    return sorted(dict.fromkeys([*varying(frame), *named]), key=reading_order)


def _design_table(
    frame: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str], name: str, title: str
) -> Table:
    """A table with one row per design: its axes, the number of seeds, and its metrics."""
    footnotes = _Footnotes()
    texts: list[tuple[str, ...]] = []
    values: list[dict[str, object]] = []
    parts = split_places(frame, axes)
    summaries = design_summaries(frame, [rows for _, rows in parts], metrics)
    for (key, rows), found in zip(parts, summaries, strict=True):
        entries = (_entry(found[metric], footnotes) for metric in metrics)
        texts.append((*map(shown, key), str(len(rows)), *entries))
        first = next(iter(found.values()))
        row = dict(zip(axes, key, strict=True))
        row |= {"seeds": first["cells"], "diverged": first["diverged"]}
        for metric, one in found.items():
            row |= {metric: one["mean"], f"{metric}_low": one["low"], f"{metric}_high": one["high"]}
            row[f"{metric}_n"] = int(one["n"])
        values.append(row)
    bound = is_bound(frame)
    return Table(
        name=name,
        title=title,
        header=(*map(heading, axes), "seeds", *(heading(metric, bound) for metric in metrics)),
        units=(*("" for _ in axes), "", *(of_data(unit(metric), frame) for metric in metrics)),
        rows=tuple(texts),
        numeric=(*(axis == "latent_dim" for axis in axes), True, *(True for _ in metrics)),
        notes=footnotes.notes(),
        values=pd.DataFrame(values),
        keys=tuple(frame["design"].iloc[rows[0]] for _, rows in parts),
    )


def result_tables(frame: pd.DataFrame) -> list[Table]:
    """Return one table for each set of records whose nats may be compared."""
    if frame.empty:
        return []
    made = []
    for group in groups(once(frame, "data_checksum"), "elbo"):
        metrics = [*_ALWAYS, *(m for m in _IF_MEASURED if group.frame[m].notna().any())]
        axes = _design_axes(group.frame, _DESIGN)
        name, title = f"results-{group.slug}", f"Results on {group.label}"
        table = _design_table(group.frame, axes, metrics, name, title)
        notes = (
            *table.notes,
            *_image_counts(group.frame, metrics),
            *_ceilings(group.frame),
            *shared_settings(group.frame, axes),
        )
        made.append(replace(table, notes=notes))
    return made


_NEAR_CEILING: Final = 0.95


def _ceilings(frame: pd.DataFrame) -> tuple[str, ...]:
    """A note if mutual information is close to the logarithm of the number of images."""
    ceiling = frame["mutual_information_ceiling"]
    near = ceiling[frame["mutual_information"] > _NEAR_CEILING * ceiling]
    if near.empty:
        return ()
    highest = ", ".join(f"{value:.2f}" for value in sorted(set(near)))
    return (
        "Mutual information cannot exceed ln N, where N is the number of images that it is "
        f"computed on: {highest} nats here. Values close to that are lower bounds, and the "
        "marginal KL of the same design is an upper bound.",
    )


# The title or each row gives these, or they only say how precisely was measured.
_IN_TITLES: Final = frozenset({"dataset", "binarization", "dequantize", "seed", "device"}) | {
    *("eval_samples", "iw_samples", "iw_images", "ais_images", "local_images", "tsne_points")
}
_ALWAYS_SHARED: Final = frozenset({"hidden", "latent_dim", "epochs"})
_WORDS: Final = {"latent_dim": "latent dimension", "hidden": "hidden layers"}


def shared_settings(frame: pd.DataFrame, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the sentence that gives the settings that all designs of a table or figure share.

    These are the network, its training, and everything that is not the default.

    Args:
        frame: rows as `tidy` gives them.
        without: axes that are given elsewhere.
    """
    same = []
    for axis in AXIS_COLUMNS:
        values = ordered(frame[axis])
        if axis in without or axis in _IN_TITLES or len(values) != 1 or is_missing(values[0]):
            continue
        default = AXES[axis].default
        if axis in _ALWAYS_SHARED or values[0] not in (default, value_text(default)):
            same.append(f"{_WORDS.get(axis, axis.replace('_', ' '))} {shown(values[0])}")
    return (f"All have {', '.join(same)}.",) if same else ()


_PER_IMAGE: Final = frozenset({"elbo", "reconstruction_error", "kl", "iw_bound", "posterior_gap"})


def _image_counts(frame: pd.DataFrame, metrics: Sequence[str]) -> tuple[str, ...]:
    """A note on how many test images the nats are means over, if that is recorded."""
    by_count: dict[tuple[int, ...], list[str]] = {}
    for metric in metrics:
        counts = tuple(sorted(set(frame[f"{metric}_n"].dropna().astype(int))))
        if metric in _PER_IMAGE and counts:
            by_count.setdefault(counts, []).append(heading(metric))
    if not by_count:
        return ()
    parts = (
        f"{', '.join(names)}: {' or '.join(f'{count:,}' for count in counts)}"
        for counts, names in by_count.items()
    )
    note = f"Number of {of_data('test images', frame)}: {'; '.join(parts)}"
    if len(by_count) > 1:
        note += "; posterior gaps have their own images and are not IW bound − ELBO of this table"
    return (f"{note}.",)


def _timed(frame: pd.DataFrame) -> Sequence[Group]:
    if frame.empty:
        return ()
    return groups(frame[frame[list(_COST)].notna().any(axis=1)], "train_seconds")


_PACKED: Final = (
    "n 1/3: one measurement for three seeds, which were trained as one pack, so it has no "
    "interval. A cell has its share of the pack's step, and its peak memory is that of the whole "
    "pack, so packs of different sizes differ in both."
)


def cost_tables(frame: pd.DataFrame) -> list[Table]:
    """Return time and memory of training, one table per machine."""
    made = []
    for place, group in enumerate(_timed(frame), 1):
        packed = bool((group.frame["pack_size"] > 1).any())
        measured = [m for m in _COST if group.frame[m].notna().any()]
        measured = [*(["pack_size"] if packed else []), *measured]
        axes = _design_axes(group.frame, ("device", "likelihood", "latent_dim"))
        axes = distinguishing_axes(axes, [key for key, _ in split_places(group.frame, axes)])
        axes = sorted(axes, key=reading_order)
        # The time of a cell that diverged is incomplete.
        done = group.frame["status"] == "done"
        finished = group.frame.assign(**{m: group.frame[m].where(done) for m in measured})
        title = f"Cost of training on {group.label}"
        table = _design_table(finished, axes, measured, f"cost-{place}", title)
        made.append(replace(table, notes=(*table.notes, _PACKED)) if packed else table)
    return made


_SPENT: Final = ("training", "t-SNE", "other evaluation")
_SPENT_COLUMNS: Final = ("training_seconds", "tsne_seconds", "other_evaluation_seconds")


def spent_table(frame: pd.DataFrame) -> Table | None:
    """Return how the time of the cells was spent, one row per machine; None if not recorded."""
    rows: list[tuple[str, ...]] = []
    values: list[dict[str, object]] = []
    for group in _timed(frame):
        known = group.frame.dropna(subset=["train_seconds", "evaluation_seconds"])
        maps = known["tsne_seconds"].fillna(0.0)
        parts = (known["train_seconds"], maps, known["evaluation_seconds"] - maps)
        seconds = [float(part.sum()) for part in parts]
        if not len(known):
            continue
        total = sum(seconds) or 1.0
        shares = (f"{part:,.1f} ({part / total:.0%})" for part in seconds)
        rows.append((group.label, str(len(known)), *shares))
        values.append({"machine": group.label, "cells": len(known)})
        values[-1] |= dict(zip(_SPENT_COLUMNS, seconds, strict=True))
    if not rows:
        return None
    notes = ["Sum of the seconds of all cells; in a pack each cell has its share of the step."]
    silent = frame[frame["train_seconds"].notna() & frame["evaluation_seconds"].isna()]
    finished = int((silent["status"] == "done").sum())
    if finished:
        notes.append(f"{finished} more were recorded before evaluation was timed.")
    if len(silent) > finished:
        notes.append(f"Not counted: {len(silent) - finished} that did not reach evaluation.")
    return Table(
        name="where-the-time-went",
        title="How the time of the cells was spent",
        header=("machine", "cells", *_SPENT),
        units=("", "", *("s" for _ in _SPENT)),
        rows=tuple(rows),
        numeric=(False, True, *(True for _ in _SPENT)),
        notes=tuple(notes),
        values=pd.DataFrame(values),
    )


def unfinished(frame: pd.DataFrame) -> Table | None:
    """Return why cells did not finish, one row per status and kind of reason; None if all did."""
    rows = frame[frame["status"] != "done"]
    if rows.empty:
        return None
    reasons = rows["status_reason"].map(lambda reason: plain(reason, 300))
    made = []
    for status, cells in rows.groupby("status"):
        for text, same in by_kind(reasons[cells.index]):
            designs = named_designs(frame, rows.loc[same.index])
            made.append((value_text(status), text, str(len(same)), designs))
    return Table(
        name="unfinished",
        title="Cells that did not finish",
        header=("status", "reason", "cells", "designs"),
        units=("", "", "", ""),
        rows=tuple(sorted(made)),
        numeric=(False, False, True, False),
        notes=_full_texts(reasons, made, 1, "status_reason"),
    )


def _full_texts(
    texts: "pd.Series[str]", rows: Sequence[tuple[str, ...]], place: int, column: str
) -> tuple[str, ...]:
    """The footnote on texts that join those of several cells."""
    if {row[place] for row in rows} <= set(texts):
        return ()
    return (
        "Numbers that differ between cells are given as their range; the texts of all cells are "
        f"in tables/results.csv, column {column}.",
    )


def warnings_table(frame: pd.DataFrame, named: bool = False) -> Table | None:
    """Return the kinds of warnings and how many cells gave them; None if there are none.

    Args:
        frame: rows as `tidy` gives them.
        named: add a column with the names of the designs.
    """
    listed = frame["warnings"].dropna().astype(str).str.split(" | ", regex=False).explode()
    texts = listed.map(lambda text: plain(text, 300))
    if texts.empty:
        return None
    made = []
    for text, same in by_kind(texts):
        cells = frame.loc[same.index.unique()]
        designs = (named_designs(frame, cells),) if named else ()
        made.append((text, str(len(cells)), *designs))
    made.sort(key=lambda row: (-int(row[1]), row[0]))
    width = 3 if named else 2
    return Table(
        name="warnings",
        title="Warnings in the records",
        header=("warning", "cells", "designs")[:width],
        units=("",) * width,
        rows=tuple(made),
        numeric=(False, True, False)[:width],
        notes=_full_texts(texts, made, 0, "warnings") if named else (),
    )


def hidden_sigma_table() -> Table:
    """Return the sigma that well-known code sets by the reductions and weights of its loss.

    The audit computes it from the formula of each code base (`vaebench audit --peers`).
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


def code_tables(frame: pd.DataFrame) -> list[Table]:
    """Return the two-part code of an image (Doersch 2016, 2.4.2): bits for z, then for x given z.

    The image is the discrete one, at the precision of its grey levels, so only designs with a
    `bits_per_dim` have a code; one table holds designs that may be compared in it.
    """
    if frame.empty:
        return []
    coded = frame[frame["bits_per_dim"].notna() & frame["kl"].notna()]
    made = []
    for group in groups(once(coded, "data_checksum"), "bits_per_dim"):
        axes = _design_axes(group.frame, _DESIGN)
        parts = split_places(group.frame, axes)
        rate = group.frame["kl"].to_numpy(np.float64) / math.log(2)
        total = (group.frame["bits_per_dim"] * group.frame["data_pixels"]).to_numpy(np.float64)
        lengths = (rate, total - rate, total)
        spreads = [intervals([bits[rows] for _, rows in parts]) for bits in lengths]
        texts, values = [], []
        for (key, rows), *found in zip(parts, *spreads, strict=True):
            entries = (summary_text(f.mean, f.low, f.high, f.n, len(rows), 0) for f in found)
            texts.append((*map(shown, key), str(len(rows)), *entries))
            row = dict(zip(axes, key, strict=True)) | {"seeds": len(rows)}
            for words, of in zip(_CODE, found, strict=True):
                name = words.replace(" ", "_")
                row |= {name: of.mean, f"{name}_low": of.low, f"{name}_high": of.high}
                row[f"{name}_n"] = of.n
            values.append(row)
        table = Table(
            name=f"code-{group.slug}",
            title=f"Two-part code of an image of {group.label}",
            header=(*map(heading, axes), "seeds", *_CODE),
            units=(*("" for _ in axes), "", *("bits/image" for _ in _CODE)),
            rows=tuple(texts),
            numeric=(*(axis == "latent_dim" for axis in axes), *(True,) * 4),
            values=pd.DataFrame(values),
            keys=tuple(group.frame["design"].iloc[rows[0]] for _, rows in parts),
        )
        made.append(table)
    return made
