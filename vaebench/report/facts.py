"""The facts of a page: number of cells, data, networks, training, machine and versions."""

import pandas as pd

from vaebench.analysis.columns import of_data
from vaebench.analysis.labels import counted, ordered, plain, shown, value_text


def named(frame: pd.DataFrame, column: str) -> str:
    """Return the distinct values of a column; if there are many, the first ones and the last."""
    values = [plain(shown(value), 200) for value in ordered(frame[column].dropna())]
    if len(values) <= 12:
        return ", ".join(values)
    return f"{', '.join(values[:10])}, … {values[-1]} ({len(values)} values)"


def facts(frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Return names and values: what the cells were trained on, how, and where."""
    if frame.empty:
        return ()
    sizes = ["dataset", "data_train", "data_test"]
    known = frame[frame["data_train"].notna()].drop_duplicates(sizes).sort_values(sizes[:2])
    data = [
        f"{row.dataset} ({row.data_train:,.0f} training and {row.data_test:,.0f} "
        f"{of_data('test images', frame)})"
        for row in known.itertuples()
    ]
    device, name = frame["device"], frame["device_name"]
    devices = device.where(name.isna(), device + " (" + name.fillna("") + ")")

    def settings(*axes: str) -> str:
        named_axes = ((axis.replace("_", " "), named(frame, axis)) for axis in axes)
        return "; ".join(f"{name} {values}" for name, values in named_axes if values)

    found = (
        ("Records", counted(frame["status"], "cell")),
        ("Grid", named(frame, "grid")),
        ("Data", ", ".join(data[:6]) or named(frame, "dataset")),
        ("Likelihoods", named(frame, "likelihood").replace("_", " ")),
        ("Latent dimensions", named(frame, "latent_dim")),
        ("Networks", settings("architecture", "hidden")),
        ("Training", settings("epochs", "batch_size", "learning_rate")),
        ("Seeds", f"{frame['seed'].nunique()}: {named(frame, 'seed')}"),
        ("Machine", "; ".join(map(value_text, ordered(frame["machine"].dropna())))),
        ("Device", named(frame.assign(device=devices), "device")),
        ("Versions", "; ".join(map(value_text, ordered(frame["versions"].dropna())[:3]))),
        ("Commit", named(frame, "commit")),
    )
    return tuple((name, text) for name, text in found if text)
