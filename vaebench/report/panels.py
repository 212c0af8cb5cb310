"""The panels of a page: images of the records pixel by pixel, and t-SNE maps as charts."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd
import PIL.Image
from markupsafe import Markup
from numpy.typing import NDArray

from vaebench.plots.images import (
    KINDS,
    Block,
    Kind,
    ReadArrays,
    Shown,
    blocks,
    class_names,
    label_colours,
    mosaic,
    strips,
)
from vaebench.plots.palette import to_hex
from vaebench.report.interactive import VISIBLE, Chart, finished

_MOST_POINTS: Final = 400
"""Points of a map; of more, evenly spread ones are drawn."""


@dataclass(frozen=True)
class Sheet:
    """Images side by side in one PNG, drawn with `scale` screen pixels per pixel."""

    source: str
    width: int
    height: int
    scale: int

    @classmethod
    def of(cls, image: NDArray[np.uint8], across: int) -> "Sheet":
        """Pack an image (h, w, 3) that is drawn about `across` screen pixels wide."""
        height, width, _ = image.shape
        scale = max(1, round(across / width))
        packed = PIL.Image.fromarray(image)
        grey = bool((image == image[..., :1]).all())
        return cls(png_address(packed.convert("L") if grey else packed), width, height, scale)


def png_address(image: PIL.Image.Image) -> Markup:
    """The image as a data address of a PNG."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return Markup("data:image/png;base64,") + base64.b64encode(file.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Panel:
    """One cell on the page: its name, a remark, and its images or its map."""

    name: str
    note: str = ""
    image: Sheet | None = None
    chart: Chart | None = None


@dataclass(frozen=True)
class PanelBlock:
    """Panels that are shown together; strips have their names to the left."""

    label: str
    panels: tuple[Panel, ...]
    strips: bool = False


def image_panels(kind: Kind, frame: pd.DataFrame, arrays: ReadArrays) -> list[PanelBlock]:
    """The images that the records keep, one panel or strip per latent size or design."""
    made = []
    for block in blocks(frame, arrays, kind):
        if kind.strips:
            found = [(name, sheet, 400) for name, sheet in strips(block, kind)]
        else:
            cells = zip(block.names, block.cells, strict=True)
            found = [(name, mosaic(kind.images(cell.arrays)), 220) for name, cell in cells]
        panels = tuple(Panel(name, image=Sheet.of(sheet, wide)) for name, sheet, wide in found)
        made.append(PanelBlock(block.label, panels, kind.strips))
    return made


def map_panels(frame: pd.DataFrame, arrays: ReadArrays) -> list[PanelBlock]:
    """The t-SNE maps as charts whose points show their image and its reconstruction."""
    shown = blocks(frame, arrays, KINDS["tsne"])
    names = class_names(shown)
    colours = {names[label]: to_hex(colour) for label, colour in label_colours(shown).items()}
    return [_maps(block, colours, names) for block in shown]


def _maps(block: Block, colours: dict[str, str], names: dict[int, str]) -> PanelBlock:
    panels = (
        Panel(name, cell.note, chart=_map(name, cell, colours, names))
        for name, cell in zip(block.names, block.cells, strict=True)
    )
    return PanelBlock(block.label, tuple(panels))


def _map(name: str, cell: Shown, colours: dict[str, str], names: dict[int, str]) -> Chart:
    points = np.asarray(cell.arrays["tsne"], np.float64)
    labels = cell.arrays.get("tsne_labels")
    low = points.min(axis=0)
    scaled = np.round(1000 * (points - low) / max(float(np.ptp(points, axis=0).max()), 1e-9))
    places = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).astype(int))
    rows: list[dict[str, Any]] = []
    # Points with images are drawn last, on top of the others.
    for i in reversed(places.tolist()):
        row = {"i": i, "x": int(scaled[i, 0]), "y": int(scaled[i, 1])}
        rows.append(row if labels is None else row | {"family": names[int(labels[i])]})
    images = _hover_sheets(cell)
    base = alt.Chart(alt.NamedData("rows")).mark_point(filled=True, size=22, opacity=0.85)
    if images and images[0]["count"] < len(points):
        pictured = {"test": f"datum.i < {images[0]['count']}", "value": 0.85}
        base = base.encode(opacity=alt.OpacityValue(0.3, condition=pictured))
    axis: dict[str, Any] = {"axis": None, "scale": alt.Scale(domain=[-20, 1020], nice=False)}
    coding: dict[str, Any] = {"x": alt.X("x:Q", **axis), "y": alt.Y("y:Q", **axis)}
    families: Sequence[tuple[str, str, str]] = ()
    if labels is not None:
        base = base.transform_filter(VISIBLE)
        coding["color"] = alt.Color("family:N", legend=None)
        coding["tooltip"] = [alt.Tooltip("family:N", title="label")]
        families = [(label, colour, "circle") for label, colour in colours.items()]
    described = f"t-SNE map of {len(points)} codes, {cell.note}."
    spec = finished(base.encode(**coding), 230)
    return Chart(spec, rows, f"{name}: {described}", {}, families, images)


def _hover_sheets(cell: Shown) -> list[dict[str, Any]]:
    """The images of the points and their reconstructions, where the record keeps them."""
    found = []
    for title, name in (("image", "tsne_images"), ("reconstruction", "tsne_reconstructions")):
        if name not in cell.arrays:
            return []
        images = cell.arrays[name]
        columns = 20
        rows = -(-len(images) // columns)
        padded = np.zeros((rows * columns, *images.shape[1:]), np.uint8)
        padded[: len(images)] = images
        height, width = images.shape[1:3]
        sheet = padded.reshape(rows, columns, *images.shape[1:]).swapaxes(1, 2)
        packed = PIL.Image.fromarray(sheet.reshape(rows * height, columns * width, -1).squeeze())
        found.append(
            {
                "title": title,
                "source": str(png_address(packed)),
                "count": len(images),
                "columns": columns,
                "width": width,
                "height": height,
            }
        )
    return found


_ACTIVATIONS: Final = ("relu", "tanh")
_OUTPUTS: Final = ("sigmoid", "identity")


def decoder_of(frame: pd.DataFrame, arrays: ReadArrays) -> dict[str, Any] | None:
    """The decoder that two sliders of the page move: of the best design whose record keeps one.

    Weights are int8 in base64, with a scale per row; `templates/page.js` decodes with them.
    """
    kept = frame[(frame["latent_dim"] == 2) & (frame["seed"] == 0) & (frame["status"] == "done")]
    for row in kept.sort_values(["elbo", "cell_id"], ascending=[False, True]).to_dict("records"):
        found = arrays(row["cell_id"])
        if "decoder_kind" not in found or "originals" not in found:
            continue
        count = sum(name.startswith("decoder_weight_") for name in found)
        layers = []
        for i in range(count):
            weight = np.ascontiguousarray(found[f"decoder_weight_{i}"], np.int8)
            scale, bias = (found[f"decoder_{part}_{i}"].ravel() for part in ("scale", "bias"))
            layers.append(
                {
                    "weight": base64.b64encode(weight.tobytes()).decode("ascii"),
                    "scale": [float(f"{value:.4g}") for value in scale],
                    "bias": [float(f"{value:.4g}") for value in bias],
                }
            )
        height, width, *channels = found["originals"].shape[1:]
        activation, output = found["decoder_kind"].tolist()
        return {
            "design": row["design"],
            "layers": layers,
            "activation": _ACTIVATIONS[activation],
            "output": _OUTPUTS[output],
            "shape": [height, width, channels[0] if channels else 1],
            "prior": float(row["prior_scale"]),
        }
    return None
