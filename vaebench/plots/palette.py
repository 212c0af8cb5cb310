"""Colours of lines and points, apart from the style: what saves figures needs no seaborn."""

import seaborn as sns

__all__ = ["Colour", "colours", "darker", "ramp"]

_YELLOW = tuple(sns.color_palette("colorblind", 10)[8])
"""Too pale for a line on white paper."""

Colour = tuple[float, float, float] | str


def colours(count: int) -> list[tuple[float, float, float]]:
    """Distinct colours that colour-blind readers can tell apart; they repeat after ten."""
    shades = [tuple(c) for c in sns.color_palette("colorblind", count)]
    return [(0.70, 0.62, 0.0) if shade == _YELLOW else shade for shade in shades]


def darker(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """The same hue at little more than half its brightness."""
    red, green, blue = colour
    return (0.55 * red, 0.55 * green, 0.55 * blue)


def ramp(count: int) -> list[tuple[float, float, float]]:
    """Colours from dark to light for an ordered quantity, none too pale for white paper."""
    return [tuple(c) for c in sns.color_palette("viridis", max(count + 1, 3))[:count]]
