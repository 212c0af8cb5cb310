"""Which records may be compared, and why the others are refused.

Nats are only comparable over one data set, one data support (grey, binary, dequantised, real)
and one kind (probability mass or density); timings only over one machine. `bits_per_dim` is the
one score that may cross likelihood families.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from vaebench.analysis.columns import unit
from vaebench.analysis.labels import is_missing, ordered, plain, slug, value_text
from vaebench.errors import NotComparable
from vaebench.records.schema import NOT_A_LIKELIHOOD

_DATA: Final = ("dataset", "data_checksum")
_SUPPORT: Final = (*_DATA, "data_support", "data_threshold")
_BASES: Final[dict[str, tuple[str, ...]]] = {
    "nats": (*_SUPPORT, "comparable"),
    "bits": (*_DATA, "data_levels", "data_threshold"),
    "pixel": _SUPPORT,
    "time": ("machine",),
    "other": _DATA,
}
_WHY: Final = {
    "dataset": "the data sets differ",
    "data_checksum": "the data sets have one name and different contents",
    "data_support": "the data supports differ, so the bounds are on different quantities",
    "comparable": "a density and a probability mass have different units of measure, "
    "and a Bernoulli on grey pixels is neither",
    "data_threshold": "pixels cut at one half and pixels that were drawn make different images",
    "data_levels": "the images have different numbers of grey levels",
    "machine": "the machines differ",
    "likelihood": "each family's scale is another quantity",
}
_TIME_UNITS: Final = frozenset({"s", "ms", "1/s", "MiB"})
_SELECT: Final = "select one of them"
_ADVICE: Final = {
    "nats": "compare bits_per_dim, or select one of them",
    "time": "select one machine",
}


@dataclass(frozen=True)
class Group:
    """Records that may be compared with each other, and what they have in common."""

    label: str
    slug: str
    frame: pd.DataFrame


def _family(metric: str) -> str:
    of = unit(metric)
    if of in _TIME_UNITS:
        return "time"
    for family in ("nats", "bits", "pixel"):
        if of.startswith(family):
            return family
    return "other"


def is_timing(metric: str) -> bool:
    """Whether a metric is time or memory: what a machine did, not what a model is."""
    return _family(metric) == "time"


def basis(metric: str) -> tuple[str, ...]:
    """The columns that must hold one value wherever values of `metric` are compared.

    >>> basis("train_seconds")
    ('machine',)
    """
    # A standard deviation, Laplace's b and a logistic's s are different quantities.
    apart = ("likelihood",) if metric == "sigma_fitted" else ()
    return (*_BASES[_family(metric)], *apart)


def is_bound(frame: pd.DataFrame) -> bool:
    """Whether each row's likelihood is one of its data, so that its ELBO bounds log p(x)."""
    return not (frame["comparable"] == NOT_A_LIKELIHOOD).any()


def refusal(frame: pd.DataFrame, metric: str, apart: Sequence[str] = ()) -> str | None:
    """Why the rows may not be compared in `metric`, in words; None where they may.

    Columns in `apart` keep rows apart already, so they may differ.
    """
    for column in basis(metric):
        if column in apart or holds_one_value(frame[column]):
            continue
        values = ordered(frame[column].dropna())
        if len(values) > 1:
            named = " and ".join(repr(plain(_words(column, value))) for value in values[:4])
            advice = _ADVICE.get(_family(metric), _SELECT)
            if _family(metric) == "nats" and refusal(frame, "bits_per_dim", apart) is not None:
                # Bits per dimension cross likelihoods, not data sets nor binarisations.
                advice = _SELECT
            return f"{metric} is not compared over {named}: {_WHY[column]}; {advice}"
    return None


def require_comparable(frame: pd.DataFrame, metric: str, apart: Sequence[str] = ()) -> None:
    """Refuse a comparison that has no meaning; rows that differ in `apart` are not compared.

    Raises:
        NotComparable: the rows differ in a column of `basis(metric)`.
    """
    reason = refusal(frame, metric, apart)
    if reason is not None:
        raise NotComparable(reason)


def holds_one_value(column: "pd.Series[Any]") -> bool:
    """Whether all entries are equal and none is missing; quicker than listing the values."""
    entries = column.to_numpy()
    return len(entries) > 0 and bool((entries == entries[0]).all())


_SUPPORT_WORDS: Final = {
    "grey": "grey levels",
    "binary": "binarised",
    "dequantised": "dequantised",
    "real": "real values",
    "counts": "counts",
}


_KIND_WORDS: Final = {"mass": "probability mass", "density": "density"}


def _words(column: str, value: object) -> str:
    if column == "comparable":
        return _KIND_WORDS.get(str(value), value_text(value))
    if column == "data_support":
        return _SUPPORT_WORDS.get(str(value), value_text(value))
    if column == "data_threshold":
        return "by a threshold" if value else "by draws"
    if column == "data_levels":
        levels = int(float(str(value)))
        return "binary pixels" if levels == 2 else f"{levels} grey levels"
    if column == "data_checksum":
        return f"data {value_text(value)[:8]}"
    return value_text(value)


def _label(columns: tuple[str, ...], key: tuple[object, ...], frame: pd.DataFrame) -> str:
    """Names what a group shares; a checksum only where one data set's name has several.

    An image folder that was read in grey and in colour is named by these words instead.
    """
    shown = []
    for column, value in zip(columns, key, strict=True):
        same_name = frame[frame["dataset"] == key[0]] if column == "data_checksum" else None
        if same_name is not None and same_name["data_checksum"].nunique() < 2:
            continue
        if same_name is not None and _read_in_both(same_name):
            read = same_name.loc[same_name["data_checksum"] == value, "channels"]
            shown.append("in colour" if read.iloc[0] == 3 else "in grey")
        elif not is_missing(value) and (column != "data_threshold" or value):
            shown.append(_words(column, value))
    return plain(", ".join(shown), 120)


def _read_in_both(rows: pd.DataFrame) -> bool:
    """Whether two checksums of one data set are those of its grey and its colour images."""
    pairs = rows[["data_checksum", "channels"]].drop_duplicates()
    return len(pairs) == pairs["channels"].nunique() == pairs["data_checksum"].nunique() == 2


def groups(frame: pd.DataFrame, metric: str) -> tuple[Group, ...]:
    """Split the frame into the parts within which `metric` may be compared, in a fixed order."""
    columns = basis(metric)
    parts = frame.groupby(list(columns), dropna=False, sort=False)
    named = []
    for key, rows in parts:
        label = _label(columns, tuple(key), frame) or "unknown data"
        named.append((tuple(value_text(value) for value in key), label, rows))
    named.sort(key=lambda entry: entry[0])
    # Labels that differ may be cut, or lose letters, to one and the same file name.
    slugs = [slug(label) for _, label, _ in named]
    return tuple(
        Group(label, name + (f"-{i}" if slugs.count(name) > 1 else ""), rows)
        for i, ((_, label, rows), name) in enumerate(zip(named, slugs, strict=True))
    )
