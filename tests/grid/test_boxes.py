"""Boxes against the sets that they stand for."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from vaebench.grid.boxes import Box, combinations, difference, volume

AXES = ("a", "b", "c")
values = st.sets(st.integers(0, 3), min_size=1).map(lambda each: tuple(sorted(each)))
boxes = st.fixed_dictionaries(dict.fromkeys(AXES, values))
partial = st.dictionaries(st.sampled_from(AXES), values, min_size=1)
EVERYTHING = dict.fromkeys(AXES, (0, 1, 2, 3))


def points(box: Box) -> set[tuple[object, ...]]:
    full = {**EVERYTHING, **box}
    return {tuple(point[axis] for axis in AXES) for point in combinations(full)}


def union(several: Iterable[Box]) -> set[tuple[object, ...]]:
    return {point for box in several for point in points(box)}


def test_volume_is_the_number_of_combinations() -> None:
    box = {"a": (0, 1, 2), "b": (5,), "c": (7, 8)}
    assert volume(box) == 6
    assert len(list(combinations(box))) == 6


def test_the_last_axis_varies_fastest() -> None:
    order = [tuple(point.values()) for point in combinations({"a": (0, 1), "b": ("x", "y")})]
    assert order == [(0, "x"), (0, "y"), (1, "x"), (1, "y")]


@given(boxes, st.lists(partial, max_size=4))
def test_difference_holds_what_is_in_no_other_and_each_once(box: Box, others: list[Box]) -> None:
    pieces = difference(box, others)
    assert union(pieces) == points(box) - union(others)
    assert sum(map(volume, pieces)) == len(union(pieces))
