"""Figures of images and of codes: t-SNE maps, reconstructions, samples, interpolations.

Each takes rows of one data set and the arrays that their records keep. Where there are more designs
or latent sizes than fit on a page, those designs that cover most latent sizes are shown, of equals
and of sizes those that are evenly spread; the seed shown is the lowest that was finished.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vaebench.analysis.columns import AXIS_COLUMNS
from vaebench.analysis.labels import design_labels, drawable_names, ordered, varying
from vaebench.plots.figures import evenly, headed, split, widest
from vaebench.plots.palette import colours
from vaebench.plots.style import INK, WIDTH

__all__ = ["interpolations", "prior_samples", "reconstructions", "traversals", "tsne_maps"]

Arrays = Mapping[str, NDArray[Any]]
ReadArrays = Callable[[str], Arrays]
Image = NDArray[np.uint8]

_SHOWN: Final = ("cell_id", "knn_accuracy", "tsne_trustworthiness")
_LABEL_SIZE: Final = 8.0
_GAP: Final = 1
_PAPER: Final = 255


@dataclass(frozen=True)
class Shown:
    """One cell that is shown: its latent size, what is said over its map, and its arrays."""

    size: int
    knn_accuracy: float
    tsne_trustworthiness: float
    arrays: Arrays


@dataclass(frozen=True)
class Block:
    """Cells that stand together: the latent sizes of one design, or designs of one size each."""

    label: str
    names: tuple[str, ...]
    cells: tuple[Shown, ...]


def _cells(rows: pd.DataFrame, arrays: ReadArrays, needs: str, sizes: int) -> tuple[Shown, ...]:
    found = []
    for size, same in split(rows, ["latent_dim"]):
        for cell, accuracy, trust in same.sort_values("seed")[list(_SHOWN)].to_numpy().tolist():
            kept = arrays(str(cell))
            if needs in kept:
                found.append(Shown(int(size[0]), accuracy, trust, kept))
                break
    return tuple(found[i] for i in evenly(len(found), sizes))


def blocks(
    frame: pd.DataFrame, arrays: ReadArrays, needs: str, designs: int, sizes: int, alone: int
) -> list[Block]:
    """The cells to show, those that have the array `needs`.

    Args:
        frame: rows of one data set.
        arrays: reads the arrays of a cell.
        needs: the name of the array that is shown.
        designs: blocks at most of designs with several latent sizes.
        sizes: latent sizes at most in such a block, evenly spread.
        alone: designs at most of one latent size each; those of one data support make a block.
    """
    done = frame.loc[frame["status"] == "done", [*AXIS_COLUMNS, "data_support", *_SHOWN]]
    axes_names = varying(done, without=["latent_dim"])
    parts = split(done, axes_names) if len(done) else []
    sweeps = widest([each for each in parts if each[1]["latent_dim"].nunique() > 1], designs)
    made = []
    labels = drawable_names(design_labels(axes_names, [key for key, _ in sweeps]), 44)
    for label, (_, rows) in zip(labels, sweeps, strict=True):
        cells = _cells(rows, arrays, needs, sizes)
        names = tuple(f"z {cell.size:,}" for cell in cells)
        made.append(Block(label, names, cells))
    single = [rows for _, rows in parts if rows["latent_dim"].nunique() == 1]
    kept = [single[i] for i in evenly(len(single), alone)]
    beside = [key for key, _ in sweeps]
    made += _alone(kept, axes_names, beside, arrays, needs)
    return [block for block in made if block.cells]


def _wrapped(label: str) -> str:
    """A name in lines that end between its parts, so that a number stays beside its word."""
    parts = label.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    lines = textwrap.fill(parts, 28, break_long_words=False)
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _alone(
    single: Sequence[pd.DataFrame],
    axes_names: Sequence[str],
    beside: Sequence[tuple[Any, ...]],
    arrays: ReadArrays,
    needs: str,
) -> list[Block]:
    """Blocks of designs of one latent size, named so that one is told from those `beside`."""
    if not single:
        return []
    made = []
    for _, rows in split(pd.concat(single), ["data_support"]):
        own = varying(rows)
        designs = split(rows, own or axes_names)
        keys = [key for key, _ in designs]
        # One by itself is named as among the others on the page.
        labels = (
            design_labels(own, keys) if own else design_labels(axes_names, [*beside, *keys])[-1:]
        )
        named = [
            (_wrapped(label), cell)
            for label, (_, same) in zip(drawable_names(labels, 70), designs, strict=True)
            for cell in _cells(same, arrays, needs, 1)
        ]
        sizes = {cell.size for _, cell in named}
        label = f"z {min(sizes):,}" if len(sizes) == 1 else "one latent size each"
        names = tuple(name for name, _ in named)
        made.append(Block(label, names, tuple(cell for _, cell in named)))
    return made


def mosaic(images: NDArray[Any]) -> Image:
    """Images (rows, columns, H, W[, 3]) side by side with a gap of one pixel, as (h, w, 3)."""
    rgb = images if images.ndim == 5 else np.repeat(images[..., None], 3, axis=-1)
    rows, columns, height, width, _ = rgb.shape
    step_y, step_x = height + _GAP, width + _GAP
    sheet = np.full((rows * step_y - _GAP, columns * step_x - _GAP, 3), _PAPER, dtype=np.uint8)
    for r in range(rows):
        for c in range(columns):
            sheet[r * step_y : r * step_y + height, c * step_x : c * step_x + width] = rgb[r, c]
    return sheet


def _show(axes: Axes, sheet: Image) -> None:
    # "none" embeds the pixels themselves in SVG and PDF; other filters would blow them up.
    axes.imshow(sheet, interpolation="none")
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


@dataclass(frozen=True)
class Sheet:
    """A mosaic with a label for every few of its rows, (h, w, 3)."""

    title: str
    image: Image
    labels: tuple[str, ...]
    step: float

    @property
    def ratio(self) -> float:
        """Height over width."""
        return float(self.image.shape[0] / self.image.shape[1])

    @property
    def margin(self) -> float:
        """About the width of the labels in inches."""
        return 0.3 + 0.075 * max(len(line) for text in self.labels for line in text.split("\n"))


_LINE: Final = 1.25
"""Height of a line of text over the size of its letters."""


def _draw_sheet(axes: Axes, sheet: Sheet, inches: float) -> None:
    """Draw it ``inches`` wide or so, the labels no larger than their rows have room for."""
    _show(axes, sheet.image)
    lines = max(label.count("\n") + 1 for label in sheet.labels)
    room = inches * sheet.step / sheet.image.shape[1]
    axes.tick_params(axis="y", labelsize=min(_LABEL_SIZE, 72 * room / (_LINE * lines)))
    places = [sheet.step * (i + 0.5) - 1 for i in range(len(sheet.labels))]
    axes.set_yticks(places, sheet.labels)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.set_title(sheet.title)
    axes.set_anchor("NW")


def _sheets(shown: Sequence[Sheet], title: str) -> Figure | None:
    """Mosaics two abreast, the tall ones first."""
    if not shown:
        return None
    sheets = sorted(shown, key=lambda sheet: -sheet.ratio)
    columns = min(2, len(sheets))
    width = (WIDTH if columns == 2 else 0.62 * WIDTH) / columns
    rows = [sheets[i : i + columns] for i in range(0, len(sheets), columns)]
    # The layout makes all images equally wide, whatever room their labels take.
    margins = [max(one.margin for one in sheets[i::columns]) for i in range(columns)]
    wide = width - sum(margins) / columns
    heights = [0.45 + max(wide * one.ratio for one in row) for row in rows]
    figure = Figure(figsize=(width * columns, 0.35 + sum(heights)), layout="constrained")
    grid = {"height_ratios": heights}
    panels = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=grid).ravel()
    for axes, sheet in zip(panels, sheets, strict=False):
        _draw_sheet(axes, sheet, wide)
    for axes in panels[len(sheets) :]:
        axes.remove()
    headed(figure, title)
    return figure


def _reconstruction_sheet(block: Block) -> Sheet:
    first = block.cells[0].arrays
    rows = [first["originals"]] if "originals" in first else []
    labels = ["data"] * len(rows) + list(block.names)
    rows += [cell.arrays["reconstructions"] for cell in block.cells]
    count = min(map(len, rows))
    image = mosaic(np.stack([row[:count] for row in rows]))
    return Sheet(block.label, image, tuple(labels), rows[0].shape[1] + _GAP)


def reconstructions(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 6
) -> Figure | None:
    """Test images and their reconstructions, a row a latent size, a block a design."""
    shown = blocks(frame, arrays, "reconstructions", designs, sizes=6, alone=10)
    return _sheets([_reconstruction_sheet(block) for block in shown], title)


def _interpolation_sheet(block: Block) -> Sheet:
    kept = [cell.arrays["interpolations"][:2] for cell in block.cells]
    step = len(kept[0]) * (kept[0].shape[2] + _GAP)
    return Sheet(block.label, mosaic(np.concatenate(kept)), block.names, step)


def interpolations(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 4
) -> Figure | None:
    """Straight lines between two codes, decoded: two pairs of images a latent size."""
    shown = blocks(frame, arrays, "interpolations", designs, sizes=5, alone=5)
    return _sheets([_interpolation_sheet(block) for block in shown], title)


Draw = Callable[[Axes, Shown, str], None]


def _rows(shown: Sequence[Block], most: int) -> list[Block]:
    """Blocks of at most `most` cells; a design with few of the sizes is left out."""
    widest_block = min(most, max(len(block.cells) for block in shown))
    kept = [block for block in shown if 2 * min(len(block.cells), most) >= widest_block]
    return [
        Block(
            block.label if start == 0 else "",
            block.names[start : start + most],
            block.cells[start : start + most],
        )
        for block in kept
        for start in range(0, len(block.cells), most)
    ]


def _table(
    shown: Sequence[Block], draw: Draw, title: str, most: int = 5, extra: float = 0.0
) -> Figure | None:
    """A grid of square panels, a block a row or several rows of at most `most`."""
    if not shown:
        return None
    blocks_shown = _rows(shown, most)
    columns = max(len(block.cells) for block in blocks_shown)
    side = min(WIDTH / columns, 2.4)
    lines = [max(name.count("\n") for name in block.names) for block in blocks_shown]
    heights = [side + 0.45 + 0.15 * more for more in lines]
    size = (max(side * columns, 4.0), 0.5 + sum(heights) + extra)
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    for row, block in zip(rows, blocks_shown, strict=True):
        if block.label:
            row.suptitle(block.label, x=0.01, ha="left", fontsize=9.5)
        panels = row.subplots(1, columns, squeeze=False)[0]
        for axes, cell, name in zip(panels, block.cells, block.names, strict=False):
            draw(axes, cell, name)
        for axes in panels[len(block.cells) :]:
            axes.remove()
    headed(figure, title)
    return figure


def _name_panel(axes: Axes, name: str) -> None:
    axes.set_title(name, fontweight="normal", loc="center", fontsize=8)


def _sample_sheet(axes: Axes, cell: Shown, name: str) -> None:
    images = cell.arrays["prior_samples"]
    side = int(np.sqrt(len(images)))
    _show(axes, mosaic(images[: side * side].reshape(side, side, *images.shape[1:])))
    _name_panel(axes, name)


def prior_samples(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 4
) -> Figure | None:
    """Decoded draws from the prior, a square of images a latent size or design."""
    shown = blocks(frame, arrays, "prior_samples", designs, sizes=5, alone=10)
    return _table(shown, _sample_sheet, title)


def _traversal_sheet(axes: Axes, cell: Shown, name: str) -> None:
    _show(axes, mosaic(cell.arrays["traversal"]))
    _name_panel(axes, name)


def traversals(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 2
) -> Figure | None:
    """A walk over the two latent dimensions of highest KL, all others at zero."""
    shown = blocks(frame, arrays, "traversal", designs, sizes=4, alone=4)
    return _table(shown, _traversal_sheet, title, most=4)


def _share(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) and np.isfinite(value) else "n/a"


_LABEL_INCHES = 0.65
"""The room of a label and its mark in a legend."""


def tsne_maps(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 3
) -> Figure | None:
    """t-SNE of the codes, coloured by label; kNN accuracy and trustworthiness over each map."""
    shown = blocks(frame, arrays, "tsne", designs, sizes=5, alone=5)
    labels = _labels(shown)
    many = len(labels) > 10
    palette = sns.color_palette("husl", len(labels)) if many else colours(len(labels))
    colour = dict(zip(labels, palette, strict=True))

    def draw(axes: Axes, cell: Shown, name: str) -> None:
        _map(axes, cell, name, colour)

    figure = _table(shown, draw, title, extra=0.4 if labels else 0.0)
    if figure is not None and labels and not many:
        handles = [
            Line2D([], [], color=c, marker="o", lw=0, label=str(label))
            for label, c in colour.items()
        ]
        fitting = max(1, min(len(handles), int(figure.get_figwidth() / _LABEL_INCHES)))
        figure.legend(handles=handles, loc="outside lower center", ncols=fitting, title="label")
    return figure


def _labels(shown: Sequence[Block]) -> list[Any]:
    kept = [
        c.arrays["tsne_labels"] for block in shown for c in block.cells if "tsne_labels" in c.arrays
    ]
    return ordered(int(label) for label in np.unique(np.concatenate(kept))) if kept else []


def _map(axes: Axes, cell: Shown, name: str, colour: Mapping[Any, Any]) -> None:
    points = cell.arrays["tsne"]
    labels = cell.arrays.get("tsne_labels")
    shade = [INK] * len(points) if labels is None else [colour[int(label)] for label in labels]
    axes.scatter(points[:, 0], points[:, 1], c=shade, s=7, linewidths=0, rasterized=True)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_adjustable("datalim")
    for spine in axes.spines.values():
        spine.set_visible(True)
    trust = f"trust {_share(cell.tsne_trustworthiness)}"
    told = trust if labels is None else f"kNN {_share(cell.knn_accuracy)}, {trust}"
    axes.set_title(
        f"{name}\n{told}".lstrip(),
        fontweight="normal",
        loc="center",
        fontsize=8,
    )
