"""Colours of lines and points."""

from typing import Final

import seaborn as sns

_DARKER: Final = {6: (0.45, 0.31, 0.72), 8: (0.70, 0.62, 0.0)}
"""Replacements for the pale pink and the yellow, which are too pale for a line on white paper."""

Colour = tuple[float, float, float] | str


def colours(count: int) -> list[tuple[float, float, float]]:
    """Return colours that colour-blind readers can distinguish; they repeat after ten."""
    shades = [tuple(c) for c in sns.color_palette("colorblind", count)]
    return [_DARKER.get(place % 10, shade) for place, shade in enumerate(shades)]


def darker(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the same hue at about half its brightness."""
    red, green, blue = colour
    return (0.55 * red, 0.55 * green, 0.55 * blue)


def ramp(count: int) -> list[tuple[float, float, float]]:
    """Return colours from dark to light for an ordered quantity, all visible on white paper."""
    return [tuple(c) for c in sns.color_palette("viridis", max(count + 1, 3))[:count]]
