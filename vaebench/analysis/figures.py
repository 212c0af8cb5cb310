"""Figures of numbers: frame in, matplotlib `Figure` out; None where the frame lacks what it needs.

A point is the mean over seeds with its 95 % Student t interval; one seed has a point alone. An
open marker says that a seed of the design has no value there (diverged, failed). Every function
takes rows that may be compared (see `comparability`) and refuses others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import seaborn as sns
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

from vaebench.analysis.columns import axis_label
from vaebench.analysis.comparability import Group, require_comparable
from vaebench.analysis.labels import (
    design_label,
    drawable,
    is_missing,
    ordered,
    value_text,
    varying,
)
from vaebench.analysis.palette import colours, ramp
from vaebench.analysis.style import FADED, WIDTH, tick
from vaebench.analysis.summary import design_summaries, summarise

__all__ = [
    "against",
    "bits_ranking",
    "cost",
    "curve_cells",
    "kl_by_design",
    "kl_per_dimension",
    "loss_curves",
    "rate_distortion",
]

Colour = tuple[float, float, float] | str
Curve = NDArray[Any]
Series = Mapping[str, Sequence[float | None]]
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">", "*", "p", "d", "H", "8")
MOST_DESIGNS: Final = 8
_MOST_SPREAD: Final = 16
_MOST_DOTS: Final = 200
_MOST_CURVE_PANELS: Final = 6
_MOST_CURVES: Final = 10
_X_LABELS: Final = {
    "latent_dim": "latent dimension [count]",
    "sigma": "σ, scale of the likelihood [pixel]",
}


@dataclass(frozen=True)
class Design:
    """One line of a figure: what tells it apart, and how it is drawn."""

    label: str
    rows: pd.DataFrame
    colour: Colour
    marker: str


def split(frame: pd.DataFrame, axes: Sequence[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The frame's parts of equal values in `axes`, ordered; one part where there are no axes."""
    if not axes:
        return [((), frame)]
    return [(key, frame.iloc[rows]) for key, rows in split_places(frame, axes)]


