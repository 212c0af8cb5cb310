"""Figures of numbers: frame in, matplotlib `Figure` out; None if the frame lacks what is drawn.

A point is the mean over seeds with its 95 % Student t interval; a single seed has no interval. An
open marker means that a seed of the design has no value (diverged, failed). Every function takes
rows that may be compared (see `comparability`) and refuses others.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from vaebench.analysis.columns import axis_label, unit
from vaebench.analysis.comparability import Group, is_bound, require_comparable
from vaebench.analysis.labels import (
    design_label,
    design_labels,
    drawable,
    drawable_names,
    is_missing,
    ordered,
    value_text,
    varying,
)
from vaebench.analysis.summary import design_summaries, summarise
from vaebench.plots.keys import MARKERS, Key, Keys
from vaebench.plots.palette import Colour
from vaebench.plots.selection import (
    MOST_CURVE_PANELS,
    MOST_CURVES,
    Part,
    by_sizes,
    evenly,
    split,
    split_places,
    widest,
)
from vaebench.plots.style import INK, WIDTH, tick

Curve = NDArray[Any]
Series = Mapping[str, Sequence[float | None]]
MOST_DESIGNS: Final = 8
_MOST_SPREAD: Final = 16
_MOST_DOTS: Final = 200
_MOST_TICKS: Final = 14
_LEAST_KL: Final = 1e-4
"""The lowest KL of a latent dimension in nats that is drawn at its place."""
_LONG_RANK: Final = 256
_NOT_NEGATIVE: Final = frozenset(
    {"kl", "mse", "active_units", "sigma_fitted", "knn_accuracy", "tsne_trustworthiness"}
)
_MOST_SIZES: Final = "those with most latent sizes, of equals evenly spread ones"
_EVENLY: Final = "evenly spread over the results' order"
_X_LABELS: Final = {
    "latent_dim": "latent dimension [count]",
    "sigma": "σ, scale of the likelihood [pixel]",
}


@dataclass(frozen=True)
class Design:
    """One line of a figure: its name, its rows, and its colour and marker."""

    label: str
    rows: pd.DataFrame
    key: Key


@dataclass(frozen=True)
class Drawn:
    """A figure, and a sentence on the designs that it leaves out; '' if it shows all."""

    figure: Figure
    left_out: str = ""


def left_out(shown: int, every: int, of: str, rule: str = _EVENLY) -> str:
    """The last sentence of a caption if a figure does not show all designs."""
    return f" {shown} of {every:,} {of} are shown: {rule}." if shown < every else ""


def measured(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of designs with a value of one of the metrics for at least one seed.

    A design without any value, for example of an absent device, takes no room in a figure.
    """
    has = frame[list(metrics)].notna().any(axis=1)
    return frame[frame["design"].isin(set(frame.loc[has, "design"]))]


def swept(frame: pd.DataFrame, x: str, keys: Keys) -> tuple[list[Design], int]:
    """Return the designs with at least two values of x, one line each, and their number.

    If there are more than `_MOST_SPREAD`, those that fit into one figure, evenly spread.
    """
    axes = varying(frame, without=[x])
    every = [(key, rows) for key, rows in split(frame, axes) if len(ordered(rows[x])) > 1]
    few = len(every) <= _MOST_SPREAD
    parts = every if few else [every[i] for i in evenly(len(every), MOST_DESIGNS)]
    numeric = len(axes) == 1 and all(isinstance(key[0], (int, float)) for key, _ in parts)
    names = design_names(axes, parts)
    shades = keys.designs(names, numeric)
    return [
        Design(name, rows, key) for name, (_, rows), key in zip(names, parts, shades, strict=True)
    ], len(every)


def design_names(axes: Sequence[str], parts: Sequence[Part], limit: int = 90) -> list[str]:
    """The names of designs: the axes in which they differ, or all main axes of a lone design."""
    labels = design_labels(axes, [key for key, _ in parts])
    names = [label or fixed_label(rows) for label, (_, rows) in zip(labels, parts, strict=True)]
    return drawable_names(names, limit)


def shown_of(shown: int, every: int) -> str:
    """The end of a title if not all designs are drawn."""
    return f" ({shown} of {every:,} designs)" if shown < every else ""


def _thin(sizes: Sequence[float]) -> list[float]:
    """The sizes that have room for a label on a logarithmic axis, with the first and the last."""
    gap = math.log(sizes[-1] / sizes[0]) / _MOST_TICKS
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        if math.log(size / kept[-1]) >= gap and math.log(sizes[-1] / size) >= gap:
            kept.append(size)
    return [*kept, sizes[-1]] if len(sizes) > 1 else kept


