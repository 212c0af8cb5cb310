"""Figures of images and of codes: t-SNE maps, reconstructions, samples, interpolations.

Each takes rows of one data set and the arrays that their records keep. If there are more designs or
latent sizes than fit on a page, the best one of each likelihood is shown, then those designs that
cover the most latent sizes, evenly spread. The seed shown is the lowest one that finished.
"""

import colorsys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vaebench.analysis.columns import AXIS_COLUMNS
from vaebench.analysis.labels import design_labels, drawable_names, ordered, varying
from vaebench.plots.figures import evenly, headed, panel_grid, split, widest
from vaebench.plots.style import INK, WIDTH

Arrays = Mapping[str, NDArray[Any]]
ReadArrays = Callable[[str], Arrays]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """Which array of a record a figure shows, and of how many cells.

    Attributes:
        array: the name of the array.
        designs: maximum number of designs with several latent sizes.
        sizes: maximum number of latent sizes of each of them.
        alone: maximum number of designs with one latent size.
        strips: each cell is a strip of images with a label to its left, else a square panel.
    """

    array: str
    designs: int
    sizes: int
    alone: int
    strips: bool = False

    def images(self, arrays: Arrays) -> NDArray[np.uint8]:
        """The images of a cell in rows and columns, (rows, columns, H, W[, 3])."""
        kept = arrays[self.array]
        if self.array == "reconstructions":
            return kept[np.newaxis]
        if self.array == "prior_samples":
            side = int(np.sqrt(len(kept)))
            return kept[: side * side].reshape(side, side, *kept.shape[1:])
        return kept[:2] if self.array == "interpolations" else kept


KINDS: Final = {
    "reconstructions": Kind("reconstructions", designs=6, sizes=6, alone=10, strips=True),
    "samples": Kind("prior_samples", designs=4, sizes=5, alone=10),
    "interpolations": Kind("interpolations", designs=4, sizes=5, alone=5, strips=True),
    "traversals": Kind("traversal", designs=2, sizes=4, alone=4),
    "tsne": Kind("tsne", designs=3, sizes=5, alone=5),
}


@dataclass(frozen=True)
class Shown:
    """One cell that is shown: its latent size, its accuracy and trust, and its arrays."""

    size: int
    knn_accuracy: float
    tsne_trustworthiness: float
    arrays: Arrays

    @property
    def note(self) -> str:
        """The accuracy and trust that are written above its map."""
        shares = {"kNN": self.knn_accuracy, "trust": self.tsne_trustworthiness}
        if "tsne_labels" not in self.arrays:
            del shares["kNN"]
        texts = (
            f"{name} {share:.2f}" if np.isfinite(share) else f"{name} n/a"
            for name, share in shares.items()
        )
        return ", ".join(texts)


@dataclass(frozen=True)
class Block:
    """Cells that are shown together: the sizes of one design, or designs of one size each."""

    label: str
    names: tuple[str, ...]
    cells: tuple[Shown, ...]


def _spread(count: int, most: int, wanted: Sequence[int]) -> list[int]:
    """At most `most` places of `count`, evenly spread, with the wanted ones among them."""
    kept = evenly(count, most)
    for place in dict.fromkeys(wanted):
        others = [each for each in kept if each not in wanted]
        if place not in kept and others:
            kept[kept.index(min(others, key=lambda each: abs(each - place)))] = place
    return sorted(kept)


def _best(parts: Sequence[pd.DataFrame]) -> list[int]:
    """The places of the parts with the highest mean ELBO, one per likelihood and kind of score."""
    best: dict[tuple[Any, ...], tuple[float, int]] = {}
    for place, rows in enumerate(parts):
        first = rows.iloc[0]
        key = (first["likelihood"], first["data_support"], first["comparable"])
        score = float(rows["elbo"].mean())
        if np.isfinite(score) and (key not in best or score > best[key][0]):
            best[key] = (score, place)
    return [place for _, place in best.values()]


def _cells(rows: pd.DataFrame, arrays: ReadArrays, kind: Kind, sizes: int) -> tuple[Shown, ...]:
    found: list[Shown] = []
    scores = []
    rows = rows[["latent_dim", "seed", "cell_id", "elbo", "knn_accuracy", "tsne_trustworthiness"]]
    for (size,), same in split(rows, ["latent_dim"]):
        for row in same.sort_values("seed").to_dict("records"):
            kept = arrays(row["cell_id"])
            if kind.array in kept:
                shares = row["knn_accuracy"], row["tsne_trustworthiness"]
                found.append(Shown(int(size), *shares, kept))
                scores.append(same["elbo"].mean())
                break
    best = [int(np.nanargmax(scores))] if np.isfinite(scores).any() else []
    return tuple(found[i] for i in _spread(len(found), sizes, best))


