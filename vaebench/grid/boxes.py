"""Sets of cells as boxes: a list of values an axis, standing for every combination of them.

Unions and differences of boxes are again boxes, so that a grid of any size is counted and walked
through without ever being held in memory.
"""

import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping

__all__ = ["Box", "combinations", "difference", "volume"]

Box = Mapping[str, tuple[Hashable, ...]]
"""Axis name to its values, none of them twice."""


def volume(box: Box) -> int:
    """Return the number of combinations in a box."""
    return math.prod(len(values) for values in box.values())


def combinations(box: Box) -> Iterator[dict[str, Hashable]]:
    """Yield every combination of a box, the last axis varying fastest."""
    for values in itertools.product(*box.values()):
        yield dict(zip(box, values, strict=True))


def difference(box: Box, others: Iterable[Box]) -> tuple[Box, ...]:
    """Return disjoint boxes that together hold what is in `box` and in none of `others`.

    The axes of each of `others` must be among those of `box`; one that it does not name is
    unrestricted there.
    """
    pieces: tuple[Box, ...] = (box,)
    for other in others:
        pieces = tuple(rest for piece in pieces for rest in _outside(piece, other))
    return pieces


def _outside(box: Box, other: Box) -> Iterator[Box]:
    if any(set(box[axis]).isdisjoint(values) for axis, values in other.items()):
        yield box
        return
    # Peel off, axis by axis, what lies outside; what is left at the end is the common part.
    common = dict(box)
    for axis, values in other.items():
        inside = frozenset(values)
        outside = tuple(value for value in box[axis] if value not in inside)
        if outside:
            yield {**common, axis: outside}
        common[axis] = tuple(value for value in box[axis] if value in inside)
