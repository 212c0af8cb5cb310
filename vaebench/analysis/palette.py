"""Colours of lines and points, apart from the style: what saves figures needs no seaborn."""

import seaborn as sns

__all__ = ["colours", "ramp"]


def colours(count: int) -> list[tuple[float, float, float]]:
    """Distinct colours that colour-blind readers can tell apart; they repeat after ten."""
    return [tuple(c) for c in sns.color_palette("colorblind", count)]


def ramp(count: int) -> list[tuple[float, float, float]]:
    """Colours from dark to light for an ordered quantity, none too pale for white paper."""
    return [tuple(c) for c in sns.color_palette("viridis", max(count + 1, 3))[:count]]