def blocks(frame: pd.DataFrame, arrays: ReadArrays, kind: Kind) -> list[Block]:
    """The cells to show, of those whose records have the array.

    Args:
        frame: rows of one data set.
        arrays: reads the arrays of a cell.
        kind: what is shown. Designs with one latent size form a block for each data support.
    """
    columns = ["data_support", "comparable", "elbo", "knn_accuracy", "tsne_trustworthiness"]
    done = frame.loc[frame["status"] == "done", ["cell_id", *AXIS_COLUMNS, *columns]]
    axes_names = varying(done, without=["latent_dim"])
    parts = split(done, axes_names) if len(done) else []
    sweeps = widest([each for each in parts if each[1]["latent_dim"].nunique() > 1], kind.designs)
    labels = drawable_names(design_labels(axes_names, [key for key, _ in sweeps]), 44)
    made = []
    for label, (_, rows) in zip(labels, sweeps, strict=True):
        cells = _cells(rows, arrays, kind, kind.sizes)
        made.append(Block(label, tuple(f"z {cell.size:,}" for cell in cells), cells))
    single = [rows for _, rows in parts if rows["latent_dim"].nunique() == 1]
    kept = [single[i] for i in _spread(len(single), kind.alone, _best(single))]
    made += _alone(kept, axes_names, [key for key, _ in sweeps], arrays, kind)
    return [block for block in made if block.cells]


def _wrapped(label: str) -> str:
    """A name in lines that end between its parts, so that a number stays with its word."""
    parts = label.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    lines = textwrap.fill(parts, 28, break_long_words=False)
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _alone(
    single: Sequence[pd.DataFrame],
    axes_names: Sequence[str],
    others: Sequence[tuple[Any, ...]],
    arrays: ReadArrays,
    kind: Kind,
) -> list[Block]:
    """Blocks of designs with one latent size; a lone design is named as among the `others`."""
    if not single:
        return []
    made = []
    for _, rows in split(pd.concat(single), ["data_support"]):
        own = varying(rows)
        designs = split(rows, own or axes_names)
        keys = [key for key, _ in designs]
        labels = (
            design_labels(own, keys) if own else design_labels(axes_names, [*others, *keys])[-1:]
        )
        named = [
            (_wrapped(label), cell)
            for label, (_, same) in zip(drawable_names(labels, 70), designs, strict=True)
            for cell in _cells(same, arrays, kind, 1)
        ]
        sizes = {cell.size for _, cell in named}
        label = f"z {min(sizes):,}" if len(sizes) == 1 else "one latent size each"
        made.append(
            Block(label, tuple(name for name, _ in named), tuple(cell for _, cell in named))
        )
    return made


def mosaic(images: NDArray[Any]) -> Image:
    """Images (rows, columns, H, W[, 3]) side by side with a gap of one pixel, as (h, w, 3)."""
    rgb = images if images.ndim == 5 else np.repeat(images[..., None], 3, axis=-1)
    # A white pixel below and to the right of each image, without those at the edge.
    padded = np.pad(rgb, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=255)
    rows, columns, height, width, _ = padded.shape
    sheet = padded.swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    return sheet[:-1, :-1].astype(np.uint8)


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


def strips(block: Block, kind: Kind) -> list[tuple[str, Image]]:
    """The strips of a block with their names; above reconstructions the data themselves."""
    found = [
        (name, kind.images(cell.arrays))
        for name, cell in zip(block.names, block.cells, strict=True)
    ]
    if kind.array == "reconstructions" and "originals" in block.cells[0].arrays:
        found.insert(0, ("data", block.cells[0].arrays["originals"][np.newaxis]))
    count = min(images.shape[1] for _, images in found)
    return [(name, mosaic(images[:, :count])) for name, images in found]


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


def label_colours(shown: Sequence[Block]) -> dict[int, tuple[float, float, float]]:
    """A colour for each label of some blocks; not those of designs, which mean something else."""
    kept = [c.arrays["tsne_labels"] for b in shown for c in b.cells if "tsne_labels" in c.arrays]
    labels = ordered(int(label) for label in np.unique(np.concatenate(kept))) if kept else []
    palette = [colorsys.hls_to_rgb(place / len(labels), 0.5, 0.65) for place in range(len(labels))]
    return {int(label): shade for label, shade in zip(labels, palette, strict=True)}  # type: ignore[call-overload]


def class_names(shown: Sequence[Block]) -> dict[int, str]:
    """The name of each label of some blocks: that of its class where the records keep names."""
    found: dict[int, str] = {}
    for cell in (cell for block in shown for cell in block.cells):
        names = cell.arrays.get("tsne_classes", ())
        for label in np.unique(cell.arrays.get("tsne_labels", ())).astype(int).tolist():
            name = str(names[label]) if 0 <= label < len(names) else str(label)
            if found.setdefault(label, name) != name:
                found[label] = str(label)  # classes of two data sets
    return dict(zip(found, drawable_names(list(found.values()), 30), strict=True))


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
    done = frame[(frame["status"] == "done") & frame["elbo"].notna()]
    for row in done.sort_values(["elbo", "cell_id"], ascending=[False, True]).to_dict("records"):
        kept = arrays(row["cell_id"])
        if {"rows", "row_means", "row_columns"} <= kept.keys():
            break
    else:
        return None
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
