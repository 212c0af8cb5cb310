"""Warnings and reasons of many cells, grouped by texts that differ only in their numbers.

A code is not enough to group them: one code has several texts, and reasons of cells and records of
older versions have no code. The numbers are in the texts only.
"""

import re
from typing import Final

import pandas as pd

from vaebench.analysis.labels import design_axes, design_label, plain
from vaebench.records.schema import WarningCode

_NUMBER: Final = re.compile(r"(?<![\w.])[-+−]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?![\w])")


def by_kind(texts: "pd.Series[str]") -> "list[tuple[str, pd.Series[str]]]":
    """Group texts that differ only in their numbers, in the order of their first appearance.

    Returns:
        The common text of each group, in which numbers that differ are replaced by their range, and
        the texts of the group.

    >>> texts = pd.Series(["step 12 of z8", "step 2 of z8", "step 2 of z4"])
    >>> [(text, len(same)) for text, same in by_kind(texts)]
    [('step 2 to 12 of z8', 2), ('step 2 of z4', 1)]
    """
    groups = texts.groupby(texts.map(lambda text: _NUMBER.sub("…", text)), sort=False)
    found = []
    for _, same in groups:
        ranges = map(_range, zip(*map(_NUMBER.findall, same), strict=True))
        words = zip(_NUMBER.split(same.iloc[0]), [*ranges, ""], strict=True)
        found.append(("".join(word + number for word, number in words), same))
    return found


def _range(numbers: tuple[str, ...]) -> str:
    """Return the smallest and the largest number, as they are written in the texts."""

    def value(text: str) -> tuple[float, ...]:
        whole = text.replace("−", "-").replace(",", "")
        # A version such as 1.2.3 is compared part by part.
        return (float(whole),) if whole.count(".") < 2 else tuple(map(float, whole.split(".")))

    low, high = min(numbers, key=value), max(numbers, key=value)
    return low if low == high else f"{low} to {high}"


def named_designs(frame: pd.DataFrame, rows: pd.DataFrame, most: int = 5) -> str:
    """Return the names of the designs in these rows, at most `most` of them.

    A name contains the axes that vary in the frame, and always likelihood, sigma and latent
    dimension.
    """
    axes = design_axes(frame)
    keys = rows.drop_duplicates("design")[axes].itertuples(index=False, name=None)
    names = list(dict.fromkeys(plain(design_label(axes, key), 300) for key in keys))
    more = f"; and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def warned(frame: pd.DataFrame, code: WarningCode) -> "pd.Series[bool]":
    """Return which rows have a warning with this code."""
    codes = frame["warning_codes"].fillna("").astype(str).str.split()
    return codes.map(lambda found: code in found).astype(bool)
