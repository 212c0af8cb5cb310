"""Names, units, headings and order of the columns of the tidy frame.

Names and units are from the registries in `grid` and `records`; headings and axis labels are
defined here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vaebench.grid.axes import DATASETS
from vaebench.grid.cell import AXES, EVALUATION_SETTINGS
from vaebench.records.metrics import METRICS, metric_choice

if TYPE_CHECKING:
    import pandas as pd

AXIS_COLUMNS: Final[tuple[str, ...]] = tuple(AXES)
"""All design choices, in the order of the fields of a cell."""

METRIC_COLUMNS: Final[tuple[str, ...]] = tuple(METRICS)
"""All metrics, in the order of the registry."""

EXTERNAL: Final = "external:"
"""Prefix of the architecture of an external model, which `vaebench evaluate` scored."""

_KNOWN_OF_EXTERNAL: Final = frozenset(
    {
        *("dataset", "kind", "layout", "range", "shape", "resize", "crop", "channels"),
        *("binarization", "dequantize", "train_size", "valid_size", *EVALUATION_SETTINGS),
        *("architecture", "latent_dim", "likelihood", "sigma", "posterior", "prior_scale"),
        *("device", "seed"),
    }
)
OF_TRAINING: Final = tuple(axis for axis in AXIS_COLUMNS if axis not in _KNOWN_OF_EXTERNAL)
"""Axes that are not known for an external model and are empty in its row."""

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
    """Return the heading of a column, such as 'rate (KL)'; `bound` as in `axis_label`."""
    if column == "elbo" and not bound:
        return "score, no bound"
    return _HEADINGS.get(column, column.replace("_", " "))


def unit(metric: str) -> str:
    """Return the unit of a metric, such as 'nats/image'.

    Raises:
        ValueError: the metric does not exist.
    """
    return metric_choice(metric).unit


def axis_label(metric: str, bound: bool = True) -> str:
    """Return an axis label with the unit, such as 'ELBO [nats/image]'.

    Args:
        metric: name of a metric.
        bound: whether the ELBO is a bound. It is not for a Bernoulli likelihood on grey pixels.
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
    """Return whether all data sets of these rows are tables of the user, not images."""
    if rows.empty or "data_support" not in rows:
        return False
    own = ~rows["dataset"].isin(DATASETS)
    return bool((rows["data_support"].isin(("real", "counts")) & own).all())


def unit_of_rows(text: str) -> str:
    """Replace the words for images and pixels by words for tables.

    >>> unit_of_rows("nats/image")
    'nats/row'
    """
    for images, numbers in _OF_ROWS:
        text = text.replace(images, numbers)
    return {"pixel": "data unit"}.get(text, text)


def of_data(text: str, rows: pd.DataFrame) -> str:
    """Replace the words for images and pixels by words for tables if all data sets are tables.

    Args:
        text: a label, a unit in brackets, or a sentence.
        rows: rows of the tidy frame that the text describes.
    """
    return unit_of_rows(text) if are_tables(rows) else text
