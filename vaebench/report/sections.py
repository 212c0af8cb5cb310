"""The sections of a report, as a list of data: which figures and tables each one holds.

To add a figure, write a function in `plots`, name it in `static`, add a `FigureSpec` here, and its
title and caption to `templates/captions.toml` under the same name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd

from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.frame import Results
from vaebench.analysis.timing import SIZES, benches, lines
from vaebench.plots.images import KINDS, best_of_columns
from vaebench.plots.keys import Keys
from vaebench.plots.selection import curve_cells
from vaebench.report.interactive import Chart, Designs, curves, ranking, scatter
from vaebench.report.overview import (
    code_tables,
    cost_tables,
    hidden_sigma_table,
    once,
    result_tables,
    spent_table,
    unfinished,
    warnings_table,
)
from vaebench.report.panels import PanelBlock, image_panels, map_panels
from vaebench.report.tables import Table
from vaebench.report.timings import timing_table


@dataclass(frozen=True)
class Content:
    """Everything that the figures and tables of a report are made from.

    Attributes:
        frame: one row per design and seed, see `overview.once`.
        results: the records, for their curves and arrays.
        timings: the frame of timed training steps.
        keys: the colours and markers of the report.
    """

    frame: pd.DataFrame
    results: Results
    timings: pd.DataFrame
    keys: Keys = field(default_factory=Keys)

    @cached_property
    def designs(self) -> Designs:
        """The designs with their names and colours on the page."""
        return Designs(self.frame, Keys())

    @cached_property
    def timed(self) -> pd.DataFrame:
        """The cells with timings, one row per design, seed and machine."""
        every = self.results.frame
        if every.empty:
            return every
        cells = once(every, "machine")
        return cells[cells["machine"].notna() & cells["step_ms_median"].notna()]

    @cached_property
    def curves(self) -> dict[str, Any]:
        """The KL of each latent dimension, for the cells that the figures may choose."""
        found = {cell: self.results.arrays(cell) for cell in curve_cells(self.nats)}
        name = "kl_per_dimension"
        return {cell: arrays[name] for cell, arrays in found.items() if name in arrays}

    @cached_property
    def nats(self) -> tuple[Group, ...]:
        """The groups of rows whose nats may be compared."""
        return () if self.frame.empty else groups(self.frame, "elbo")

    def groups(self, over: str) -> Sequence[Group]:
        """The groups of rows that have a figure each.

        Args:
            over: the metric that must be comparable within a group, or 'timings' for one group per
                machine that timed training steps.
        """
        if over == "timings":
            machines = enumerate(benches(self.timings), 1)
            return [Group(bench.label, str(place), bench.frame) for place, bench in machines]
        if self.frame.empty:
            return ()
        if over == "elbo":
            return self.nats
        if over == "bits_per_dim":
            measured = self.frame[self.frame["comparable"].isin(("mass", "density"))]
            found = groups(measured, over)
            return [group for group in found if group.frame["likelihood"].nunique() > 1]
        return groups(self.timed if over == "train_seconds" else self.frame, over)


MakeChart = Callable[[Content, Group], Chart | None]
Tables = Callable[[Content], Sequence[Table | None]]


@dataclass(frozen=True)
class FigureSpec:
    """A figure of each comparable group, and the chart or panels that take its place in a browser.

    Attributes:
        name: that of its static figure in `static`, of its files, and of its caption.
        over: the metric that must be comparable within a group; see `Content.groups`.
        chart, panels: what the page shows of a group.
        applies: whether a figure without chart and panels shows anything of a group.
    """

    name: str
    over: str = "elbo"
    chart: MakeChart | None = None
    panels: Callable[[Content, Group], Sequence[PanelBlock]] | None = None
    applies: Callable[[Content, Group], bool] = lambda *_: True


@dataclass(frozen=True)
class SectionSpec:
    """A section: its key in `captions.toml`, its figures, then its tables."""

    key: str
    figures: tuple[FigureSpec, ...] = ()
    tables: Tables = lambda _: ()


def caption_facts(group: Group) -> Mapping[str, Any]:
    """The variables that the captions of a group's figures may use.

    Returns:
        `bound`: each ELBO is a bound; `diverged`, `lost`, `unfinished`: some cell diverged, or has
        no result; `labelled`: the data have labels; of timings: `sizes`, the names of the sizes
        that are swept, `ratios`, whether devices are compared, `precisions`, whether several.
    """
    frame = group.frame
    if "verdict" in frame:
        drawn = {name: lines(frame, axis) for axis, name in SIZES.items()}
        names = [n for n, of in drawn.items() if any(o.rows["step_ms"].notna().any() for o in of)]
        every = [line for found in drawn.values() for line in found]
        return {
            "sizes": " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:]),
            "ratios": any(line.rows["ratio"].notna().any() for line in every),
            "precisions": frame["precision"].nunique() > 1,
        }
    lost = bool((frame["status"] != "done").any())
    return {
        "bound": is_bound(frame),
        "diverged": bool((frame["status"] == "diverged").any()),
        "lost": lost,
        "unfinished": lost,
        "labelled": bool(frame["knn_accuracy"].notna().any()),
    }


def _images(name: str) -> FigureSpec:
    return FigureSpec(
        name,
        "knn_accuracy",
        panels=lambda content, group: image_panels(
            KINDS[name], group.frame, content.results.arrays
        ),
    )


def _chart(x: str, ys: Sequence[str], xs: Sequence[str] = ()) -> MakeChart:
    return lambda content, group: scatter(content.designs, group, x, ys, xs)


def _kl_curves(content: Content, group: Group) -> Chart | None:
    """The KL of each latent dimension, sorted, as a mean over seeds."""
    found = {}
    for design, rows in group.frame.groupby("design", sort=False):
        kl = [np.sort(content.curves[c])[::-1] for c in rows["cell_id"] if c in content.curves]
        if kl:
            mean = np.maximum(np.mean(kl, axis=0), 1e-4)
            found[str(design)] = list(enumerate(mean.tolist(), 1))
    titles = "rank of the latent dimension", "KL [nats/image]"
    return curves(content.designs, found, titles, log=True, bottom=1e-4)


def _training_curves(content: Content, group: Group) -> Chart | None:
    """The training ELBO by epoch, as a mean over the seeds that finished."""
    done = group.frame[group.frame["status"] == "done"]
    found = {}
    for design, rows in done.groupby("design", sort=False):
        each = [content.results.series[cell].get("train_elbo", ()) for cell in rows["cell_id"]]
        known = [np.array(values, np.float64) for values in each if len(values) > 1]
        if known and len({len(values) for values in known}) == 1:
            found[str(design)] = list(enumerate(np.mean(known, axis=0).tolist(), 1))
    if not found:
        return None
    every = np.array([y for points in found.values() for _, y in points])
    low = float(np.nanquantile(every, 0.05))
    score = "ELBO" if is_bound(group.frame) else "score"
    titles = "epoch", f"training {score} [nats/image]"
    return curves(content.designs, found, titles, log=False, bottom=low)


def _finished(group: Group) -> Group:
    """Without the cells that did not finish, whose times are incomplete."""
    return replace(group, frame=group.frame[group.frame["status"] == "done"])


def _cost(content: Content, group: Group) -> Chart | None:
    return scatter(content.designs, _finished(group), "z", _COSTS)


def _cost_by_design(content: Content, group: Group) -> Chart | None:
    return ranking(content.designs, _finished(group), _COSTS, alone=True)


def _timing_tables(content: Content) -> Sequence[Table]:
    found = enumerate(benches(content.timings), 1)
    return [timing_table(bench, f"timings-{place}") for place, bench in found]


def _hidden_sigma(content: Content) -> Sequence[Table]:
    has_sigma = not content.frame.empty and content.frame["sigma"].notna().any()
    return [hidden_sigma_table()] if has_sigma else []


BOUND: Final = ("elbo", "kl", "reconstruction_error")
CODES: Final = ("active_units", "knn_accuracy", "mse")
_COSTS: Final = ("samples_per_second", "step_ms_median", "peak_memory_mib")
_ALSO: Final = ("elbo", "bits_per_dim", "iw_bound", *CODES)

IMAGES: Final = ("reconstructions", "samples", "interpolations", "traversals")

SECTIONS: Final = (
    SectionSpec("latent", (FigureSpec("elbo-by-latent-dim", chart=_chart("z", BOUND)),)),
    SectionSpec("sigma", (FigureSpec("elbo-by-sigma", chart=_chart("sigma", BOUND)),)),
    SectionSpec("hidden-sigma", tables=_hidden_sigma),
    SectionSpec(
        "likelihood",
        (
            FigureSpec(
                "bits-ranking",
                "bits_per_dim",
                lambda content, group: ranking(content.designs, group, ["bits_per_dim"]),
            ),
            FigureSpec("bits-by-latent-dim", "bits_per_dim", _chart("z", ["bits_per_dim"])),
        ),
    ),
    SectionSpec(
        "rate-distortion",
        (
            FigureSpec(
                "rate-distortion",
                chart=_chart(
                    "kl",
                    ("reconstruction_error", "kl", *_ALSO),
                    ("kl", "reconstruction_error", *_ALSO),
                ),
            ),
        ),
    ),
    SectionSpec(
        "codes",
        (
            FigureSpec("codes-by-latent-dim", "mse", _chart("z", CODES)),
            FigureSpec("kl-per-dimension", chart=_kl_curves),
            FigureSpec(
                "tsne",
                "knn_accuracy",
                panels=lambda content, group: map_panels(group.frame, content.results.arrays),
            ),
        ),
    ),
    SectionSpec("images", tuple(map(_images, IMAGES))),
    SectionSpec(
        "columns",
        (
            FigureSpec(
                "columns",
                applies=lambda content, group: (
                    best_of_columns(group.frame, content.results.arrays) is not None
                ),
            ),
        ),
    ),
    SectionSpec("training", (FigureSpec("training", chart=_training_curves),)),
    SectionSpec(
        "cost",
        (
            FigureSpec("cost", "train_seconds", _cost),
            FigureSpec("cost-by-design", "train_seconds", _cost_by_design),
        ),
        lambda content: [spent_table(content.timed), *cost_tables(content.timed)],
    ),
    SectionSpec("results", tables=lambda content: result_tables(content.frame)),
    SectionSpec("code", tables=lambda content: code_tables(content.frame)),
    SectionSpec(
        "unfinished",
        tables=lambda content: [
            unfinished(content.frame),
            warnings_table(content.frame, named=True),
        ],
    ),
    SectionSpec("timings", (FigureSpec("timings", "timings"),), _timing_tables),
)
