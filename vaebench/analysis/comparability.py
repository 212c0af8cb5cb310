"""Rules for which records may be compared in a metric, with the reason for each refusal.

Nats are comparable only for one data set, one data support (grey, binary, dequantised, real) and
one kind of likelihood (probability mass or density); timings only for one machine. `bits_per_dim`
is the only score that is comparable between likelihood families.
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
    """Records that may be compared with each other.

    Attributes:
        label: the data and kind of likelihood that the records have in common, in words.
        slug: the label as part of a file name.
        frame: rows of the tidy frame.
    """

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
    """Return whether a metric is a time or memory, which depends on the machine."""
    return _family(metric) == "time"


def basis(metric: str) -> tuple[str, ...]:
    """Return the columns that must have one value in records compared in a metric.

    >>> basis("train_seconds")
    ('machine',)
    """
    # The scales of different families are different quantities.
    apart = ("likelihood",) if metric == "sigma_fitted" else ()
    return (*_BASES[_family(metric)], *apart)


def is_bound(frame: pd.DataFrame) -> bool:
    """Return whether the ELBO of every row is a bound on log p(x) of its data."""
    return not (frame["comparable"] == NOT_A_LIKELIHOOD).any()


def refusal(frame: pd.DataFrame, metric: str, apart: Sequence[str] = ()) -> str | None:
    """Return the reason why rows cannot be compared in a metric, or None if they can.

    Args:
        frame: rows of the tidy frame.
        metric: name of a metric.
        apart: columns that may differ, because rows that differ in them are not compared.
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
    """Raise an error if rows cannot be compared in a metric; arguments as for `refusal`.

    Raises:
        NotComparable: the rows differ in a column of `basis(metric)` that is not in `apart`.
    """
    reason = refusal(frame, metric, apart)
    if reason is not None:
        raise NotComparable(reason)


def holds_one_value(column: "pd.Series[Any]") -> bool:
    """Return whether all entries are equal and none is missing; faster than `unique`."""
    entries = column.to_numpy()
    return len(entries) > 0 and bool((entries == entries[0]).all())


_WORDS: Final = {
    ("data_support", "grey"): "grey levels",
    ("data_support", "binary"): "binarised",
    ("data_support", "real"): "real values",
    ("comparable", "mass"): "probability mass",
}


def _words(column: str, value: object) -> str:
    if column == "data_threshold":
        return "by a threshold" if value else "by draws"
    if column == "data_levels":
        levels = int(float(str(value)))
        return "binary pixels" if levels == 2 else f"{levels} grey levels"
    if column == "data_checksum":
        return f"data {value_text(value)[:8]}"
    return _WORDS.get((column, str(value)), value_text(value))


def _label(columns: tuple[str, ...], key: tuple[object, ...], frame: pd.DataFrame) -> str:
    """Return a label of the values that a group has in common.

    A checksum is included only if a data set has several. If these are the grey and the colour
    version of one image folder, the label says so instead.
    """
    shown = []
    for column, value in zip(columns, key, strict=True):
        if column == "data_checksum":
            versions = frame.loc[frame["dataset"] == key[0], [column, "channels"]].drop_duplicates()
            if versions[column].nunique() < 2:
                continue
            if len(versions) == versions["channels"].nunique() == versions[column].nunique() == 2:
                channels = versions.loc[versions[column] == value, "channels"].iloc[0]
                shown.append("in colour" if channels == 3 else "in grey")
                continue
        if not is_missing(value) and (column != "data_threshold" or value):
            shown.append(_words(column, value))
    return plain(", ".join(shown), 120)


def groups(frame: pd.DataFrame, metric: str) -> tuple[Group, ...]:
    """Split the frame into parts within which a metric may be compared, in a fixed order."""
    columns = basis(metric)
    parts = frame.groupby(list(columns), dropna=False, sort=False)
    named = []
    for key, rows in parts:
        label = _label(columns, tuple(key), frame) or "unknown data"
        named.append((tuple(value_text(value) for value in key), label, rows))
    named.sort(key=lambda entry: entry[0])
    # Different labels can give the same file name, because it is shortened: number such names.
    slugs = [slug(label) for _, label, _ in named]
    return tuple(
        Group(label, name + (f"-{i}" if slugs.count(name) > 1 else ""), rows)
        for i, ((_, label, rows), name) in enumerate(zip(named, slugs, strict=True))
    )
