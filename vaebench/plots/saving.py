"""How figures are saved: the same bytes from the same numbers."""

import textwrap
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

_DPI: Final = 200
"""Pixels per inch: twice those of an ordinary screen."""
_COLUMN: Final = 3.35
"""Inches of one column of a paper with two."""
_LETTERS: Final = 26
"""Letters per line of a name beside an axis in a column."""


def save_png(figure: Figure, path: Path) -> None:
    """Save a figure as PNG with at most 256 colours, which keeps line art small."""
    canvas: Any = FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        # The layout is computed once, not again for each draw.
        engine.execute(figure)
        figure.set_layout_engine("none")
    figure.dpi = _DPI
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    few = pixels.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)


def save_for_paper(figure: Figure, path: Path) -> None:
    """Save a figure as SVG and PDF, one column wide, with its panels below each other.

    Fonts are embedded, and the files hold no dates or versions. A paper has its own captions, so
    the title is left out. The figure is changed.

    Args:
        figure: a figure of `plots`.
        path: the path of the files without an ending.
    """
    _to_column(figure)
    no_dates = {"CreationDate": None, "Creator": None, "Producer": None}
    figure.savefig(path.with_name(f"{path.name}.pdf"), metadata=no_dates)
    figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Creator": None})


def _to_column(figure: Figure) -> None:
    figure.suptitle("")
    panels = [axes for axes in figure.get_axes() if axes.get_subplotspec() is not None]
    wide, tall = figure.get_size_inches()
    size = 7.0 if panels else 7.0 * _COLUMN / wide + 2.0
    for text in figure.findobj(Text):
        text.set_fontsize(min(size, text.get_fontsize()))
    for line in figure.findobj(Line2D):
        line.set(linewidth=min(line.get_linewidth(), 1.0))
        line.set(markersize=min(line.get_markersize(), 3.5))
    if not panels:
        figure.set_size_inches(_COLUMN, tall * _COLUMN / wide)
        return
    height = tall
    # Columns of panels with a common horizontal axis stay as they are.
    if len(panels[0].get_shared_x_axes().get_siblings(panels[0])) == 1:
        height = 0.0
        grid = GridSpec(len(panels), 1, figure=figure)
        for place, axes in enumerate(panels):
            axes.set_subplotspec(grid[place])
            names = [label.get_text() for label in axes.get_yticklabels()]
            if max(map(len, names), default=0) > _LETTERS:
                names = [textwrap.fill(name, _LETTERS) for name in names]
                axes.set_yticks(axes.get_yticks(), names)
            lines = sum(name.count("\n") + 1 for name in names)
            height += max(1.9, 0.5 + 0.12 * lines)
    entries = 0
    for legend in figure.legends:
        labels = [text.get_text() for text in legend.get_texts()]
        columns = max(1, 56 // (max(map(len, labels), default=1) + 6))
        legend.set_ncols(columns)
        entries += -(-len(labels) // columns)
    figure.set_size_inches(_COLUMN, height + 0.14 * entries)
    figure.set_layout_engine("constrained")