def size_axis(axes: Axes, values: Sequence[Any]) -> None:
    numbers = [float(value) for value in values]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(_thin(numbers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if max(numbers) >= 1000:
        axes.tick_params(axis="x", labelrotation=35)


def spread_sizes(axes: Axes, values: Sequence[Any]) -> None:
    """Set up a size axis with room to the left of its first tick and to the right of its last."""
    size_axis(axes, values)
    axes.set_xlim(float(values[0]) / 1.25, float(values[-1]) * 1.25)


def _word_axis(axes: Axes, values: Sequence[Any]) -> None:
    words = [word.replace("_", " ") for word in drawable_names(list(map(value_text, values)), 30)]
    axes.set_xticks(range(len(words)), words)
    if max(map(len, words)) > 5 and len(words) > 3:
        axes.tick_params(axis="x", labelrotation=35)
    axes.set_xlim(-0.5, len(words) - 0.5)


def _positions(x: str, values: Sequence[Any], place: float) -> dict[Any, float]:
    """The place of each value of x; designs are shifted slightly so that bars do not overlap."""
    if x == "latent_dim":
        return {value: float(value) * 2.0 ** (0.16 * place) for value in values}
    return {value: i + 0.2 * place for i, value in enumerate(values)}


def _draw_design(axes: Axes, design: Design, x: str, metric: str, at: Mapping[Any, float]) -> bool:
    table = summarise(design.rows, [x], metric)
    table = table[table["n"] > 0]
    if table.empty:
        return False
    places = [at[None if is_missing(value) else value] for value in table[x]]
    mean = table["mean"].to_numpy(float)
    bars = np.vstack([mean - table["low"].to_numpy(float), table["high"].to_numpy(float) - mean])
    colour, marker = design.key.colour, design.key.marker
    axes.errorbar(places, mean, bars, fmt="none", ecolor=colour, elinewidth=1.1, capsize=2.2)
    # Words such as 'learned' are not on a scale, so no line joins them.
    scaled = np.array([not isinstance(value, str) for value in table[x]])
    axes.plot(np.asarray(places)[scaled], mean[scaled], color=colour)
    whole = (table["n"] == table["cells"]).to_numpy()
    for full, face in ((whole, colour), (~whole, "white")):
        if not full.any():
            continue
        axes.plot(
            np.asarray(places)[full],
            mean[full],
            linestyle="none",
            marker=marker,
            markerfacecolor=face,
            markeredgecolor=colour,
        )
    return True


def design_legend(figure: Figure, designs: Sequence[Design], columns: int = 4) -> None:
    handles = [
        Line2D([], [], color=design.key.colour, marker=design.key.marker, label=design.label)
        for design in designs
    ]
    if len(handles) > 1:
        fitting = legend_columns([design.label for design in designs], columns)
        figure.legend(handles=handles, loc="outside lower center", ncols=fitting)


def legend_columns(labels: Sequence[str], most: int = 4) -> int:
    """Return how many names fit into one line of a legend below a figure."""
    return max(1, min(most, 130 // (max(map(len, labels)) + 8)))


def legend_inches(designs: Sequence[Design]) -> float:
    """Return the approximate height of their `design_legend`."""
    return 0.2 * -(-len(designs) // legend_columns([design.label for design in designs]))


def _measured(frame: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    return [m for m in metrics if m in frame and frame[m].notna().any()]


def against(
    frame: pd.DataFrame,
    x: str,
    metrics: Sequence[str],
    title: str = "",
    keys: Keys | None = None,
) -> list[Figure]:
    """Draw metrics against `latent_dim`, `sigma` or another axis, one line per design.

    A figure has at most `MOST_DESIGNS` lines; more are split over two figures. If two figures are
    not enough, one figure shows evenly spread designs, and its title says so. Designs with a
    single value of x are left out; without any other design there is no figure.

    Raises:
        NotComparable: the rows may not be compared in one of the metrics.
    """
    if x == "sigma":
        frame = frame[frame["sigma"].notna()]
    shown = _measured(frame, metrics)
    for metric in shown:
        require_comparable(frame, metric)
    frame = measured(frame, shown) if shown else frame
    designs, every = swept(frame, x, keys or Keys()) if shown else ([], 0)
    title += shown_of(len(designs), every)
    count = -(-len(designs) // MOST_DESIGNS)
    per = -(-len(designs) // count) if count else 1
    parts = [designs[i : i + per] for i in range(0, len(designs), per)]
    names = [f"{title} ({i}/{count})" if count > 1 else title for i in range(1, count + 1)]
    return [_panels(part, x, shown, name) for part, name in zip(parts, names, strict=True)]


def _panels(designs: Sequence[Design], x: str, metrics: Sequence[str], title: str) -> Figure:
    height = 3.1 + legend_inches(designs)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    values = ordered(pd.concat([design.rows[x] for design in designs]))
    for axes, metric in zip(panels, metrics, strict=True):
        for i, design in enumerate(designs):
            place = i - (len(designs) - 1) / 2
            spread = place * 2 / max(len(designs), 4)
            _draw_design(axes, design, x, metric, _positions(x, values, spread))
        (spread_sizes if x == "latent_dim" else _word_axis)(axes, values)
        axes.set_xlabel(_X_LABELS.get(x, x.replace("_", " ")))
        axes.set_ylabel(axis_label(metric, all(is_bound(design.rows) for design in designs)))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
        _limit(axes, [design.rows for design in designs], x, metric)
        if metric == "active_units":
            _count_axis(axes)
    fixed = f" ({fixed_label(designs[0].rows)})" if len(designs) == 1 else ""
    headed(figure, title + fixed)
    design_legend(figure, designs)
    return figure


def _count_axis(axes: Axes) -> None:
    """A scale that shows 1, 10 and 100 units, and none."""
    axes.set_yscale("symlog", base=2, linthresh=1)
    top = max(1.0, axes.get_ylim()[1])
    ticks = [0, *(2**i for i in range(int(math.log2(top)) + 1))]
    axes.yaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // 7)]))
    axes.yaxis.set_minor_locator(NullLocator())


def _limit(axes: Axes, designs: Sequence[pd.DataFrame], x: str, metric: str) -> None:
    """Limit the axis to the means and, of their intervals, to as much again.

    One wide interval would otherwise compress all others. Values that cannot occur, such as
    negative counts, have no room either.
    """
    table = pd.concat([summarise(rows, [x], metric) for rows in designs])
    means = table["mean"].dropna()
    if len(means) > 1 and means.max() > means.min():
        room = float(means.max() - means.min())
        low = max(table["low"].fillna(table["mean"]).min(), means.min() - room) - 0.05 * room
        high = min(table["high"].fillna(table["mean"]).max(), means.max() + room) + 0.05 * room
        axes.set_ylim(low, high)
    low, high = axes.get_ylim()
    if metric in _NOT_NEGATIVE and low < 0 < high:
        axes.set_ylim(bottom=-0.03 * high)
    if unit(metric) == "share" and high > 1:
        axes.set_ylim(top=1.03)


def fixed_label(rows: pd.DataFrame) -> str:
    """The name of a lone design: likelihood, sigma and latent size, if they are fixed."""
    axes = [axis for axis in ("likelihood", "sigma", "latent_dim") if len(ordered(rows[axis])) == 1]
    return design_label(axes, [rows[axis].iloc[0] for axis in axes])


def headed(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(drawable(title, 110), x=0.01, ha="left")


def bits_ranking(frame: pd.DataFrame, title: str = "", most: int = 40) -> Figure | None:
    """Draw bits per dimension of every design, best first: the only score across families.

    Raises:
        NotComparable: the rows are of different data.
    """
    metric = "bits_per_dim"
    frame = measured(frame, [metric])
    axes_names = varying(frame)
    if not axes_names:
        return None
    parts = split_places(frame, axes_names)
    found = design_summaries(frame, [rows for _, rows in parts], [metric])
    table = pd.DataFrame([each[metric] for each in found])
    labels = design_labels(axes_names, [key for key, _ in parts])
    table["label"] = drawable_names(labels, 70)
    table = table[table["n"] > 0].sort_values(["mean", "label"]).head(most)
    if len(table) < 2:
        return None
    return _ranking(table, title)


def _ranking(table: pd.DataFrame, title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.0 + 0.21 * len(table)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(table.to_dict("records")):
        axes.errorbar(
            row["mean"],
            place,
            xerr=(row["high"] - row["low"]) / 2,
            color=INK,
            marker="o",
            markerfacecolor=INK if row["n"] == row["cells"] else "white",
            capsize=2.2,
        )
    axes.set_yticks(range(len(table)), table["label"])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlabel(axis_label("bits_per_dim") + ", lower is better")
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    headed(figure, title)
    return figure


def _wrapped(text: str) -> str:
    """The text in lines that fit above one of three panels."""
    return textwrap.fill(text, 36)


def _facets(parts: Sequence[Group]) -> list[Part]:
    """The designs of all groups, each with its name."""
    named: list[Part] = []
    for group in parts:
        axes = varying(group.frame, without=["latent_dim"])
        label = "" if len(parts) == 1 else "\n" + _wrapped(drawable(group.label, 120))
        designs = split(group.frame, axes)
        names = map(_wrapped, design_names(axes, designs, 80))
        named += [((name + label,), rows) for name, (_, rows) in zip(names, designs, strict=True)]
    return named


def kl_per_dimension(
    parts: Sequence[Group],
    found: Mapping[str, Curve],
    title: str = "",
    most: int = MOST_CURVE_PANELS,
    keys: Keys | None = None,
) -> Drawn | None:
    """Draw the KL of each latent dimension, sorted within a cell, one colour per latent size.

    Args:
        parts: groups of comparable rows; each design has its panel and axis.
        found: for a cell_id its KL per dimension in nats, (latent,).
        title: the title of the figure.
        most: maximum number of panels; the designs with the most latent sizes are kept. A design
            with one latent size is in `kl_by_design`.
        keys: the colours of the report.
    """
    every = sum(len(by_sizes(group.frame)[0]) for group in parts)
    kept = _with(parts, lambda cell: cell in found)
    several = [each for each in _facets(kept) if each[1]["latent_dim"].nunique() > 1]
    facets = widest(several, most)
    if not facets:
        return None
    palette = _size_palette([rows for _, rows in facets], keys)
    figure, panels = panel_grid(len(facets), 3, 2.5)
    for axes, ((name,), rows) in zip(panels, facets, strict=True):
        # If ten thousand dimensions share twenty nats, a linear axis would show none of them.
        axes.set_yscale("log")
        for size, same in reversed(split(rows, ["latent_dim"])):
            _sorted_kl(axes, [found[cell] for cell in same["cell_id"]], palette[size[0]])
        marginal = " (marginals)" if (rows["posterior"] == "full").any() else ""
        axes.set_title(name + marginal, fontsize=8)
        _rank_axis(axes, rows)
        axes.set_ylim(bottom=_LEAST_KL)
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
        axes.set_ylabel("KL [nats/image, log scale]")
    _sizes_legend(figure, palette)
    headed(figure, title)
    of = "designs of several latent sizes"
    return Drawn(figure, left_out(len(facets), every, of, _MOST_SIZES))


def _rank_axis(axes: Axes, rows: pd.DataFrame) -> None:
    top = max(2, int(rows["latent_dim"].max()))
    step = 1 if top <= _LONG_RANK else 2
    size_axis(axes, [2**i for i in range(0, int(np.ceil(np.log2(top))) + step, step)])
    axes.set_xlabel("rank of the latent dimension\n[count, log scale]")
    axes.set_ylabel("KL [nats/image]")


def kl_by_design(
    frame: pd.DataFrame,
    found: Mapping[str, Curve],
    title: str = "",
    most: int = MOST_CURVES,
    keys: Keys | None = None,
) -> Drawn | None:
    """Draw the sorted KL of each latent dimension, one line per design with one latent size.

    Raises:
        NotComparable: the rows may not be compared in nats.
    """
    require_comparable(frame, "kl")
    every = len(by_sizes(frame)[1])
    alone = [rows for _, rows in by_sizes(frame[frame["cell_id"].isin(list(found))])[1]]
    if len(alone) < 2:
        return None
    alone = [alone[i] for i in evenly(len(alone), most)]
    shown = pd.concat(alone)
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    made = _named(shown, keys or Keys())
    for place, design in enumerate(made):
        of = [found[cell] for cell in design.rows["cell_id"]]
        _sorted_kl(axes, of, design.key.colour, design.key.marker, place / len(made))
    _rank_axis(axes, shown)
    design_legend(figure, [_of_marginals(design) for design in made])
    headed(figure, title)
    return Drawn(figure, left_out(len(alone), every, "designs of one latent size"))


def _named(frame: pd.DataFrame, keys: Keys) -> list[Design]:
    """Every design of the frame with its colour and marker; latent sizes are separate designs."""
    axes = varying(frame)
    parts = split(frame, axes)
    names = design_names(axes, parts, 60)
    shades = keys.designs(names)
    return [
        Design(name, rows, key) for name, (_, rows), key in zip(names, parts, shades, strict=True)
    ]


def _of_marginals(design: Design) -> Design:
    full = (design.rows["posterior"] == "full").any()
    return replace(design, label=f"{design.label} (marginals)") if full else design


def _with(parts: Sequence[Group], has: Callable[[str], bool]) -> list[Group]:
    kept = [
        Group(group.label, group.slug, group.frame[[has(c) for c in group.frame["cell_id"]]])
        for group in parts
    ]
    return [group for group in kept if not group.frame.empty]


def _size_palette(frames: Sequence[pd.DataFrame], keys: Keys | None) -> dict[Any, Colour]:
    return (keys or Keys()).sizes(pd.concat([rows["latent_dim"] for rows in frames]))


def _sorted_kl(
    axes: Axes, curves: Sequence[Curve], colour: Colour, marker: str = "o", offset: float = -1.0
) -> None:
    """Draw the mean and range of sorted curves.

    With an offset in [0, 1), markers along the line start there, so that the markers of lines on
    top of each other alternate.
    """
    table = np.vstack([np.sort(curve)[::-1] for curve in curves])
    # A logarithmic axis cannot show more: ten thousand points would only make a large file.
    rank = np.unique(np.geomspace(1, table.shape[1], 200).round().astype(int))
    table = table[:, rank - 1]
    if axes.get_yscale() == "log":  # rounding may leave a KL a little below zero
        table = np.maximum(table, _LEAST_KL)
    mean = table.mean(axis=0)
    axes.plot(rank, mean, color=colour)
    if offset >= 0:
        places = np.geomspace(1, rank[-1], 5)
        places = places[:-1] * (places[1] / places[0]) ** offset
        axes.plot(places, np.interp(places, rank, mean), color=colour, marker=marker, lw=0, ms=4)
    axes.plot(rank[-1], mean[-1], color=colour, marker=marker, markersize=4.5, clip_on=False)
    axes.fill_between(rank, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.2, lw=0)


def panel_grid(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _sizes_legend(figure: Figure, palette: Mapping[Any, Colour]) -> None:
    handles = [
        Line2D([], [], color=c, marker=marker, label=f"z {size:,}")
        for (size, c), marker in zip(palette.items(), itertools.cycle(MARKERS), strict=False)
    ]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(10, len(handles)))


def loss_curves(
    parts: Sequence[Group],
    series: Mapping[str, Series],
    title: str = "",
    most: int = 9,
    keys: Keys | None = None,
) -> Drawn | None:
    """Draw the training ELBO by epoch, a thin line per cell; a cross marks where one diverged.

    The vertical range leaves out the lowest twentieth of the values, since the first epochs would
    otherwise compress the rest. Each design has its panel and axis.
    """
    every = _facets(_with(parts, lambda cell: len(series.get(cell, {}).get("train_elbo", ())) > 1))
    facets = widest(every, most)
    if not facets:
        return None
    palette = _size_palette([rows for _, rows in facets], keys)
    figure, panels = panel_grid(len(facets), 3, 2.4)
    for axes, ((name,), rows) in zip(panels, facets, strict=True):
        _training(axes, rows, series, palette)
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("epoch [count]")
        axes.set_ylabel(f"training {'ELBO' if is_bound(rows) else 'score'} [nats/image]")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
    _sizes_legend(figure, palette)
    headed(figure, title)
    return Drawn(figure, left_out(len(facets), len(every), "designs", _MOST_SIZES))


def _training(
    axes: Axes,
    rows: pd.DataFrame,
    series: Mapping[str, Series],
    palette: Mapping[Any, Colour],
) -> None:
    values = []
    for row in rows.itertuples():
        curve = np.array(series[str(row.cell_id)]["train_elbo"], dtype=np.float64)
        epochs = np.arange(1, len(curve) + 1)
        colour = palette[row.latent_dim]
        place = list(palette).index(row.latent_dim)
        # Every size has its marker, at other epochs than the next size.
        step = max(1, len(curve) // 5)
        every = (place * step // max(1, len(palette)), step)
        style: dict[str, Any] = {
            "marker": MARKERS[place % len(MARKERS)],
            "markevery": every,
            "ms": 3.5,
        }
        axes.plot(epochs, curve, color=colour, lw=1.0, alpha=0.85, **style)
        known = np.flatnonzero(np.isfinite(curve))
        if row.status == "diverged" and len(known):
            last = known[-1]
            axes.plot(epochs[last], curve[last], color="#b3261e", marker="x", ms=7, mew=2)
        values.append(curve[known])
    seen = np.concatenate(values)
    if len(seen) > 4:
        low, high = np.quantile(seen, [0.05, 1.0])
        margin = 0.06 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
