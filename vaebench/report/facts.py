"""What a page is about: how many cells, of which data and networks, trained where and by what."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from vaebench.analysis.labels import ordered, plain, shown, value_text

__all__ = ["counted", "facts", "named"]


def _versions(frame: pd.DataFrame) -> str:
    return "; ".join(value_text(value) for value in ordered(frame["versions"].dropna())[:3])


def counted(frame: pd.DataFrame) -> str:
    """How many cells there are, and how they ended: '66 cells (65 done, 1 failed)'."""
    counts = frame["status"].value_counts()
    named = sorted(counts.index, key=lambda state: (state != "done", state))
    told = ", ".join(f"{counts[state]} {state}" for state in named)
    return f"{len(frame)} cell{'s' * (len(frame) != 1)} ({told})"


def named(frame: pd.DataFrame, column: str) -> str:
    """The values of a column, each once; of many, the first and the last."""
    values = [plain(shown(value), 200) for value in ordered(frame[column].dropna())]
    if len(values) <= _MOST_NAMED:
        return ", ".join(values)
    return f"{', '.join(values[: _MOST_NAMED - 2])}, … {values[-1]} ({len(values)} in all)"


_MOST_NAMED: Final = 12


def _data_text(frame: pd.DataFrame) -> str:
    known = frame[frame["data_train"].notna()].drop_duplicates(
        ["dataset", "data_train", "data_test"]
    )
    told = [
        f"{row.dataset} ({row.data_train:,.0f} training and {row.data_test:,.0f} test images)"
        for row in known.sort_values(["dataset", "data_train"]).itertuples()
    ]
    return ", ".join(told[:6]) or named(frame, "dataset")


def _settings(frame: pd.DataFrame, axes: Sequence[str]) -> str:
    """Each axis with the values that it has in these cells."""
    told = ((axis.replace("_", " "), named(frame, axis)) for axis in axes if axis in frame)
    return "; ".join(f"{name} {values}" for name, values in told if values)


def facts(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Names and values of what the cells were trained on, how, and where."""
    if frame.empty:
        return ()
    devices = frame["device"].where(
        frame["device_name"].isna(), frame["device"] + " (" + frame["device_name"].fillna("") + ")"
    )
    found = (
        ("Records", counted(frame)),
        ("Data", _data_text(frame)),
        ("Likelihoods", named(frame, "likelihood").replace("_", " ")),
        ("Latent dimensions", named(frame, "latent_dim")),
        ("Networks", _settings(frame, ("architecture", "hidden"))),
        ("Training", _settings(frame, ("epochs", "batch_size", "learning_rate"))),
        ("Seeds", f"{frame['seed'].nunique()}: {named(frame, 'seed')}"),
        ("Machine", "; ".join(map(value_text, ordered(frame["machine"].dropna())))),
        ("Device", named(frame.assign(device=devices), "device")),
        ("Versions", _versions(frame)),
        ("Commit", named(frame, "commit")),
    )
    return tuple((name, text) for name, text in found if text)
