"""The sections of a report, as a list of data: which figures and tables each one holds.

To add a figure, write a function in `plots`, add a `FigureSpec` here, and its title and caption to
`templates/captions.toml` under the same name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.frame import Results
from vaebench.analysis.timing import SIZES, benches, lines
from vaebench.plots import cost_figures, figures, pictures, plane_figures
from vaebench.plots.figures import Drawn
from vaebench.plots.keys import Keys
from vaebench.plots.timing_figures import timing_figure
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
        found = {cell: self.results.arrays(cell) for cell in figures.curve_cells(self.nats)}
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


Draw = Callable[[Content, Group, str], Sequence[Figure | Drawn | None]]
MakeChart = Callable[[Content, Group], Chart | None]
Tables = Callable[[Content], Sequence[Table | None]]


@dataclass(frozen=True)
class FigureSpec:
    """A figure of each comparable group, and the chart that takes its place in a browser.

    `name` is that of its files and of its caption.
    """

    name: str
    draw: Draw
    over: str = "elbo"
    chart: MakeChart | None = None
    panels: Callable[[Content, Group], Sequence[PanelBlock]] | None = None


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


def _against(x: str, *metrics: str) -> Draw:
    return lambda content, group, title: figures.against(
        group.frame, x, metrics, title, content.keys
    )


def _images(name: str) -> FigureSpec:
    kind = pictures.KINDS[name]
    return FigureSpec(
        name,
        lambda content, group, title: [
            pictures.image_figure(kind, group.frame, content.results.arrays, title)
        ],
        "knn_accuracy",
        panels=lambda content, group: image_panels(kind, group.frame, content.results.arrays),
    )


def _plane(content: Content, group: Group, title: str) -> Sequence[Figure | None]:
    return [plane_figures.rate_distortion(group.frame, title, content.keys)]


def _kl(content: Content, group: Group, title: str) -> Sequence[Drawn | None]:
    """Designs with several latent sizes, then those with one."""
    return [
        figures.kl_per_dimension([group], content.curves, title, keys=content.keys),
        figures.kl_by_design(group.frame, content.curves, title, keys=content.keys),
    ]


def _training(content: Content, group: Group, title: str) -> Sequence[Drawn | None]:
    return [figures.loss_curves([group], content.results.series, title, keys=content.keys)]


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


def _timing_tables(content: Content) -> Sequence[Table]:
    found = enumerate(benches(content.timings), 1)
    return [timing_table(bench, f"timings-{place}") for place, bench in found]


def _hidden_sigma(content: Content) -> Sequence[Table]:
    has_sigma = not content.frame.empty and content.frame["sigma"].notna().any()
    return [hidden_sigma_table()] if has_sigma else []


_BOUND: Final = ("elbo", "kl", "reconstruction_error")
_CODES: Final = ("active_units", "knn_accuracy", "mse")
_COSTS: Final = ("samples_per_second", "step_ms_median", "peak_memory_mib")
_ALSO: Final = ("elbo", "bits_per_dim", "iw_bound", *_CODES)

SECTIONS: Final = (
    SectionSpec(
        "latent",
        (
            FigureSpec(
                "elbo-by-latent-dim",
                _against("latent_dim", *_BOUND),
                chart=_chart("z", _BOUND),
            ),
        ),
    ),
    SectionSpec(
        "sigma",
        (FigureSpec("elbo-by-sigma", _against("sigma", *_BOUND), chart=_chart("sigma", _BOUND)),),
    ),
    SectionSpec("hidden-sigma", tables=_hidden_sigma),
    SectionSpec(
        "likelihood",
        (
            FigureSpec(
                "bits-ranking",
                lambda _, group, title: [figures.bits_ranking(group.frame, title)],
                "bits_per_dim",
                lambda content, group: ranking(content.designs, group, "bits_per_dim"),
            ),
            FigureSpec(
                "bits-by-latent-dim",
                _against("latent_dim", "bits_per_dim"),
                "bits_per_dim",
                _chart("z", ["bits_per_dim"]),
            ),
        ),
    ),
    SectionSpec(
        "rate-distortion",
        (
            FigureSpec(
                "rate-distortion",
                _plane,
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
            FigureSpec(
                "codes-by-latent-dim",
                _against("latent_dim", *_CODES),
                "mse",
                _chart("z", _CODES),
            ),
            FigureSpec("kl-per-dimension", _kl, chart=_kl_curves),
            FigureSpec(
                "tsne",
                lambda content, group, title: [
                    pictures.tsne_maps(group.frame, content.results.arrays, title)
                ],
                "knn_accuracy",
                panels=lambda content, group: map_panels(group.frame, content.results.arrays),
            ),
        ),
    ),
    SectionSpec(
        "images",
        tuple(map(_images, ("reconstructions", "samples", "interpolations", "traversals"))),
    ),
    SectionSpec(
        "columns",
        (
            FigureSpec(
                "columns",
                lambda content, group, title: [
                    pictures.columns(group.frame, content.results.arrays, title)
                ],
            ),
        ),
    ),
    SectionSpec("training", (FigureSpec("training", _training, chart=_training_curves),)),
    SectionSpec(
        "cost",
        (
            FigureSpec(
                "cost",
                lambda content, group, title: [cost_figures.cost(group.frame, title, content.keys)],
                "train_seconds",
                _chart("z", _COSTS),
            ),
            FigureSpec(
                "cost-by-design",
                lambda _, group, title: [cost_figures.cost_by_design(group.frame, title)],
                "train_seconds",
            ),
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
    SectionSpec(
        "timings",
        (
            FigureSpec(
                "timings",
                lambda _, group, title: [timing_figure(group, title)],
                "timings",
            ),
        ),
        _timing_tables,
    ),
)
