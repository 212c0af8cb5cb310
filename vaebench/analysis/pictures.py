"""Figures of images and of codes: t-SNE maps, reconstructions, samples, interpolations.

Each takes rows of one data set and the arrays that their records keep. Where there are more designs
or latent sizes than fit on a page, those designs that cover most latent sizes are shown, and sizes
that are evenly spread; the seed shown is the lowest that was finished.
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
from numpy.typing import NDArray

from vaebench.analysis.figures import split, widest
from vaebench.analysis.labels import design_label, drawable, ordered, varying
from vaebench.analysis.style import INK, WIDTH, colours

__all__ = ["interpolations", "prior_samples", "reconstructions", "traversals", "tsne_maps"]

Arrays = Mapping[str, NDArray[Any]]
ReadArrays = Callable[[str], Arrays]
Image = NDArray[np.uint8]

_GAP: Final = 1
_PAPER: Final = 255


@dataclass(frozen=True)
class Shown:
    """One cell that is shown: its row and its arrays."""

    size: int
    row: Mapping[str, Any]
    arrays: Arrays


@dataclass(frozen=True)
class Block:
    """One design with the cells that stand for its latent sizes."""

    label: str
    cells: tuple[Shown, ...]


def _spread(count: int, most: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _cells(rows: pd.DataFrame, arrays: ReadArrays, needs: str, sizes: int) -> tuple[Shown, ...]:
    found = []
    for size, same in split(rows, ["latent_dim"]):
        for row in same.sort_values("seed").to_dict("records"):
            kept = arrays(str(row["cell_id"]))
            if needs in kept:
                found.append(Shown(int(size[0]), {str(k): v for k, v in row.items()}, kept))
                break
    return tuple(found[i] for i in _spread(len(found), sizes)) if found else ()


def blocks(
    frame: pd.DataFrame, arrays: ReadArrays, needs: str, designs: int, sizes: int
) -> list[Block]:
    """The cells to show for at most `designs` designs and `sizes` latent sizes each."""
    done = frame[frame["status"] == "done"]
    axes_names = varying(done, without=["latent_dim"])
    parts = widest(split(done, axes_names), designs) if len(done) else []
    made = [
        Block(drawable(design_label(axes_names, key), 52), _cells(rows, arrays, needs, sizes))
        for key, rows in parts
    ]
    return [block for block in made if block.cells]


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


def _draw_sheet(axes: Axes, sheet: Sheet) -> None:
    _show(axes, sheet.image)
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
    ratios = [sheets[i].ratio for i in range(0, len(sheets), columns)]
    heights = [(width - 0.6) * ratio + 0.45 for ratio in ratios]
    figure = Figure(figsize=(width * columns, 0.35 + sum(heights)), layout="constrained")
    grid = {"height_ratios": heights}
    panels = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=grid).ravel()
    for axes, sheet in zip(panels, sheets, strict=False):
        _draw_sheet(axes, sheet)
    for axes in panels[len(sheets) :]:
        axes.remove()
    _title(figure, title)
    return figure


def _title(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(drawable(title, 110), x=0.01, ha="left")


def _reconstruction_sheet(block: Block) -> Sheet:
    first = block.cells[0].arrays
    rows = [first["originals"]] if "originals" in first else []
    labels = ["data"] * len(rows) + [f"z {cell.size}" for cell in block.cells]
    rows += [cell.arrays["reconstructions"] for cell in block.cells]
    count = min(map(len, rows))
    image = mosaic(np.stack([row[:count] for row in rows]))
    return Sheet(block.label, image, tuple(labels), rows[0].shape[1] + _GAP)


def reconstructions(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 6
) -> Figure | None:
    """Test images and their reconstructions, a row a latent size, a block a design."""
    shown = blocks(frame, arrays, "reconstructions", designs, sizes=6)
    return _sheets([_reconstruction_sheet(block) for block in shown], title)


def _interpolation_sheet(block: Block) -> Sheet:
    kept = [cell.arrays["interpolations"][:2] for cell in block.cells]
    labels = tuple(f"z {cell.size}" for cell in block.cells)
    step = len(kept[0]) * (kept[0].shape[2] + _GAP)
    return Sheet(block.label, mosaic(np.concatenate(kept)), labels, step)


def interpolations(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 4
) -> Figure | None:
    """Straight lines between two codes, decoded: two pairs of images a latent size."""
    shown = blocks(frame, arrays, "interpolations", designs, sizes=5)
    return _sheets([_interpolation_sheet(block) for block in shown], title)


def _table(
    shown: Sequence[Block], draw: Callable[[Axes, Shown], None], title: str, extra: float = 0.0
) -> Figure | None:
    """A grid of square panels: a row a design, a column a latent size."""
    if not shown:
        return None
    columns = max(len(block.cells) for block in shown)
    # A design with few sizes would leave most of its row empty.
    shown = [block for block in shown if 2 * len(block.cells) >= columns]
    side = min(WIDTH / columns, 2.4)
    width = side * columns
    figure = Figure(
        figsize=(max(width, 4.0), 0.5 + len(shown) * (side + 0.45) + extra), layout="constrained"
    )
    rows = figure.subfigures(len(shown), 1, squeeze=False).ravel()
    for row, block in zip(rows, shown, strict=True):
        row.suptitle(block.label, x=0.01, ha="left", fontsize=9.5)
        panels = row.subplots(1, columns, squeeze=False)[0]
        for axes, cell in zip(panels, block.cells, strict=False):
            draw(axes, cell)
        for axes in panels[len(block.cells) :]:
            axes.remove()
    _title(figure, title)
    return figure


def _sample_sheet(axes: Axes, cell: Shown) -> None:
    images = cell.arrays["prior_samples"]
    side = int(np.sqrt(len(images)))
    _show(axes, mosaic(images[: side * side].reshape(side, side, *images.shape[1:])))
    axes.set_title(f"z {cell.size}", fontweight="normal", loc="center")


def prior_samples(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 4
) -> Figure | None:
    """Decoded draws from the prior, a square of images a latent size."""
    return _table(blocks(frame, arrays, "prior_samples", designs, sizes=5), _sample_sheet, title)


def _traversal_sheet(axes: Axes, cell: Shown) -> None:
    _show(axes, mosaic(cell.arrays["traversal"]))
    axes.set_title(f"z {cell.size}", fontweight="normal", loc="center")


def traversals(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 2
) -> Figure | None:
    """A walk over the two latent dimensions of highest KL, all others at zero."""
    return _table(blocks(frame, arrays, "traversal", designs, sizes=4), _traversal_sheet, title)


def _share(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) and np.isfinite(value) else "n/a"


def tsne_maps(
    frame: pd.DataFrame, arrays: ReadArrays, title: str = "", designs: int = 3
) -> Figure | None:
    """t-SNE of the codes, coloured by label; kNN accuracy and trustworthiness over each map."""
    shown = blocks(frame, arrays, "tsne", designs, sizes=5)
    labels = _labels(shown)
    many = len(labels) > 10
    palette = sns.color_palette("husl", len(labels)) if many else colours(len(labels))
    colour = dict(zip(labels, palette, strict=True))

    def draw(axes: Axes, cell: Shown) -> None:
        _map(axes, cell, colour)

    figure = _table(shown, draw, title, extra=0.4 if labels else 0.0)
    if figure is not None and labels and not many:
        handles = [
            Line2D([], [], color=c, marker="o", lw=0, label=str(label))
            for label, c in colour.items()
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(handles), title="label"
        )
    return figure


def _labels(shown: Sequence[Block]) -> list[Any]:
    kept = [
        c.arrays["tsne_labels"] for block in shown for c in block.cells if "tsne_labels" in c.arrays
    ]
    return ordered(int(label) for label in np.unique(np.concatenate(kept))) if kept else []


def _map(axes: Axes, cell: Shown, colour: Mapping[Any, Any]) -> None:
    points = cell.arrays["tsne"]
    labels = cell.arrays.get("tsne_labels")
    shade = [INK] * len(points) if labels is None else [colour[int(label)] for label in labels]
    axes.scatter(points[:, 0], points[:, 1], c=shade, s=7, linewidths=0, rasterized=True)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_adjustable("datalim")
    for spine in axes.spines.values():
        spine.set_visible(True)
    accuracy, trust = (
        _share(cell.row.get("knn_accuracy")),
        _share(cell.row.get("tsne_trustworthiness")),
    )
    axes.set_title(
        f"z {cell.size}\nkNN {accuracy}, trust {trust}",
        fontweight="normal",
        loc="center",
        fontsize=8,
    )
