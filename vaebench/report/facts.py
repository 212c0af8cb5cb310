"""The facts of a page: number of cells, data, networks, training, machine and versions."""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from vaebench.analysis.labels import ordered, plain, shown, value_text

__all__ = ["counted", "facts", "named"]


def _versions(frame: pd.DataFrame) -> str:
    return "; ".join(value_text(value) for value in ordered(frame["versions"].dropna())[:3])


def counted(frame: pd.DataFrame) -> str:
    """Return how many cells there are by status: '66 cells (65 done, 1 failed)'."""
    counts = frame["status"].value_counts()
    states = sorted(counts.index, key=lambda state: (state != "done", state))
    by_state = ", ".join(f"{counts[state]} {state}" for state in states)
    return f"{len(frame):,} cell{'s' * (len(frame) != 1)} ({by_state})"


def named(frame: pd.DataFrame, column: str) -> str:
    """Return the distinct values of a column; if there are many, the first ones and the last."""
    values = [plain(shown(value), 200) for value in ordered(frame[column].dropna())]
    if len(values) <= _MOST_NAMED:
        return ", ".join(values)
    return f"{', '.join(values[: _MOST_NAMED - 2])}, … {values[-1]} ({len(values)} values)"


_MOST_NAMED: Final = 12


def _data_text(frame: pd.DataFrame) -> str:
    known = frame[frame["data_train"].notna()].drop_duplicates(
        ["dataset", "data_train", "data_test"]
    )
    found = [
        f"{row.dataset} ({row.data_train:,.0f} training and {row.data_test:,.0f} test images)"
        for row in known.sort_values(["dataset", "data_train"]).itertuples()
    ]
    return ", ".join(found[:6]) or named(frame, "dataset")


def _settings(frame: pd.DataFrame, axes: Sequence[str]) -> str:
    """Each axis with its values in these cells."""
    found = ((axis.replace("_", " "), named(frame, axis)) for axis in axes if axis in frame)
    return "; ".join(f"{name} {values}" for name, values in found if values)


def facts(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Return names and values: what the cells were trained on, how, and where."""
    if frame.empty:
        return ()
    devices = frame["device"].where(
        frame["device_name"].isna(), frame["device"] + " (" + frame["device_name"].fillna("") + ")"
    )
    found = (
        ("Records", counted(frame)),
        ("Grid", named(frame, "grid")),
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
