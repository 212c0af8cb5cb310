"""The registry of metrics, `metrics.csv`: the unit of each, which way is better, and its meaning.

`vaebench list metrics`, the tables and the docs are all made from these entries.
"""

import csv
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal


@dataclass(frozen=True, slots=True)
class MetricChoice:
    """One metric: its column name, its unit, one line about it, and which way is better."""

    name: str
    unit: str
    summary: str
    better: Literal["higher", "lower"] | None = None


def _registry() -> dict[str, MetricChoice]:
    text = resources.files(__package__).joinpath("metrics.csv").read_text("utf-8")
    ways: dict[str, Literal["higher", "lower"]] = {"higher": "higher", "lower": "lower"}
    return {
        row["name"]: MetricChoice(row["name"], row["unit"], row["summary"], ways.get(row["better"]))
        for row in csv.DictReader(text.splitlines())
    }


METRICS = _registry()
"""Every metric by name, measured on the test split; `<name>_train` is its training twin."""


def metric_choice(name: str) -> MetricChoice:
    """Return the entry of a metric; `<name>_train` is `<name>` on the training split.

    Raises:
        ValueError: the metric is unknown.
    """
    base = name.removesuffix("_train")
    if base not in METRICS:
        raise ValueError(
            f"a metric must be one of `vaebench list metrics`, or one of them followed by "
            f"'_train'; got {name!r}. Add a new metric to vaebench/records/metrics.csv."
        )
    entry = METRICS[base]
    if base == name:
        return entry
    return replace(entry, name=name, summary=f"{entry.summary} (training split)")
