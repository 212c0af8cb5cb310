"""The rate-distortion plane: how each design spends its nats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from vaebench.analysis.columns import axis_label
from vaebench.analysis.comparability import require_comparable
from vaebench.analysis.labels import design_labels, drawable_names, ordered, varying
from vaebench.analysis.summary import summarise
from vaebench.plots.figures import headed, legend_columns, shown_of
from vaebench.plots.keys import MARKERS, Key, Keys
from vaebench.plots.palette import Colour
from vaebench.plots.selection import evenly, split, split_places
from vaebench.plots.style import FADED, WIDTH, tick

_FAR: Final = 3.0
"""A value this many interquartile ranges beyond the quartiles is far from the others."""
_PRESSED: Final = 5.0
"""If far values make an axis this many times as long, the other points have their panel."""


@dataclass(frozen=True)
class _Path:
    """One design: its latent sizes as points of the plane."""

    rate: pd.DataFrame
    distortion: pd.DataFrame
    marker: str
    shades: Mapping[Any, Colour]

    @property
    def means(self) -> NDArray[np.float64]:
        """Rate and distortion in nats per image, (sizes, 2)."""
        return np.stack([self.rate["mean"], self.distortion["mean"]], axis=1).astype(np.float64)

    @property
    def halves(self) -> NDArray[np.float64]:
        """Half the width of each interval, 0 where there is none, (sizes, 2)."""
        of = [(each["high"] - each["low"]) / 2 for each in (self.rate, self.distortion)]
        return np.nan_to_num(np.stack(of, axis=1).astype(np.float64))


def near(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points (n, 2) are shown without the far ones, (n,); all if none is far away.

    A point is far by Tukey's rule in either coordinate. The others have a separate panel only if
    the far ones make an axis more than five times as long.
    """
    low, high = np.quantile(points, [0.25, 0.75], axis=0)
    room = _FAR * (high - low)
    close = ((points >= low - room) & (points <= high + room)).all(axis=1)
    if close.sum() < 3:
        return np.ones(len(points), dtype=bool)
    every, kept = np.ptp(points, axis=0), np.ptp(points[close], axis=0)
    pressed = bool((every > _PRESSED * np.maximum(kept, 1e-9)).any())
    return close if pressed else np.ones(len(points), dtype=bool)


def rate_distortion(
    frame: pd.DataFrame, title: str = "", keys: Keys | None = None
) -> Figure | None:
    """Draw rate against distortion, one point per design, with lines of equal ELBO.

    The colour is the latent size if there are several. If there are more designs than markers,
    evenly spread ones are drawn. If some points are so far away that they would compress the
    others, a second panel shows the others alone.

    Raises:
        NotComparable: the rows may not be compared in nats.
    """
    require_comparable(frame, "elbo")
    kept = frame[frame["kl"].notna() & frame["reconstruction_error"].notna()]
    axes_names = varying(kept, without=["latent_dim"])
    if len(split_places(kept, [*axes_names, "latent_dim"])) < 3:
        return None
    every = split(kept, axes_names)
    parts = [every[i] for i in evenly(len(every), len(MARKERS))]
    labels = drawable_names(design_labels(axes_names, [key for key, _ in parts]))
    book = keys or Keys()
    shown = book.designs(labels)
    # With one latent size, the colour can distinguish designs.
    several = len(ordered(kept["latent_dim"])) > 1
    palette = book.sizes(kept["latent_dim"]) if several else {}
    shown = _by_marker(shown) if several else shown
    paths = [_path(rows, key, palette) for (_, rows), key in zip(parts, shown, strict=True)]
    figure = _plane(paths, labels)
    _legends(figure, labels, shown, palette)
    headed(figure, title + shown_of(len(parts), len(every)))
    return figure


def _path(rows: pd.DataFrame, key: Key, palette: Mapping[Any, Colour]) -> _Path:
    rate = summarise(rows, ["latent_dim"], "kl")
    distortion = summarise(rows, ["latent_dim"], "reconstruction_error")
    own = dict.fromkeys(rate["latent_dim"], key.colour)
    return _Path(rate, distortion, key.marker, palette or own)


