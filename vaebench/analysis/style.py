"""One look for every figure, the same bytes from the same numbers, and how figures are saved.

Everything is set here and nothing is taken from the user's matplotlibrc, locale, fonts or display.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["FADED", "INK", "WIDTH", "colours", "drawing", "ramp", "save"]

WIDTH: Final = 9.6
"""Width of a figure in inches: a page's text width on the screen."""

INK: Final = "#24292f"
FADED: Final = "#8a929b"
_PNG_DPI: Final = 120
_RASTER_DPI: Final = 120

_STYLE: Final[Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # No figure has ticks on top, so no draw need look for room between them and a title.
    "axes.titley": 1.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b8bec5",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e9ebee",
    "grid.linewidth": 0.8,
    "text.color": INK,
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.08,
    "image.interpolation": "nearest",
    # Text stays text: small files that can be searched; DejaVu Sans or the reader's sans serif.
    "svg.fonttype": "none",
    "svg.hashsalt": "vaebench",
    "pdf.fonttype": 3,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's defaults and this style, whatever the user's settings; restored at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def colours(count: int) -> list[tuple[float, float, float]]:
    """Distinct colours that colour-blind readers can tell apart; they repeat after ten."""
    return [tuple(c) for c in sns.color_palette("colorblind", count)]


def ramp(count: int) -> list[tuple[float, float, float]]:
    """Colours from dark to light for an ordered quantity, none too pale for white paper."""
    return [tuple(c) for c in sns.color_palette("viridis", max(count + 1, 3))[:count]]


def _set_out(figure: Figure) -> None:
    """Work the layout out once; each format would otherwise do it again."""
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def _save_png(figure: Figure, path: Path) -> None:
    """PNG with at most 256 colours, which keeps line art small and looks the same."""
    figure.dpi = _PNG_DPI
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    small = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(path, format="PNG", optimize=True)


def save(figure: Figure, folder: Path, name: str) -> Sequence[Path]:
    """Save `name` as PNG, SVG and PDF, without dates or versions in them; the files' paths.

    The canvases are called directly: `savefig` draws every figure twice.
    """
    paths = [folder / f"{name}.{ending}" for ending in ("png", "svg", "pdf")]
    _set_out(figure)
    _save_png(figure, paths[0])
    figure.dpi = _RASTER_DPI
    svg: Any = FigureCanvasSVG(figure)
    svg.print_svg(paths[1], metadata={"Date": None, "Creator": None})
    figure.dpi = _RASTER_DPI
    pdf: Any = FigureCanvasPdf(figure)
    pdf.print_pdf(paths[2], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return paths
