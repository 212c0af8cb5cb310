"""The sections of a report, as a list of data: which figures and tables each one holds.

To add a figure, write a function in `plots`, add a `FigureSpec` here, and its title and caption to
`templates/captions.toml` under the same name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import pandas as pd
from matplotlib.figure import Figure

from vaebench.analysis.comparability import Group, groups, is_bound
from vaebench.analysis.frame import Results
from vaebench.analysis.timing import SIZES, benches, lines
from vaebench.plots import cost_figures, figures, pictures, plane_figures
from vaebench.plots.figures import Drawn
from vaebench.plots.keys import Keys
from vaebench.plots.timing_figures import timing_figure
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
from vaebench.report.tables import Table
from vaebench.report.timings import timing_table

__all__ = ["SECTIONS", "Content", "FigureSpec", "SectionSpec", "caption_facts"]


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
            over: the metric that must be comparable within a group; 'all' for a single group of
                all rows, 'timings' for one group per machine that timed training steps.
        """
        if over == "timings":
            machines = enumerate(benches(self.timings), 1)
            return [Group(bench.label, str(place), bench.frame) for place, bench in machines]
        if self.frame.empty:
            return ()
        if over == "all":
            return [Group("", "", self.frame)]
        if over == "elbo":
            return self.nats
        if over == "bits_per_dim":
            measured = self.frame[self.frame["comparable"].isin(("mass", "density"))]
            found = groups(measured, over)
            return [group for group in found if group.frame["likelihood"].nunique() > 1]
        return groups(self.timed if over == "train_seconds" else self.frame, over)


Draw = Callable[[Content, Group, str], Sequence[Figure | Drawn | None]]
Tables = Callable[[Content], Sequence[Table | None]]


@dataclass(frozen=True)
class FigureSpec:
    """A figure of each comparable group; `name` is that of its files and of its caption."""

    name: str
    draw: Draw
    over: str = "elbo"


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


def _pictures(draw: Callable[..., Figure | None]) -> Draw:
    return lambda content, group, title: [draw(group.frame, content.results.arrays, title)]


def _plane(content: Content, group: Group, title: str) -> Sequence[Figure | None]:
    return [plane_figures.rate_distortion(group.frame, title, content.keys)]


def _kl_per_dimension(content: Content, _: Group, title: str) -> Sequence[Drawn | None]:
    return [figures.kl_per_dimension(content.nats, content.curves, title, keys=content.keys)]


def _kl_by_design(content: Content, group: Group, title: str) -> Sequence[Drawn | None]:
    return [figures.kl_by_design(group.frame, content.curves, title, keys=content.keys)]


def _training(content: Content, _: Group, title: str) -> Sequence[Drawn | None]:
    return [figures.loss_curves(content.nats, content.results.series, title, keys=content.keys)]


def _timing_tables(content: Content) -> Sequence[Table]:
    found = enumerate(benches(content.timings), 1)
    return [timing_table(bench, f"timings-{place}") for place, bench in found]


def _hidden_sigma(content: Content) -> Sequence[Table]:
    has_sigma = not content.frame.empty and content.frame["sigma"].notna().any()
    return [hidden_sigma_table()] if has_sigma else []


_BOUND: Final = ("elbo", "kl", "reconstruction_error")
_CODES: Final = ("active_units", "knn_accuracy", "mse")

SECTIONS: Final = (
    SectionSpec("latent", (FigureSpec("elbo-by-latent-dim", _against("latent_dim", *_BOUND)),)),
    SectionSpec("sigma", (FigureSpec("elbo-by-sigma", _against("sigma", *_BOUND)),)),
    SectionSpec("hidden-sigma", tables=_hidden_sigma),
    SectionSpec(
        "likelihood",
        (
            FigureSpec(
                "bits-ranking",
                lambda _, group, title: [figures.bits_ranking(group.frame, title)],
                "bits_per_dim",
            ),
            FigureSpec(
                "bits-by-latent-dim", _against("latent_dim", "bits_per_dim"), "bits_per_dim"
            ),
        ),
    ),
    SectionSpec("rate-distortion", (FigureSpec("rate-distortion", _plane),)),
    SectionSpec(
        "codes",
        (
            FigureSpec("codes-by-latent-dim", _against("latent_dim", *_CODES), "mse"),
            FigureSpec("kl-per-dimension", _kl_per_dimension, "all"),
            FigureSpec("kl-by-design", _kl_by_design),
            FigureSpec("tsne", _pictures(pictures.tsne_maps), "knn_accuracy"),
        ),
    ),
    SectionSpec(
        "images",
        (
            FigureSpec("reconstructions", _pictures(pictures.reconstructions), "knn_accuracy"),
            FigureSpec("samples", _pictures(pictures.prior_samples), "knn_accuracy"),
            FigureSpec("interpolations", _pictures(pictures.interpolations), "knn_accuracy"),
            FigureSpec("traversals", _pictures(pictures.traversals), "knn_accuracy"),
        ),
    ),
    SectionSpec("training", (FigureSpec("training", _training, "all"),)),
    SectionSpec(
        "cost",
        (
            FigureSpec(
                "cost",
                lambda content, group, title: [cost_figures.cost(group.frame, title, content.keys)],
                "train_seconds",
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
