"""Figures of images and of codes: t-SNE maps, reconstructions, samples, interpolations.

Each takes rows of one data set and the arrays that their records keep; see `images` for the choice
of cells.
"""

from collections.abc import Callable, Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaebench.analysis.labels import design_labels, drawable_names
from vaebench.plots.figures import headed, panel_grid
from vaebench.plots.images import (
    KINDS,
    Block,
    Image,
    Kind,
    ReadArrays,
    Shown,
    best_of_columns,
    blocks,
    class_names,
    label_colours,
    mosaic,
    strips,
)
from vaebench.plots.style import INK, WIDTH


def _panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    wide, tall = figure.get_size_inches()
    place = (left / wide, 1 - (top + height) / tall, width / wide, height / tall)
    axes: Axes = figure.add_axes(place)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    return axes


def _show(axes: Axes, sheet: Image) -> None:
    # "none" embeds the pixels themselves in SVG and PDF; other filters would enlarge them.
    axes.imshow(sheet, interpolation="none", aspect="auto")
    for spine in axes.spines.values():
        spine.set_visible(False)


_TITLE: Final = 0.42
"""Inches of a figure's title, and of the name of a block."""
_GAP: Final = 0.16


def image_figure(
    kind: Kind, frame: pd.DataFrame, arrays: ReadArrays, title: str = ""
) -> Figure | None:
    """Images that the records keep, one strip or panel per latent size or design."""
    shown = blocks(frame, arrays, kind)
    if not shown:
        return None
    if kind.strips:
        return _strips(shown, kind, title)

    def draw(axes: Axes, cell: Shown) -> None:
        _show(axes, mosaic(kind.images(cell.arrays)))

    return _panels(shown, draw, title, most=4 if kind.array == "traversal" else 5)


def _strips(shown: Sequence[Block], kind: Kind, title: str) -> Figure:
    """Strips of images in two columns of blocks, each with its name to the left."""
    columns = min(2, len(shown))
    made = [strips(block, kind) for block in shown]
    longest = max(len(line) for of in made for name, _ in of for line in name.split("\n"))
    margin = 0.15 + 0.062 * longest
    wide = WIDTH / 2 - margin - _GAP
    tall = [[wide * sheet.shape[0] / sheet.shape[1] + 0.04 for _, sheet in of] for of in made]
    heights = [
        max(sum(each) for each in tall[i : i + columns]) + _TITLE
        for i in range(0, len(made), columns)
    ]
    figure = Figure(figsize=(columns * WIDTH / 2, _TITLE + sum(heights)))
    for place, (block, of) in enumerate(zip(shown, made, strict=True)):
        row, column = divmod(place, columns)
        left, top = column * WIDTH / 2 + margin, _TITLE + sum(heights[:row])
        _write(figure, left, top, block.label)
        top += 0.24
        for (name, sheet), height in zip(of, tall[place], strict=True):
            axes = _panel(figure, left, top, wide, height - 0.04)
            _show(axes, sheet)
            lines = name.count("\n") + 1
            size = min(8.0, 58 * height / lines)
            axes.text(
                -0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center", size=size
            )
            top += height
    headed(figure, title)
    return figure


def _write(figure: Figure, left: float, top: float, text: str) -> None:
    wide, tall = figure.get_size_inches()
    figure.text(left / wide, 1 - (top + 0.06) / tall, text, va="top", size=9.5, weight="bold")


Draw = Callable[[Axes, Shown], None]


