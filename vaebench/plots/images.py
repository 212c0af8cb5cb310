"""The images and t-SNE maps that a report shows, as arrays; without matplotlib.

Each function takes rows of one data set and the arrays that their records keep. If there are more
designs or latent sizes than fit on a page, the best one of each likelihood is shown, then those
designs that cover the most latent sizes, evenly spread. The seed shown is the lowest one that
finished.
"""

import colorsys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaebench.analysis.columns import AXIS_COLUMNS
from vaebench.analysis.labels import design_labels, drawable_names, ordered, varying
from vaebench.plots.selection import evenly, split, widest

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


def best_of_columns(
    frame: pd.DataFrame, arrays: ReadArrays
) -> tuple[dict[str, Any], Arrays] | None:
    """The row with the highest ELBO whose record keeps rows of a table, and its arrays."""
    done = frame[(frame["status"] == "done") & frame["elbo"].notna()]
    for row in done.sort_values(["elbo", "cell_id"], ascending=[False, True]).to_dict("records"):
        kept = arrays(str(row["cell_id"]))
        if {"rows", "row_means", "row_columns"} <= kept.keys():
            return {str(name): value for name, value in row.items()}, kept
        if "originals" in kept:  # the data are images
            break
    return None
