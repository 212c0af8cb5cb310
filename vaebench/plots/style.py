"""The style of every figure.

Nothing is taken from the user's matplotlibrc, locale, fonts or display.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl

WIDTH: Final = 9.6
"""Width of a figure in inches: a page's text width on the screen."""

INK: Final = "#24292f"
FADED: Final = "#8a929b"

_STYLE: Final[Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # No figure has ticks at the top, so the place of a title need not be searched for.
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
    # A dollar sign in a name is not the start of a formula.
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
    # Text is kept as text, so that files are small and can be searched.
    "svg.fonttype": "none",
    "svg.hashsalt": "vaebench",
    # TrueType fonts are embedded; journals refuse Type 3.
    "pdf.fonttype": 42,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Use matplotlib's defaults and this style; the user's settings are restored at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def tick(value: float, _position: int | None = None) -> str:
    """Return the label of a tick, with a minus sign and commas between thousands."""
    return f"{value + 0.0:,.10g}".replace("-", "−")