def _panels(
    shown: Sequence[Block],
    draw: Draw,
    title: str,
    most: int = 5,
    below: float = 0.0,
    noted: bool = False,
) -> Figure:
    """Square panels with equal gaps, at most `most` per row; `below` inches stay free."""
    rows = [
        (block.label if start == 0 else "", block.names[start : start + most], cells)
        for block in shown
        for start in range(0, len(block.cells), most)
        for cells in (block.cells[start : start + most],)
    ]
    columns = max(len(cells) for _, _, cells in rows)
    side = min((WIDTH - _GAP * (columns + 1)) / columns, 2.4)
    heads = [0.19 + 0.14 * (max(n.count("\n") for n in names) + noted) for _, names, _ in rows]
    names_of_blocks = [0.26 if label else 0.0 for label, _, _ in rows]
    inches = _TITLE + sum(heads) + sum(names_of_blocks) + len(rows) * (side + _GAP) + below
    figure = Figure(figsize=(max(4.0, columns * (side + _GAP) + _GAP), inches))
    top = _TITLE
    for (label, names, cells), head, room in zip(rows, heads, names_of_blocks, strict=True):
        _write(figure, _GAP, top, label)
        top += room + head
        for place, (name, cell) in enumerate(zip(names, cells, strict=True)):
            axes = _panel(figure, _GAP + place * (side + _GAP), top, side, side)
            draw(axes, cell)
            text = f"{name}\n{cell.note}".lstrip() if noted else name
            axes.set_title(text, fontweight="normal", loc="center", fontsize=8, y=1.0, pad=3)
        top += side + _GAP
    headed(figure, title)
    return figure


def tsne_maps(frame: pd.DataFrame, arrays: ReadArrays, title: str = "") -> Figure | None:
    """t-SNE of the codes, coloured by label; kNN accuracy and trustworthiness above each map."""
    shown = blocks(frame, arrays, KINDS["tsne"])
    if not shown:
        return None
    import seaborn as sns  # takes a second, and an interactive page has no use for it

    colours = label_colours(shown)

    def draw(axes: Axes, cell: Shown) -> None:
        (x, y), labels = cell.arrays["tsne"].T, cell.arrays.get("tsne_labels")
        coded = {"color": INK} if labels is None else {"hue": labels, "palette": colours}
        marks = {"s": 7, "linewidth": 0, "legend": False, "rasterized": True}
        sns.scatterplot(x=x, y=y, ax=axes, **coded, **marks)
        axes.set(aspect="equal", adjustable="datalim")

    names = class_names(shown)
    legend = 0 < len(colours) <= 10
    figure = _panels(shown, draw, title, below=0.45 if legend else 0.0, noted=True)
    if legend:
        handles = [
            Line2D([], [], color=colour, marker="o", lw=0, label=names[label])
            for label, colour in colours.items()
        ]
        wide = 0.575 + 0.075 * max(map(len, names.values()))
        columns = max(1, min(len(handles), int(figure.get_figwidth() / wide)))
        figure.legend(handles=handles, loc="lower center", ncols=columns, title="label")
    return figure


def columns(frame: pd.DataFrame, arrays: ReadArrays, title: str = "") -> Figure | None:
    """E[x|z] against x for each column of a table, of the design with the highest ELBO.

    Points on the dashed line are reconstructed exactly; on a horizontal line the mean ignores x.
    """
    best = best_of_columns(frame, arrays)
    if best is None:
        return None
    row, kept = best
    import seaborn as sns  # as above

    names = drawable_names(list(map(str, kept["row_columns"])), 30)
    figure, panels = panel_grid(len(names), 4, 2.1)
    for axes, name, x, mean in zip(
        panels, names, kept["rows"].T, kept["row_means"].T, strict=False
    ):
        axes.axline((float(x[0]), float(x[0])), slope=1, color=INK, lw=0.8, ls="--")
        sns.scatterplot(x=x, y=mean, ax=axes, s=6, linewidth=0, alpha=0.6)
        axes.set_title(name, fontsize=8)
        axes.set(xlabel="x [data unit]", ylabel="E[x|z]")
    names_of = [axis for axis in ("likelihood", "sigma", "latent_dim") if axis in row]
    label = design_labels(names_of, [[row[axis] for axis in names_of]])[0]
    headed(figure, f"{title} ({label})".strip())
    return figure
