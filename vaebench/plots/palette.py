"""Colours of lines and points."""

from typing import Final

import numpy as np

_COLOURS: Final = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#734fb8", "#949494", "#b29e00", "#56b4e9"),
)
"""seaborn's palette "colorblind", with a violet for its pale pink and a darker yellow, since lines
of these would be too pale on white paper."""

Colour = tuple[float, float, float]


def colours(count: int) -> list[Colour]:
    """Return colours that colour-blind readers can distinguish; they repeat after ten."""
    return [from_hex(_COLOURS[place % len(_COLOURS)]) for place in range(count)]


def from_hex(text: str) -> Colour:
    """Return the colour that a text such as "#0173b2" names."""
    red, green, blue = bytes.fromhex(text[1:])
    return (red / 255, green / 255, blue / 255)


def to_hex(colour: Colour) -> str:
    """Return a colour as a text such as "#0173b2"."""
    return "#" + bytes(round(255 * part) for part in colour).hex()


def darker(colour: Colour) -> Colour:
    """Return the same hue at about half its brightness."""
    red, green, blue = colour
    return (0.55 * red, 0.55 * green, 0.55 * blue)


def ramp(count: int) -> list[Colour]:
    """Return colours from dark to light for an ordered quantity, all visible on white paper."""
    from matplotlib import colormaps  # an interactive page has no use for matplotlib

    places = np.linspace(0, 1, max(count + 1, 3) + 2)[1:-1][:count]
    return [(r, g, b) for r, g, b, _ in colormaps["viridis"](places).tolist()]
