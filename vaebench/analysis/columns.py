"""Names, units and order of the columns of the tidy table.

Names and units come from the registries of `grid` and `records`; the words on an axis or over a
column are defined here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vaebench.grid.axes import DATASETS
from vaebench.grid.cell import AXES, EVALUATION_SETTINGS
from vaebench.records.metrics import METRICS, metric_choice

if TYPE_CHECKING:
    import pandas as pd

AXIS_COLUMNS: Final[tuple[str, ...]] = tuple(AXES)
"""Every design choice, in the order of the cell's fields."""

METRIC_COLUMNS: Final[tuple[str, ...]] = tuple(METRICS)
"""Every metric, in the registry's order."""

EXTERNAL: Final = "external:"
"""The architecture of a model that `vaebench evaluate` scored is this and its name."""

_KNOWN_OF_EXTERNAL: Final = frozenset(
    {
        *("dataset", "kind", "layout", "range", "shape", "resize", "crop", "channels"),
        *("binarization", "dequantize", "train_size", "valid_size", *EVALUATION_SETTINGS),
        *("architecture", "latent_dim", "likelihood", "sigma", "posterior", "prior_scale"),
        *("device", "seed"),
    }
)
OF_TRAINING: Final = tuple(axis for axis in AXIS_COLUMNS if axis not in _KNOWN_OF_EXTERNAL)
"""Axes that are not known of such a model; they are empty in its row."""

_HEADINGS: Final[dict[str, str]] = {
    "elbo": "ELBO",
    "reconstruction_error": "distortion",
    "kl": "rate (KL)",
    "mse": "MSE",
    "sigma_fitted": "σ fitted",
    "bits_per_dim": "bits per dim",
    "iw_bound": "IW bound",
    "posterior_gap": "posterior gap",
    "active_units": "active units",
    "mutual_information": "mutual information",
    "marginal_kl": "marginal KL",
    "knn_accuracy": "kNN accuracy",
    "tsne_trustworthiness": "t-SNE trust",
    "train_seconds": "training time",
    "step_ms_median": "step, median",
    "step_ms_p95": "step, 95th pct.",
    "samples_per_second": "throughput",
    "peak_memory_mib": "peak memory",
    "pack_size": "cells a pack",
    "evaluation_seconds": "evaluation time",
    "tsne_seconds": "t-SNE time",
    "latent_dim": "latent dim",
    "sigma": "σ",
}

_AXIS_WORDS: Final[dict[str, str]] = {
    "samples_per_second": "training images",
    "step_ms_median": "training step, median",
    "peak_memory_mib": "peak memory of training",
    "knn_accuracy": "kNN accuracy of the codes",
    "mse": "mean squared error",
}


def heading(column: str, bound: bool = True) -> str:
    """The words over a column, e.g. 'rate (KL)' for `kl`; `bound` as in `axis_label`."""
    if column == "elbo" and not bound:
        return "score, no bound"
    return _HEADINGS.get(column, column.replace("_", " "))


def unit(metric: str) -> str:
    """The unit of a metric, e.g. 'nats/image'.

    Raises:
        ValueError: there is no such metric in the registry.
    """
    return metric_choice(metric).unit


def axis_label(metric: str, bound: bool = True) -> str:
    """An axis label that carries the unit, e.g. 'ELBO [nats/image]'.

    `bound` is false if the likelihood is not one of these data: then the ELBO is not a bound.
    """
    words = _AXIS_WORDS.get(metric, heading(metric, bound))
    return f"{words} [{unit(metric)}]"


_OF_ROWS: Final = (
    ("nats/image", "nats/row"),
    ("bits/image", "bits/row"),
    ("images/s", "rows/s"),
    ("test images", "test rows"),
    ("training images", "training rows"),
    ("pixel²", "squared data unit"),
    ("[pixel]", "[data unit]"),
)


def are_tables(rows: pd.DataFrame) -> bool:
    """Whether all data of these rows are a user's own tables of numbers, which have no pixels."""
    if rows.empty or "data_support" not in rows:
        return False
    own = ~rows["dataset"].isin(DATASETS)
    return bool((rows["data_support"].isin(("real", "counts")) & own).all())


def unit_of_rows(text: str) -> str:
    """The text with words for rows of numbers in place of images and pixels.

    >>> unit_of_rows("nats/image")
    'nats/row'
    """
    for images, numbers in _OF_ROWS:
        text = text.replace(images, numbers)
    return {"pixel": "data unit"}.get(text, text)


def of_data(text: str, rows: pd.DataFrame) -> str:
    """The text with words for tables in place of images and pixels, if all data are tables.

    Args:
        text: a label, a unit in brackets, or a sentence.
        rows: of the tidy frame, whose data the text is about.
    """
    return unit_of_rows(text) if are_tables(rows) else text
