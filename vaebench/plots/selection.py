"""Which rows of a frame a figure shows, and in which parts; without matplotlib."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaebench.analysis.comparability import Group
from vaebench.analysis.labels import is_missing, ordered, varying

Part = tuple[tuple[Any, ...], pd.DataFrame]
MOST_CURVE_PANELS: Final = 6
MOST_CURVES: Final = 10


def split(frame: pd.DataFrame, axes: Sequence[str]) -> list[Part]:
    """Split the frame into parts with equal values in `axes`, in order; one part without axes."""
    if not axes:
        return [((), frame)]
    return [(key, frame.iloc[rows]) for key, rows in split_places(frame, axes)]


def _with_none(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column, with None for missing ones."""
    values = column.tolist()
    if not column.isna().any():
        return values
    return [None if is_missing(value) else value for value in values]


def split_places(
    frame: pd.DataFrame, axes: Sequence[str]
) -> list[tuple[tuple[Any, ...], NDArray[np.intp]]]:
    """Return the row numbers of each part that `split` gives."""
    if not axes:
        return [((), np.arange(len(frame)))]
    values = [_with_none(frame[axis]) for axis in axes]
    where: dict[tuple[Any, ...], list[int]] = {}
    for position, key in enumerate(zip(*values, strict=True)):
        where.setdefault(key, []).append(position)
    columns = [ordered(frame[axis]) for axis in axes]
    keyed = sorted(where, key=lambda key: [c.index(v) for c, v in zip(columns, key, strict=True)])
    return [(key, np.array(where[key])) for key in keyed]


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` places, evenly spread, with the first and the last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count else []


def widest(parts: Sequence[Part], most: int) -> list[Part]:
    """Return at most `most` designs in order: those with the most latent sizes, evenly spread."""
    by_count: dict[int, list[int]] = {}
    for i, (_, rows) in enumerate(parts):
        by_count.setdefault(len(ordered(rows["latent_dim"])), []).append(i)
    kept: list[int] = []
    for count in sorted(by_count, reverse=True):
        if count:
            equals = by_count[count]
            kept += [equals[i] for i in evenly(len(equals), most - len(kept))]
    return [parts[i] for i in sorted(kept)]


def by_sizes(frame: pd.DataFrame) -> tuple[list[Part], list[Part]]:
    """The designs that have a KL: those with several latent sizes, and those with one."""
    kept = frame[frame["kl"].notna()]
    designs = split(kept, varying(kept, without=["latent_dim"])) if len(kept) else []
    several = [rows["latent_dim"].nunique() > 1 for _, rows in designs]
    return (
        [each for each, many in zip(designs, several, strict=True) if many],
        [each for each, many in zip(designs, several, strict=True) if not many],
    )


def curve_cells(parts: Sequence[Group]) -> list[str]:
    """Return the cells whose arrays the figures of KL per dimension need.

    These are, in each group, the designs with the most latent sizes, and evenly spread ones with
    one latent size.
    """
    found: list[str] = []
    for group in parts:
        sweeps, alone = by_sizes(group.frame)
        shown = [*widest(sweeps, MOST_CURVE_PANELS)]
        shown += [alone[i] for i in evenly(len(alone), MOST_CURVES)]
        found += [cell for _, rows in shown for cell in rows["cell_id"]]
    return found
