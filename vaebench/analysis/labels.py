"""Order and format values and designs, for tables and figures."""

import functools
import math
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from vaebench.analysis.columns import AXIS_COLUMNS, EXTERNAL, OF_TRAINING
from vaebench.grid.axes import DEVICES, LIKELIHOODS, SIGMA_KINDS
from vaebench.grid.cell import AXES, EVALUATION_SETTINGS
from vaebench.grid.values import plural

_WORD_ORDER: Final = (*LIKELIHOODS, *SIGMA_KINDS, *DEVICES)
_BARE: Final = frozenset({"likelihood", "device", "precision"})
_OWN_NAMES: Final = frozenset({"dataset", "architecture"})
"""Axes whose values may be names given by the user, which are not changed."""
_PREFIX: Final = {"latent_dim": "z", "sigma": "σ", "beta": "β", "prior_scale": "λ"}


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN or the NA of pandas."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def order_key(value: object) -> tuple[int, float, str]:
    """Sort key for mixed values: numbers, then known words, other values, and missing ones."""
    if is_missing(value):
        return (3, 0.0, "")
    if isinstance(value, str):
        known = value in _WORD_ORDER
        return (1, _WORD_ORDER.index(value), "") if known else (2, 0.0, value)
    if isinstance(value, (int, float)) or hasattr(value, "__float__"):
        return (0, float(value), "")
    return (2, 0.0, str(value))


def ordered(values: Iterable[Hashable]) -> list[Hashable]:
    """Return the distinct values in the order of `order_key`; missing values become one None."""
    distinct = values.unique().tolist() if isinstance(values, pd.Series) else values
    seen = {None if is_missing(value) else value for value in distinct}
    return sorted(seen, key=order_key)


def value_text(value: object) -> str:
    """Format a value of an axis with the fewest characters that identify it.

    >>> value_text(0.1), value_text((400, 200)), value_text(()), value_text(None)
    ('0.1', '400-200', 'none', '-')
    """
    if is_missing(value):
        return "-"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(float(value))
    if isinstance(value, tuple):
        return "none" if not value else "-".join(value_text(entry) for entry in value)
    return str(value)


