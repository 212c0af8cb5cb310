"""Figures of the cost of training: throughput, step time and memory of one machine's cells.

A line is one design over its latent sizes, a row is one design. The time of a cell that diverged is
incomplete, so only finished cells are drawn.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from vaebench.analysis.columns import axis_label
from vaebench.analysis.comparability import require_comparable
from vaebench.analysis.labels import ordered, varying
from vaebench.analysis.summary import measurements, shared
from vaebench.plots.figures import (
    Design,
    Drawn,
    design_legend,
    design_names,
    headed,
    left_out,
    legend_inches,
    shown_of,
    spread_sizes,
    swept,
)
from vaebench.plots.keys import Keys
from vaebench.plots.palette import Colour
from vaebench.plots.selection import Part, evenly, split
from vaebench.plots.style import INK, WIDTH, tick

_METRICS: Final = ("samples_per_second", "step_ms_median", "peak_memory_mib")
_MOST_DOTS: Final = 200
_MOST_ROWS: Final = 40


def _finished(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The cells to draw, and the metrics that at least one of them has.

    Raises:
        NotComparable: the rows are of different machines.
    """
    done = frame[frame["status"] == "done"]
    shown = [m for m in _METRICS if m in done and done[m].notna().any()]
    done = done[done[shown].notna().any(axis=1)] if shown else done
    for metric in shown:
        require_comparable(done, metric)
    return done, shown


