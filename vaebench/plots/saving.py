"""How figures are saved: the same bytes from the same numbers."""

from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["save_png", "save_vector"]

_DPI: Final = 200
"""Pixels per inch: twice those of an ordinary screen."""


def save_png(figure: Figure, path: Path) -> None:
    """Save a figure as PNG with at most 256 colours, which keeps line art small."""
    canvas: Any = FigureCanvasAgg(figure)
    _fix_layout(figure)
    figure.dpi = _DPI
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    few = pixels.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)


def save_vector(figure: Figure, path: Path) -> None:
    """Save a figure as SVG or PDF, by the ending of the path, without dates or versions in it."""
    _fix_layout(figure)
    pdf = path.suffix == ".pdf"
    dated = {"CreationDate": None, "Creator": None, "Producer": None}
    figure.savefig(path, metadata=dated if pdf else {"Date": None, "Creator": None})


def _fix_layout(figure: Figure) -> None:
    """Compute the layout once; each format would otherwise compute it again."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
