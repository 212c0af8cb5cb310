"""Warnings and reasons by kind: texts that differ in their numbers alone say one thing."""

import re
from collections.abc import Sequence
from typing import Final

import pandas as pd

from vaebench.analysis.labels import design_label, plain, reading_order, varying
from vaebench.records.schema import WarningCode

__all__ = ["common_text", "kind", "named_designs", "warned"]

_NUMBER: Final = re.compile(r"(?<![\w.])[-+−]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?![\w])")
_NAMED: Final = 5
_LONGEST: Final = 300
"""Letters of a design's name."""


def kind(text: str) -> str:
    """The text with '…' for each of its numbers.

    >>> kind("not finite at step 2; after 90507.5"), kind("float32 of z8")
    ('not finite at step …; after …', 'float32 of z8')
    """
    return _NUMBER.sub("…", text)


def common_text(texts: Sequence[str]) -> str:
    """Texts of one kind as one: a number stays where all have it, and else is '…'.

    >>> common_text(["step 2 of 9", "step 5 of 9"])
    'step … of 9'
    """
    found = [_NUMBER.findall(text) for text in texts]
    shared = iter([each[0] if len(set(each)) == 1 else "…" for each in zip(*found, strict=True)])
    return _NUMBER.sub(lambda _: next(shared), texts[0])


def named_designs(frame: pd.DataFrame, rows: pd.DataFrame, most: int = _NAMED) -> str:
    """The designs of these rows of the frame by name; of more than `most`, how many more.

    A name says what varies in the frame, and likelihood, sigma and latent size anyway.
    """
    told = dict.fromkeys([*varying(frame), "likelihood", "sigma", "latent_dim"])
    axes = sorted(told, key=reading_order)
    one = rows.drop_duplicates("design")
    keys = zip(*(one[axis] for axis in axes), strict=True)
    names = list(dict.fromkeys(plain(design_label(axes, key), _LONGEST) for key in keys))
    more = f"; and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def warned(frame: pd.DataFrame, code: WarningCode) -> "pd.Series[bool]":
    """Return which rows have a warning with this code."""
    codes = frame["warning_codes"].fillna("").astype(str).str.split()
    return codes.map(lambda found: code in found).astype(bool)