def _with_none(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column, every missing one as None."""
    values = column.tolist()
    if not column.isna().any():
        return values
    return [None if is_missing(value) else value for value in values]


def split_places(
    frame: pd.DataFrame, axes: Sequence[str]
) -> list[tuple[tuple[Any, ...], NDArray[np.intp]]]:
    """The places of the rows of each part that `split` gives."""
    if not axes:
        return [((), np.arange(len(frame)))]
    values = [_with_none(frame[axis]) for axis in axes]
    where: dict[tuple[Any, ...], list[int]] = {}
    for position, key in enumerate(zip(*values, strict=True)):
        where.setdefault(key, []).append(position)
    columns = [ordered(frame[axis]) for axis in axes]
    keyed = sorted(where, key=lambda key: [c.index(v) for c, v in zip(columns, key, strict=True)])
    return [(key, np.array(where[key])) for key in keyed]


def _designs(frame: pd.DataFrame, x: str) -> tuple[list[Design], int]:
    """Designs that have at least two values of x, one line each, and how many there are of them.

    Of more than `_MOST_SPREAD` as many are drawn as fit into one figure, evenly spread.
    """
    axes = varying(frame, without=[x])
    every = [(key, rows) for key, rows in split(frame, axes) if len(ordered(rows[x])) > 1]
    few = len(every) <= _MOST_SPREAD
    parts = every if few else [every[i] for i in evenly(len(every), MOST_DESIGNS)]
    numeric = len(axes) == 1 and all(isinstance(key[0], (int, float)) for key, _ in parts)
    palette = ramp(len(parts)) if numeric else colours(len(parts))
    designs = [
        Design(
            drawable(design_label(axes, key)) or "all records",
            rows,
            palette[i],
            MARKERS[i % len(MARKERS)],
        )
        for i, (key, rows) in enumerate(parts)
    ]
    return designs, len(every)


def _shown_of(shown: int, every: int) -> str:
    """What a title says where not all designs are drawn."""
    return f" ({shown} of {every:,} designs)" if shown < every else ""


def _thin(values: Sequence[float], most: int) -> list[float]:
    """At most `most` of the values, evenly spread, the first and last among them."""
    if len(values) <= most:
        return list(values)
    return [values[i] for i in evenly(len(values), most)]


def size_axis(axes: Axes, values: Sequence[Any]) -> None:
    numbers = [float(value) for value in values]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(_thin(numbers, 8)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if max(numbers) >= 1000:
        axes.tick_params(axis="x", labelrotation=35)


def _word_axis(axes: Axes, values: Sequence[Any]) -> None:
    words = [drawable(value_text(value)).replace("_", " ") for value in values]
    axes.set_xticks(range(len(words)), words)
    if max(map(len, words)) > 5 and len(words) > 3:
        axes.tick_params(axis="x", labelrotation=35)
    axes.set_xlim(-0.5, len(words) - 0.5)


def _positions(x: str, values: Sequence[Any], place: float) -> dict[Any, float]:
    """Where each value of x is drawn; designs stand a little apart so that bars do not hide."""
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
    axes.errorbar(places, mean, bars, fmt="none", ecolor=design.colour, elinewidth=1.1, capsize=2.2)
    # Words like 'learned' have no place on a scale, so no line runs through them.
    scaled = np.array([not isinstance(value, str) for value in table[x]])
    axes.plot(np.asarray(places)[scaled], mean[scaled], color=design.colour)
    whole = (table["n"] == table["cells"]).to_numpy()
    for full, face in ((whole, design.colour), (~whole, "white")):
        if not full.any():
            continue
        axes.plot(
            np.asarray(places)[full],
            mean[full],
            linestyle="none",
            marker=design.marker,
            markerfacecolor=face,
            markeredgecolor=design.colour,
        )
    return True


def _legend(figure: Figure, designs: Sequence[Design], columns: int = 4) -> None:
    handles = [
        Line2D([], [], color=design.colour, marker=design.marker, label=design.label)
        for design in designs
    ]
    if len(handles) > 1:
        longest = max(len(design.label) for design in designs)
        fitting = max(1, min(columns, 130 // (longest + 8)))
        figure.legend(handles=handles, loc="outside lower center", ncols=fitting)


def _measured(frame: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    return [m for m in metrics if m in frame and frame[m].notna().any()]


def against(frame: pd.DataFrame, x: str, metrics: Sequence[str], title: str = "") -> list[Figure]:
    """Metrics, side by side, against `latent_dim`, `sigma` or another axis, a line a design.

    At most `MOST_DESIGNS` lines stand in one figure: more are spread over two. Of more than two
    figures hold, one figure has some that are evenly spread, and its title says so. Designs with
    a single value of x are left out; where none is left there is no figure.

    Raises:
        NotComparable: the rows may not be compared in one of the metrics.
    """
    if x == "sigma":
        frame = frame[frame["sigma"].notna()]
    shown = _measured(frame, metrics)
    for metric in shown:
        require_comparable(frame, metric)
    designs, every = _designs(frame, x) if shown else ([], 0)
    title += _shown_of(len(designs), every)
    count = -(-len(designs) // MOST_DESIGNS)
    per = -(-len(designs) // count) if count else 1
    parts = [designs[i : i + per] for i in range(0, len(designs), per)]
    names = [f"{title} ({i}/{count})" if count > 1 else title for i in range(1, count + 1)]
    return [_panels(part, x, shown, name) for part, name in zip(parts, names, strict=True)]


def _panels(designs: Sequence[Design], x: str, metrics: Sequence[str], title: str) -> Figure:
    height = 3.1 + 0.2 * (-(-len(designs) // 3))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    values = ordered(pd.concat([design.rows[x] for design in designs]))
    for axes, metric in zip(panels, metrics, strict=True):
        for i, design in enumerate(designs):
            place = i - (len(designs) - 1) / 2
            spread = place * 2 / max(len(designs), 4)
            _draw_design(axes, design, x, metric, _positions(x, values, spread))
        (size_axis if x == "latent_dim" else _word_axis)(axes, values)
        axes.set_xlabel(_X_LABELS.get(x, x.replace("_", " ")))
        axes.set_ylabel(axis_label(metric))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
        if metric == "active_units":
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    fixed = f" ({_fixed(designs[0].rows, x)})" if len(designs) == 1 else ""
    headed(figure, title + fixed)
    _legend(figure, designs)
    return figure


def _fixed(rows: pd.DataFrame, x: str) -> str:
    """What a lone line is of: with no other line there is no legend to say it."""
    axes = [axis for axis in ("likelihood", "sigma", "latent_dim") if axis != x]
    return design_label(axes, [rows[axis].iloc[0] for axis in axes])


def headed(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(drawable(title, 110), x=0.01, ha="left")


def _equal_elbo(axes: Axes) -> None:
    """Faint lines of equal ELBO; the axes' limits stay as they are."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(7).tick_values(low + left, high + right):
        axes.plot([left, right], [total - left, total - right], color="#d7dbe0", lw=0.8, zorder=0)
        at = min(right, total - low)
        start = max(left, total - high)
        x = start + 0.02 * (right - left)
        if left <= x <= right and low < total - x < high and at > left:
            axes.annotate(tick(0.0 - total), (x, total - x), color=FADED, fontsize=7, va="bottom")
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def rate_distortion(frame: pd.DataFrame, title: str = "") -> Figure | None:
    """Rate against distortion, a point a design, coloured by latent size; lines of equal ELBO.

    Of more designs than there are markers those are drawn that are evenly spread.

    Raises:
        NotComparable: the rows may not be compared in nats.
    """
    require_comparable(frame, "elbo")
    kept = frame[frame["kl"].notna() & frame["reconstruction_error"].notna()]
    sizes = ordered(kept["latent_dim"])
    axes_names = varying(kept, without=["latent_dim"])
    if len(split_places(kept, [*axes_names, "latent_dim"])) < 3:
        return None
    every = split(kept, axes_names)
    parts = [every[i] for i in evenly(len(every), len(MARKERS))]
    labels = [drawable(design_label(axes_names, key)) for key, _ in parts]
    below = max(0, -(-len(labels) // _legend_columns(labels)) - 5)
    figure = Figure(figsize=(WIDTH, 5.2 + 0.2 * below), layout="constrained")
    axes = figure.subplots()
    # With one latent size, colour is free to tell designs apart.
    several = len(sizes) > 1
    palette: dict[Any, Colour] = dict(zip(sizes, ramp(len(sizes)), strict=False))
    shades: list[Colour] = ["#57606a"] * len(parts)
    if not several:
        shades = [*colours(len(parts))]
    for i, (_, rows) in enumerate(parts):
        of = palette if several else dict.fromkeys(sizes, shades[i])
        _rate_distortion_line(axes, rows, MARKERS[i % len(MARKERS)], of)
    axes.set_xlabel(axis_label("kl"))
    axes.set_ylabel(axis_label("reconstruction_error"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick))
    _equal_elbo(axes)
    axes.grid(visible=False)
    _rate_distortion_legends(figure, labels, shades, palette if several else {})
    headed(figure, title + _shown_of(len(parts), len(every)))
    return figure


def _rate_distortion_line(
    axes: Axes, rows: pd.DataFrame, marker: str, palette: Mapping[Any, Colour]
) -> None:
    rate = summarise(rows, ["latent_dim"], "kl")
    distortion = summarise(rows, ["latent_dim"], "reconstruction_error")
    axes.plot(rate["mean"], distortion["mean"], color="#b8bec5", lw=1.0, zorder=1)
    for x, y in zip(rate.to_dict("records"), distortion.to_dict("records"), strict=True):
        axes.errorbar(
            x["mean"],
            y["mean"],
            xerr=(x["high"] - x["low"]) / 2,
            yerr=(y["high"] - y["low"]) / 2,
            color=palette[x["latent_dim"]],
            marker=marker,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
            elinewidth=1.0,
        )


def _legend_columns(labels: Sequence[str]) -> int:
    return max(1, min(4, 130 // (max(map(len, labels)) + 6)))


def _rate_distortion_legends(
    figure: Figure,
    labels: Sequence[str],
    shades: Sequence[Colour],
    palette: Mapping[Any, Colour],
) -> None:
    handles = [
        Line2D([], [], color=shades[i], marker=MARKERS[i % len(MARKERS)], lw=0, label=label)
        for i, label in enumerate(labels)
        if label
    ]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(labels))
    sizes = [
        Line2D([], [], color=colour, marker="o", lw=0, label=f"{size}")
        for size, colour in palette.items()
    ]
    if not sizes:
        return
    figure.axes[0].legend(
        handles=sizes,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        title="latent\ndimension\n[count]",
    )


def bits_ranking(frame: pd.DataFrame, title: str = "", most: int = 40) -> Figure | None:
    """Bits per dimension of every design, best first: the one score that crosses families.

    Raises:
        NotComparable: the rows are of different data.
    """
    metric = "bits_per_dim"
    if not _measured(frame, [metric]):
        return None
    axes_names = varying(frame)
    if not axes_names:
        return None
    parts = split_places(frame, axes_names)
    found = design_summaries(frame, [rows for _, rows in parts], [metric])
    table = pd.DataFrame([each[metric] for each in found])
    table["label"] = [drawable(design_label(axes_names, key), 70) for key, _ in parts]
    table["family"] = [value_text(frame["likelihood"].iloc[rows[0]]) for _, rows in parts]
    table = table[table["n"] > 0].sort_values(["mean", "label"]).head(most)
    if len(table) < 2:
        return None
    families = ordered(table["family"])
    return _ranking(table, dict(zip(families, colours(len(families)), strict=True)), title)


def _ranking(table: pd.DataFrame, palette: Mapping[Any, Colour], title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.0 + 0.21 * len(table)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(table.to_dict("records")):
        axes.errorbar(
            row["mean"],
            place,
            xerr=(row["high"] - row["low"]) / 2,
            color=palette[row["family"]],
            marker="o",
            markerfacecolor=palette[row["family"]] if row["n"] == row["cells"] else "white",
            capsize=2.2,
        )
    axes.set_yticks(range(len(table)), table["label"])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlabel(axis_label("bits_per_dim") + ", lower is better")
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    headed(figure, title)
    return figure


def _facets(parts: Sequence[Group], most: int) -> list[tuple[str, pd.DataFrame]]:
    """Designs of all groups that have most latent sizes, with a name each; at most `most`."""
    named: list[tuple[tuple[Any, ...], pd.DataFrame]] = []
    for group in parts:
        axes = varying(group.frame, without=["latent_dim"])
        label = "" if len(parts) == 1 else f"\n{drawable(group.label, 46)}"
        for key, rows in split(group.frame, axes):
            name = design_label(axes, key) or _fixed(rows, "latent_dim")
            named.append(((drawable(name, 40) + label,), rows))
    return [(key[0], rows) for key, rows in widest(named, most)]


def kl_per_dimension(
    parts: Sequence[Group],
    found: Mapping[str, Curve],
    title: str = "",
    most: int = _MOST_CURVE_PANELS,
) -> Figure | None:
    """The KL of each latent dimension, sorted within a cell, a colour a latent size.

    Args:
        parts: groups of comparable rows; each design has a panel and an axis of its own.
        found: for a cell_id its KL per dimension in nats, (latent,).
        title: what the figure is.
        most: panels at most; those designs that have most latent sizes are kept. A design of one
            latent size is in `kl_by_design`.
    """
    kept = _with(parts, lambda cell: cell in found)
    facets = [each for each in _facets(kept, most) if each[1]["latent_dim"].nunique() > 1]
    if not facets:
        return None
    palette = _size_palette([rows for _, rows in facets])
    figure, panels = _grid(len(facets), 3, 2.5)
    for axes, (name, rows) in zip(panels, facets, strict=True):
        for size, same in reversed(split(rows, ["latent_dim"])):
            _sorted_kl(axes, [found[cell] for cell in same["cell_id"]], palette[size[0]])
        marginal = " (marginals)" if (rows["posterior"] == "full").any() else ""
        axes.set_title(name + marginal, fontsize=8)
        _rank_axis(axes, rows)
    _sizes_legend(figure, palette)
    headed(figure, title)
    return figure


def curve_cells(parts: Sequence[Group]) -> list[str]:
    """The cells that the figures of KL per dimension choose from, whose arrays they need.

    Of each group the designs with most latent sizes, and evenly spread ones of one latent size.
    """
    found: list[str] = []
    for group in parts:
        frame = group.frame[group.frame["kl"].notna()]
        designs = split(frame, varying(frame, without=["latent_dim"]))
        sizes = [rows["latent_dim"].nunique() for _, rows in designs]
        alone = [rows for (_, rows), count in zip(designs, sizes, strict=True) if count == 1]
        sweeps = [each for each, count in zip(designs, sizes, strict=True) if count > 1]
        shown = [rows for _, rows in widest(sweeps, _MOST_CURVE_PANELS)]
        shown += [alone[i] for i in evenly(len(alone), _MOST_CURVES)]
        found += [cell for rows in shown for cell in rows["cell_id"]]
    return found


def _rank_axis(axes: Axes, rows: pd.DataFrame) -> None:
    top = max(2, int(rows["latent_dim"].max()))
    size_axis(axes, [2**i for i in range(int(np.ceil(np.log2(top))) + 1)])
    axes.set_xlabel("rank of the latent dimension [count]")
    axes.set_ylabel("KL [nats/image]")


def kl_by_design(
    frame: pd.DataFrame, found: Mapping[str, Curve], title: str = "", most: int = _MOST_CURVES
) -> Figure | None:
    """The sorted KL of each latent dimension, a line a design, for designs of one latent size.

    Raises:
        NotComparable: the rows may not be compared in nats.
    """
    require_comparable(frame, "kl")
    kept = frame[frame["cell_id"].isin(list(found))]
    designs = split(kept, varying(kept, without=["latent_dim"]))
    alone = [rows for _, rows in designs if rows["latent_dim"].nunique() == 1]
    if len(alone) < 2:
        return None
    alone = [alone[i] for i in evenly(len(alone), most)]
    shown = pd.concat(alone)
    axes_names = varying(shown)
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    made = []
    for i, ((key, rows), colour) in enumerate(
        zip(split(shown, axes_names), colours(len(alone)), strict=True)
    ):
        marginal = " (marginals)" if (rows["posterior"] == "full").any() else ""
        label = drawable(design_label(axes_names, key) + marginal)
        made.append(Design(label, rows, colour, MARKERS[i % len(MARKERS)]))
        _sorted_kl(axes, [found[c] for c in rows["cell_id"]], colour, made[-1].marker)
    _rank_axis(axes, shown)
    _legend(figure, made)
    headed(figure, title)
    return figure


def _with(parts: Sequence[Group], has: Callable[[str], bool]) -> list[Group]:
    kept = [
        Group(group.label, group.slug, group.frame[[has(c) for c in group.frame["cell_id"]]])
        for group in parts
    ]
    return [group for group in kept if not group.frame.empty]


def _size_palette(frames: Sequence[pd.DataFrame]) -> dict[Any, Colour]:
    sizes = ordered(pd.concat([rows["latent_dim"] for rows in frames]))
    return dict(zip(sizes, ramp(len(sizes)), strict=True))


def _sorted_kl(axes: Axes, curves: Sequence[Curve], colour: Colour, marker: str = "o") -> None:
    table = np.vstack([np.sort(curve)[::-1] for curve in curves])
    # A logarithmic axis has no room for more: ten thousand points would only be a large file.
    rank = np.unique(np.geomspace(1, table.shape[1], 200).round().astype(int))
    table = table[:, rank - 1]
    mean = table.mean(axis=0)
    axes.plot(rank, mean, color=colour)
    axes.plot(rank[-1], mean[-1], color=colour, marker=marker, markersize=4.5)
    axes.fill_between(rank, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.2, lw=0)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` places of `count`, evenly spread, the first and last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count else []


def widest(
    parts: Sequence[tuple[tuple[Any, ...], pd.DataFrame]], most: int
) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The designs with most latent sizes, at most `most`, in their old order."""
    count = {i: len(ordered(rows["latent_dim"])) for i, (_, rows) in enumerate(parts)}
    best = sorted(count, key=lambda i: (-count[i], i))[:most]
    return [parts[i] for i in sorted(best) if count[i]]


def _grid(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _sizes_legend(figure: Figure, palette: Mapping[Any, Colour]) -> None:
    handles = [Line2D([], [], color=c, label=f"z {size}") for size, c in palette.items()]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(10, len(handles)))


def loss_curves(
    parts: Sequence[Group], series: Mapping[str, Series], title: str = "", most: int = 9
) -> Figure | None:
    """The training ELBO by epoch, a thin line a cell; a cross where a cell diverged.

    The vertical range leaves out the lowest twentieth of the values: the first epochs would
    otherwise hide the rest. Each design has a panel and an axis of its own.
    """
    kept = _with(parts, lambda cell: len(series.get(cell, {}).get("train_elbo", ())) > 1)
    facets = _facets(kept, most)
    if not facets:
        return None
    palette = _size_palette([rows for _, rows in facets])
    figure, panels = _grid(len(facets), 3, 2.4)
    for axes, (name, rows) in zip(panels, facets, strict=True):
        _training(axes, rows, series, palette)
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("epoch [count]")
        axes.set_ylabel("training ELBO [nats/image]")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
    _sizes_legend(figure, palette)
    headed(figure, title)
    return figure


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
        axes.plot(epochs, curve, color=colour, lw=1.0, alpha=0.85)
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


_COST_AXES: Final = (
    "device",
    "precision",
    "architecture",
    "hidden",
    "dataset",
    "batch_size",
    "posterior",
    "objective",
    "importance_samples",
)


def cost(frame: pd.DataFrame, title: str = "") -> Figure | None:
    """Throughput, step time and peak memory against latent size: a dot a cell, a line of medians.

    Of more than `_MOST_DOTS` cells in a line, evenly spread ones are drawn; the medians are of all.

    Raises:
        NotComparable: the rows are of different machines.
    """
    metrics = ("samples_per_second", "step_ms_median", "peak_memory_mib")
    shown = _measured(frame, metrics)
    if not shown:
        return None
    require_comparable(frame, shown[0])
    axes_names = tuple(axis for axis in varying(frame) if axis in _COST_AXES)
    parts = split(frame, axes_names)
    palette = colours(len(parts))
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        for i, (_, rows) in enumerate(parts):
            _cost_line(axes, rows, metric, palette[i], MARKERS[i % len(MARKERS)])
        _cost_axes(axes, metric, ordered(frame["latent_dim"]), frame[metric])
    _legend(
        figure,
        [
            Design(
                drawable(design_label(axes_names, key)) or "all",
                rows,
                palette[i],
                MARKERS[i % len(MARKERS)],
            )
            for i, (key, rows) in enumerate(parts)
        ],
    )
    headed(figure, title)
    return figure


def _cost_line(axes: Axes, rows: pd.DataFrame, metric: str, colour: Colour, marker: str) -> None:
    kept = rows[rows[metric].notna()]
    middle = kept.groupby("latent_dim")[metric].median()
    axes.plot(middle.index, middle, color=colour)
    dots = kept.iloc[evenly(len(kept), _MOST_DOTS)]
    sns.scatterplot(
        x=dots["latent_dim"].astype(float),
        y=dots[metric],
        ax=axes,
        color=colour,
        marker=marker,
        s=22,
        alpha=0.65,
        legend=False,
        linewidth=0.3,
    )


def _cost_axes(axes: Axes, metric: str, sizes: Sequence[Any], values: "pd.Series[float]") -> None:
    size_axis(axes, sizes)
    axes.set_xlabel(_X_LABELS["latent_dim"])
    axes.set_ylabel(axis_label(metric))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(tick))
    else:
        axes.set_ylim(bottom=0)
