"""Figures of timed training steps: throughput and speed-up against each size, per machine."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from vaebench.analysis.comparability import Group
from vaebench.analysis.labels import drawable
from vaebench.analysis.timing import SIZES, Bench, Line, lines
from vaebench.plots.figures import headed, legend_columns, size_axis
from vaebench.plots.keys import MARKERS
from vaebench.plots.palette import Colour, colours
from vaebench.plots.style import FADED, WIDTH, tick

_LABELS: Final = {
    "batch_size": "batch size [images]",
    "latent_dim": "latent dimension [count]",
    "width": "hidden width [count]",
}
_THROUGHPUT: Final = "training images [1/s]"
_SPEED_UP: Final = "speed-up over the CPU [ratio]"

_Shades = Mapping[str, tuple[Colour, str]]


def timing_figure(bench: Bench | Group, title: str = "") -> Figure | None:
    """Draw the throughput of every device against each swept size, and below it the speed-up.

    A bar is the interquartile range over blocks of steps; an open marker is a noisy timing; a
    timing that is too noisy is left out. None if no size was swept.
    """
    swept = [(axis, _drawn(lines(bench.frame, axis), "step_ms")) for axis in SIZES]
    columns = [(axis, found) for axis, found in swept if found]
    if not columns:
        return None
    compared = any(_drawn(found, "ratio") for _, found in columns)
    figure = Figure(figsize=(WIDTH, 5.6 if compared else 3.3), layout="constrained")
    panels = figure.subplots(
        2 if compared else 1, len(columns), squeeze=False, sharex="col", sharey="row"
    )
    shades = _shades([line.device for _, found in columns for line in found])
    for place, (axis, found) in enumerate(columns):
        _throughput(panels[0, place], found, shades)
        if compared:
            _speed_up(panels[1, place], _drawn(found, "ratio"), shades)
        sizes = sorted({size for line in found for size in line.rows[axis]})
        size_axis(panels[-1, place], sizes)
        panels[-1, place].set(xlabel=_LABELS[axis], xlim=(sizes[0] / 1.3, sizes[-1] * 1.3))
        panels[0, place].set_title(drawable(found[0].fixed), fontsize=8)
    for row, label in zip(panels, (_THROUGHPUT, _SPEED_UP), strict=False):
        row[0].set_ylabel(label)
        _count_scale(row[0])
    _devices(figure, shades)
    figure.align_labels()
    headed(figure, title)
    return figure


def _drawn(found: Sequence[Line], column: str) -> list[Line]:
    return [line for line in found if line.rows[column].notna().any()]


def _shades(devices: Sequence[str]) -> _Shades:
    names = list(dict.fromkeys(devices))
    return {
        name: (colour, MARKERS[i % len(MARKERS)])
        for i, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True))
    }


def _throughput(axes: Axes, found: Sequence[Line], shades: _Shades) -> None:
    for line in found:
        images = line.rows["samples_per_second"] * line.rows["step_ms"]
        times = line.rows[["step_ms_high", "step_ms", "step_ms_low"]]
        noisy = (line.rows["verdict"] == "noisy").to_numpy()
        _draw(axes, line, images.to_numpy() / times.to_numpy().T, noisy, shades)


def _speed_up(axes: Axes, found: Sequence[Line], shades: _Shades) -> None:
    axes.axhline(1.0, color=FADED, lw=1.0, ls="--")
    for line in found:
        columns = line.rows[["ratio_low", "ratio", "ratio_high"]]
        noisy = line.rows["ratio_noisy"].to_numpy()
        _draw(axes, line, columns.to_numpy().T, noisy, shades)


def _draw(
    axes: Axes,
    line: Line,
    values: NDArray[np.float64],
    noisy: NDArray[np.bool_],
    shades: _Shades,
) -> None:
    low, middle, high = values
    sizes = line.rows[line.axis].to_numpy(np.float64)
    colour, marker = shades[line.device]
    bars = np.vstack([middle - low, high - middle])
    axes.errorbar(sizes, middle, yerr=bars, color=colour, elinewidth=1.1, capsize=2.2)
    for kept, face in ((~noisy, colour), (noisy, "white")):
        axes.plot(
            sizes[kept],
            middle[kept],
            linestyle="none",
            marker=marker,
            markerfacecolor=face,
            markeredgecolor=colour,
        )


def _count_scale(axes: Axes) -> None:
    """Use a logarithmic scale with plain numbers, and more ticks if the range is small."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few = high / low < 200
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(tick))


def _devices(figure: Figure, shades: _Shades) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, label=drawable(name))
        for name, (colour, marker) in shades.items()
    ]
    columns = legend_columns(list(shades))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