def _by_marker(keys: Sequence[Key]) -> list[Key]:
    """The keys with a new marker for each that repeats, since the colour is the latent size."""
    taken = {key.marker for key in keys}
    free = iter([marker for marker in MARKERS if marker not in taken])
    seen: set[str] = set()
    made = []
    for key in keys:
        marker = next(free) if key.marker in seen else key.marker
        seen.add(marker)
        made.append(replace(key, marker=marker))
    return made


def _plane(paths: Sequence[_Path], labels: Sequence[str]) -> Figure:
    """All points in one panel; or the near ones in a wide panel and all in a narrow one."""
    points, halves = (np.concatenate([getattr(p, of) for p in paths]) for of in ("means", "halves"))
    close = near(points)
    below = max(0, -(-len(labels) // legend_columns(labels)) - 5)
    figure = Figure(figsize=(WIDTH, 5.2 + 0.2 * below), layout="constrained")
    if close.all():
        axes = figure.subplots()
        _draw(axes, paths)
        _finish(axes)
        return figure
    wide, narrow = figure.subplots(1, 2, width_ratios=[2.2, 1])
    for axes in (wide, narrow):
        _draw(axes, paths)
    _limit(wide, points[close], halves[close])
    _finish(wide)
    _finish(narrow)
    far = int((~close).sum())
    wide.set_title(f"without {far} far point{'s' * (far != 1)}", fontsize=8)
    narrow.set_title("all points (box: the other panel)", fontsize=8)
    (left, right), (low, high) = wide.get_xlim(), wide.get_ylim()
    box = Rectangle((left, low), right - left, high - low, fill=False, ec=FADED, ls="--")
    narrow.add_patch(box)
    return figure


def _limit(axes: Axes, points: NDArray[np.float64], halves: NDArray[np.float64]) -> None:
    low, high = (points - halves).min(axis=0), (points + halves).max(axis=0)
    room = 0.05 * np.maximum(high - low, 1e-9)
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])


def _draw(axes: Axes, paths: Sequence[_Path]) -> None:
    for path in paths:
        axes.plot(path.rate["mean"], path.distortion["mean"], color="#b8bec5", lw=1.0, zorder=1)
        whole = (path.rate["n"] == path.rate["cells"]).tolist()
        for size, (x, y), (wide, tall), full in zip(
            path.rate["latent_dim"], path.means, path.halves, whole, strict=True
        ):
            shade = path.shades[size]
            axes.errorbar(
                x,
                y,
                xerr=wide or np.nan,
                yerr=tall or np.nan,
                color=shade,
                marker=path.marker,
                markersize=6,
                # Open where a seed has no value.
                markerfacecolor=shade if full else "white",
                markeredgecolor="white" if full else shade,
                markeredgewidth=0.5 if full else 1.2,
                elinewidth=1.0,
            )


def _finish(axes: Axes) -> None:
    axes.set_xlabel(axis_label("kl"))
    axes.set_ylabel(axis_label("reconstruction_error"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick))
    _equal_elbo(axes)
    axes.grid(visible=False)


def _equal_elbo(axes: Axes) -> None:
    """Draw faint lines of equal ELBO, numbered at the edge, without changing the limits."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(7).tick_values(low + left, high + right):
        axes.plot([left, right], [total - left, total - right], color="#d7dbe0", lw=0.8, zorder=0)
        number = tick(0.0 - total)
        if low <= total - right <= high:  # it leaves at the right
            place, shift, side = (right, total - right), (4, 0), "left"
        elif left + 0.05 * (right - left) < total - low < right:  # it leaves at the bottom
            place, shift, side = (total - low, low), (-3, 5), "right"
        else:
            continue
        axes.annotate(
            number,
            place,
            shift,
            textcoords="offset points",
            color=FADED,
            fontsize=7,
            ha=side,
            va="center",
            annotation_clip=False,
        )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _legends(
    figure: Figure, labels: Sequence[str], keys: Sequence[Key], palette: Mapping[Any, Colour]
) -> None:
    """A legend of the markers below, and of the latent sizes at the right."""
    handles = [
        Line2D([], [], color=FADED if palette else key.colour, marker=key.marker, lw=0, label=label)
        for label, key in zip(labels, keys, strict=True)
        if label
    ]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(labels))
    sizes = [
        Line2D([], [], color=colour, marker="o", lw=0, label=f"{size:,}")
        for size, colour in palette.items()
    ]
    if sizes:
        heading = "latent\ndimension\n[count]"
        figure.legend(handles=sizes, loc="outside right center", title=heading)