def cost(frame: pd.DataFrame, title: str = "", keys: Keys | None = None) -> Drawn | None:
    """Draw cost against latent size: a dot per cell, a line of medians per design.

    A line has at most `_MOST_DOTS` dots, evenly spread; its medians are those of all cells.

    Raises:
        NotComparable: the rows are of different machines.
    """
    done, shown = _finished(frame)
    designs, every = swept(done, "latent_dim", keys or Keys()) if shown else ([], 0)
    if not designs:
        return None
    figure = Figure(figsize=(WIDTH, 3.1 + legend_inches(designs)), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    sizes = ordered(pd.concat([design.rows["latent_dim"] for design in designs]))
    for axes, metric in zip(panels, shown, strict=True):
        for design in designs:
            _line(axes, design, metric)
        spread_sizes(axes, sizes)
        axes.set(xlabel="latent dimension [count]", ylabel=axis_label(metric))
        values = pd.concat([design.rows[metric] for design in designs])
        if _spans_decades(values):
            axes.set_yscale("log")
            _log_ticks(axes.yaxis)
        else:
            # A dot has room above it, too.
            axes.set_ylim(0, 1.06 * max(float(values.max()), 1e-9))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
    design_legend(figure, designs)
    fixed = f" ({designs[0].label})" if len(designs) == 1 else ""
    headed(figure, title + fixed + shown_of(len(designs), every))
    rule = "designs of several latent sizes"
    return Drawn(figure, left_out(len(designs), every, rule))


def _line(axes: Axes, design: Design, metric: str) -> None:
    parts = [
        (size, _measured(rows, metric)) for (size,), rows in split(design.rows, ["latent_dim"])
    ]
    parts = [(size, values) for size, values in parts if len(values)]
    middle = [np.median(values) for _, values in parts]
    axes.plot([size for size, _ in parts], middle, color=design.key.colour)
    sizes = np.concatenate([np.full(len(values), float(size)) for size, values in parts])
    dots = evenly(len(sizes), _MOST_DOTS)
    values = np.concatenate([values for _, values in parts])
    _dots(axes, sizes[dots], values[dots], design.key.colour, design.key.marker)


def _measured(rows: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """The separate measurements of these rows: the cells of a pack share one number."""
    known = rows[rows[metric].notna()]
    return measurements(known[metric].to_numpy(np.float64), shared(known, metric))


def _dots(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    colour: Colour | str,
    marker: str = "o",
) -> None:
    axes.scatter(
        x,
        y,
        color=colour,
        marker=marker,
        s=20,
        alpha=0.65,
        edgecolors="white",
        linewidths=0.3,
    )


def cost_by_design(frame: pd.DataFrame, title: str = "") -> Drawn | None:
    """Draw the cost of designs with one latent size: a dot per cell and a bar at the median.

    If there are more designs than fit, evenly spread ones are drawn; None if there are none.

    Raises:
        NotComparable: the rows are of different machines.
    """
    done, shown = _finished(frame)
    parts = split(done, varying(done, without=["latent_dim"])) if shown else []
    alone = [rows for _, rows in parts if rows["latent_dim"].nunique() == 1]
    if not alone:
        return None
    kept = [alone[i] for i in evenly(len(alone), _MOST_ROWS)]
    names = _names(kept) if len(kept) > 1 else [_lone_name(kept[0], parts)]
    rows = list(zip(_packed(names, kept), kept, strict=True))
    figure = Figure(figsize=(WIDTH, 1.1 + 0.21 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, shown, strict=True):
        _rows(axes, rows, metric)
    panels[0].set_yticks(range(len(rows)), [name for name, _ in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    headed(figure, title + shown_of(len(kept), len(alone)))
    return Drawn(figure, left_out(len(kept), len(alone), "designs of one latent size"))


def _names(kept: Sequence[pd.DataFrame]) -> list[str]:
    axes = varying(pd.concat(kept))
    return design_names(axes, [(tuple(rows[a].iloc[0] for a in axes), rows) for rows in kept], 70)


def _lone_name(rows: pd.DataFrame, parts: Sequence[Part]) -> str:
    """The name of a lone design: its size, and the axes in which it differs from the sweeps."""
    axes = varying(pd.concat([part for _, part in parts]), without=["latent_dim"])
    names = design_names(axes, parts, 70)
    (name,) = (name for name, (_, part) in zip(names, parts, strict=True) if part is rows)
    return f"{name}, z {rows['latent_dim'].iloc[0]:,}"


def _packed(names: Sequence[str], parts: Sequence[pd.DataFrame]) -> list[str]:
    """The names, with the size of the packs in which the cells were trained if sizes differ."""
    sizes = ["/".join(f"{size:.0f}" for size in ordered(part["pack_size"])) for part in parts]
    if len(set(sizes)) == 1:
        return list(names)
    return [f"{name}; pack {size}" for name, size in zip(names, sizes, strict=True)]


def _rows(axes: Axes, rows: Sequence[tuple[str, pd.DataFrame]], metric: str) -> None:
    for place, (_, part) in enumerate(rows):
        values = _measured(part, metric)
        if not len(values):
            continue
        dots = values[evenly(len(values), _MOST_DOTS)]
        _dots(axes, dots, np.full(len(dots), place), INK)
        axes.plot([np.median(values)], [place], color=INK, marker="|", ms=10, mew=1.8)
    # With three panels side by side, a name has room only if its unit is on the next line.
    axes.set_xlabel(axis_label(metric).replace(" [", "\n["))
    values = pd.concat([part[metric] for _, part in rows])
    if _spans_decades(values):
        axes.set_xscale("log")
        axes.set_xlim(float(values.min()) / 1.3, float(values.max()) * 1.3)
        _log_ticks(axes.xaxis)
    else:
        # The axis starts a little below zero and ends a little above the maximum, for the dots.
        most = max(float(values.max()), 1e-9)
        axes.set_xlim(-0.03 * most, 1.06 * most)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))


def _log_ticks(axis: Axis) -> None:
    """Label at most four powers of ten, so that labels do not overlap."""
    axis.set_major_locator(LogLocator(numticks=4))
    axis.set_minor_locator(LogLocator(subs="all", numticks=100))
    axis.set_minor_formatter(NullFormatter())


def _spans_decades(values: "pd.Series[Any]") -> bool:
    """Whether small values could not be distinguished from zero on a linear axis."""
    return bool(values.min() > 0 and values.max() > 20 * values.min())
