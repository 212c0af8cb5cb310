"""Warnings and reasons by kind: texts that differ in their numbers alone say one thing."""

import re
from collections.abc import Sequence
from typing import Final

import pandas as pd

from vaebench.analysis.labels import design_axes, design_label, plain
from vaebench.records.schema import WarningCode

_NUMBER: Final = re.compile(r"(?<![\w.])[-+−]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?![\w])")


def kind(text: str) -> str:
    """The text with '…' for each of its numbers.

    >>> kind("not finite at step 2; after 90507.5"), kind("float32 of z8")
    ('not finite at step …; after …', 'float32 of z8')
    """
    return _NUMBER.sub("…", text)


def common_text(texts: Sequence[str]) -> str:
    """Texts of one kind as one: numbers that differ become their range.

    >>> common_text(["step 12 of 9", "step 2 of 9", "step 5 of 9"])
    'step 2 to 12 of 9'
    """
    found = [_NUMBER.findall(text) for text in texts]
    shared = iter([_range(each) for each in zip(*found, strict=True)])
    return _NUMBER.sub(lambda _: next(shared), texts[0])


def _range(numbers: Sequence[str]) -> str:
    """The lowest and the highest of some numbers as they are written."""

    def value(text: str) -> tuple[float, ...]:
        whole = text.replace("−", "-").replace(",", "")
        # Versions such as 1.2.3 are no single number.
        return (float(whole),) if whole.count(".") < 2 else tuple(map(float, whole.split(".")))

    low, high = min(numbers, key=value), max(numbers, key=value)
    return low if low == high else f"{low} to {high}"


def named_designs(frame: pd.DataFrame, rows: pd.DataFrame, most: int = 5) -> str:
    """The designs of these rows of the frame by name; of more than `most`, how many more.

    A name says what varies in the frame, and likelihood, sigma and latent size anyway.
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
