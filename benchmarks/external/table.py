"""What each code base prints about its model, and what the model is, as a Markdown table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from vaebench.records.store import Store

_COLUMNS = ("elbo", "kl", "iw_bound")
_TITLES = {
    "pythae_vae": "pythae, VAE",
    "pythae_beta_vae": "pythae, beta-VAE (β = 4)",
    "pythae_iwae": "pythae, IWAE (k = 5)",
    "pytorch_example": "PyTorch example",
    "vaebench": "vaebench",
}


def interval(values: Sequence[float]) -> str:
    """Mean and half the 95 % Student t interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return f"{mean:.1f}".replace("-", "−")
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n)
    return f"{mean:.1f} ± {half:.1f}".replace("-", "−")


def table(store: Path) -> str:
    """Return the table of a store and of the file ``printed.json`` beside its records."""
    printed = json.loads((store / "printed.json").read_text(encoding="utf-8"))
    records = {record.cell_id: record for record in Store(store).read_all()[0]}
    lines = [
        "| model | prints | ELBO | KL | importance-weighted bound |",
        "|---|---|---|---|---|",
    ]
    for name, title in _TITLES.items():
        own = [row for row in printed if row["name"] == name]
        found = [records[row["cell"]].metrics for row in own]
        measured = [
            interval([value for each in found if (value := each[column].value) is not None])
            for column in _COLUMNS
        ]
        told = f"{own[0]['words']}: {interval([row['value'] for row in own])}"
        lines.append(f"| {' | '.join((title, told, *measured))} |")
    return "\n".join(lines)