def shown(value: object) -> str:
    """Format a value as `value_text` does, with a comma between thousands.

    >>> shown(10000), shown(0.1), shown("learned")
    ('10,000', '0.1', 'learned')
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return f"{value:,}" if whole else value_text(value)


def counted(states: "pd.Series[str]", noun: str) -> str:
    """Describe the number and states of cells or timings: '66 cells (65 done, 1 failed)'."""
    counts = states.value_counts()
    order = sorted(counts.index, key=lambda state: (state != "done", state))
    return f"{plural(len(states), noun)} ({', '.join(f'{counts[s]} {s}' for s in order)})"


def plain(text: object, limit: int = 80) -> str:
    """Return text on one line without control or bidirectional characters, cut at `limit`."""
    spaced = re.sub(r"\s+", " ", str(text)).strip()
    if spaced.isprintable():
        return spaced if len(spaced) <= limit else spaced[: limit - 1] + "…"
    kept = "".join("�" if unicodedata.category(c)[0] == "C" else c for c in spaced)
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


@functools.cache
def _drawn_characters() -> frozenset[int]:
    # Imported late: most names consist of characters that every font has.
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    font = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(font)).get_charmap())


def drawable(text: object, limit: int = 60) -> str:
    """Return `plain` text with an escape for each character that the bundled font lacks.

    >>> drawable("数据.npz"), drawable("zürich.npz")
    ('\\\\u6570\\\\u636e.npz', 'zürich.npz')
    """
    drawn = (
        # Escapes keep different names different.
        c
        if c.isascii() or c in "σβλ…" or ord(c) in _drawn_characters()
        else c.encode("ascii", "backslashreplace").decode("ascii")
        for c in plain(text, 10_000)
    )
    return plain("".join(drawn), limit)


def drawable_names(labels: Sequence[str], limit: int = 60) -> list[str]:
    """Return distinct `drawable` names of designs with at most `limit` characters.

    In a long name the middle of its longest parts is removed, because names usually differ at their
    ends. Equal names are numbered.

    >>> drawable_names(["net:a_very_long_name, z 2", "net:a_very_long_name, z 8"], 18)
    ['net:a_…g_name, z 2', 'net:a_…g_name, z 8']
    >>> drawable_names(["aaaaaaaa1aaaaaaaa", "aaaaaaaa2aaaaaaaa"], 9)
    ['aaa…aa #1', 'aaa…aa #2']
    """
    whole = [drawable(label, 10_000) for label in labels]
    short = [_fitting(label, limit) for label in whole]
    originals: dict[str, dict[str, int]] = {}
    for name, label in zip(short, whole, strict=True):
        originals.setdefault(name, {}).setdefault(label, len(originals.get(name, {})) + 1)
    return [
        name
        if len(originals[name]) == 1
        else f"{_fitting(label, limit - 3)} #{originals[name][label]}"
        for name, label in zip(short, whole, strict=True)
    ]


def _fitting(label: str, limit: int) -> str:
    """Shorten the longest parts of a label in their middle until it fits."""
    parts = label.split(", ")
    kept = [len(part) for part in parts]
    # A part keeps at least six letters.
    while sum(kept) + 2 * (len(parts) - 1) > limit and max(kept) > 6:
        kept[kept.index(max(kept))] -= 1
    cut = (
        part if size == len(part) else f"{part[: size // 2]}…{part[len(part) - (size - 1) // 2 :]}"
        for part, size in zip(parts, kept, strict=True)
    )
    return plain(", ".join(cut), limit)


def slug(text: str) -> str:
    """Return text as a file name that consists of a-z, 0-9 and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def varying(frame: pd.DataFrame, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the axes with several values in the frame, except the seed and `without`."""
    axes = (axis for axis in AXIS_COLUMNS if axis in frame and axis not in ("seed", *without))
    trained = without_external(frame)
    return tuple(
        axis for axis in axes if len(ordered((trained if axis in OF_TRAINING else frame)[axis])) > 1
    )


def design_axes(frame: pd.DataFrame) -> list[str]:
    """Return the axes that name a design: varying ones, likelihood, sigma, latent dimension."""
    axes = dict.fromkeys([*varying(frame), "likelihood", "sigma", "latent_dim"])
    return sorted(axes, key=reading_order)


def without_external(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells that vaebench trained, without external models."""
    if "architecture" not in frame:
        return frame
    names = frame["architecture"].unique()
    external = [name for name in names if str(name).startswith(EXTERNAL)]
    return frame[~frame["architecture"].isin(external)] if external else frame


_INCIDENTAL: Final = frozenset(
    {
        "epochs",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "train_size",
        "valid_size",
        *EVALUATION_SETTINGS,
    }
)
"""Axes that are named only if they are not determined by the other axes."""


def reading_order(axis: str) -> int:
    """Sort key of an axis in a name or table: the most important axes first."""
    return {"likelihood": 0, "sigma": 1, "latent_dim": 3}.get(axis, 2)


def _part(axis: str, value: object) -> str:
    if is_missing(value):
        return ""
    if axis in _OWN_NAMES:
        return value_text(value)
    if axis in _BARE:
        return value_text(value).replace("_", " ")
    # A default that is a word is omitted; a number is always named.
    if isinstance(value, (str, bool)) and value == AXES[axis].default:
        return ""
    if axis == "binarization":
        return f"binarised ({value_text(value)})"
    if axis == "dequantize":
        return "dequantised"
    name = _PREFIX.get(axis, axis.replace("_", " "))
    return f"{name} {shown(value).replace('_', ' ')}"


def design_label(axes: Sequence[str], values: Sequence[object]) -> str:
    """Return a short name of a design, such as 'gaussian, σ learned, z 8'.

    Missing values are omitted, and also words and booleans that are the default of the axis.
    """
    pairs = sorted(zip(axes, values, strict=True), key=lambda pair: reading_order(pair[0]))
    said = ", ".join(part for part in (_part(axis, value) for axis, value in pairs) if part)
    return said or ", ".join(f"{axis.replace('_', ' ')} {shown(v)}" for axis, v in pairs)


def design_labels(axes: Sequence[str], keys: Sequence[Sequence[object]]) -> list[str]:
    """Return names of designs with the axes of `distinguishing_axes`.

    >>> design_labels(["dataset", "epochs"], [("digits", 40), ("mnist", 5)])
    ['digits', 'mnist']
    >>> design_labels(["dataset", "epochs"], [("mnist", 1), ("mnist", 5)])
    ['mnist, epochs 1', 'mnist, epochs 5']
    """
    named = distinguishing_axes(axes, keys)
    places = [axes.index(axis) for axis in named]
    return [design_label(named, [key[place] for place in places]) for key in keys]


def distinguishing_axes(axes: Sequence[str], keys: Sequence[Sequence[object]]) -> list[str]:
    """Return the axes that distinguish designs.

    Sizes and rates, such as the number of epochs, are omitted if the other axes determine them.
    """
    if len(keys) < 2:
        return list(axes)
    columns = {axis: [value_text(key[i]) for key in keys] for i, axis in enumerate(axes)}
    named = [axis for axis in axes if axis not in _INCIDENTAL]
    for axis in (each for each in axes if each in _INCIDENTAL):
        constant = len(set(columns[axis])) == 1
        # The axis is determined by another one if equal values there imply equal values here.
        follows = any(
            len(set(zip(columns[of], columns[axis], strict=True))) == len(set(columns[of]))
            for of in named
        )
        if not constant and not follows:
            named.append(axis)
    return named
