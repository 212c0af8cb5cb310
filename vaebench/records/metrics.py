"""The registry of metrics: one entry per metric, with its unit and which way is better.

`vaebench list metrics`, the tables and the docs are all made from these entries.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "MetricChoice", "metric_choice"]

NATS = "nats/image"


@dataclass(frozen=True, slots=True)
class MetricChoice:
    """One metric: its column name, its unit, one line about it, and which way is better."""

    name: str
    unit: str
    summary: str
    better: Literal["higher", "lower"] | None = None


_ENTRIES = (
    MetricChoice(
        "elbo", NATS, "E_q log p(x|z) - KL with z sampled, every constant included", "higher"
    ),
    MetricChoice("elbo_se", NATS, "standard error of the ELBO over test images"),
    MetricChoice(
        "elbo_selection",
        NATS,
        "for choosing a design: the ELBO of the validation images, or of half of the test images",
        "higher",
    ),
    MetricChoice(
        "elbo_held_out",
        NATS,
        "for reporting a chosen design: the ELBO of the test images, or of their other half",
        "higher",
    ),
    MetricChoice("reconstruction_error", NATS, "-E_q log p(x|z), z sampled", "lower"),
    MetricChoice(
        "reconstruction_error_at_mean",
        NATS,
        "-log p(x|z) at the posterior mean: flatters, and is no part of a bound",
        "lower",
    ),
    MetricChoice("kl", NATS, "KL(q(z|x) || p(z)), summed over latent dimensions"),
    MetricChoice("mse", "pixel²", "mean over pixels and images of (x - E[x|z])²", "lower"),
    MetricChoice(
        "sigma_fitted",
        "pixel",
        "the scale in force at the end (root mean square where it is a vector)",
    ),
    MetricChoice(
        "bits_per_dim",
        "bits",
        "-ELBO/(D ln 2) of the discrete image: may be compared across likelihood families",
        "lower",
    ),
    MetricChoice(
        "bits_per_dim_selection", "bits", "bits_per_dim of the images of elbo_selection", "lower"
    ),
    MetricChoice(
        "bits_per_dim_held_out", "bits", "bits_per_dim of the images of elbo_held_out", "lower"
    ),
    MetricChoice("iw_bound", NATS, "importance-weighted bound on log p(x)", "higher"),
    MetricChoice(
        "exact_log_likelihood",
        NATS,
        "log p(x) of a linear VAE with a Gaussian likelihood, in closed form",
        "higher",
    ),
    MetricChoice("iw_samples", "count", "importance samples an image behind iw_bound"),
    MetricChoice("iw_se", NATS, "standard error of iw_bound over test images"),
    MetricChoice(
        "iw_ess", "share", "effective sample size of the importance weights over their number"
    ),
    MetricChoice("ais_bound", NATS, "bound on log p(x) by annealed importance sampling", "higher"),
    MetricChoice(
        "ais_bracket",
        NATS,
        "upper less lower bound by annealing, on images simulated from an external model",
        "lower",
    ),
    MetricChoice(
        "iw_shortfall",
        NATS,
        "ais_bound less the iw_bound of the same images: what iw_bound misses at least",
        "lower",
    ),
    MetricChoice(
        "posterior_gap",
        NATS,
        "iw_bound less the elbo of the same images: an estimate of D[q(z|x)||p(z|x)] from below",
    ),
    MetricChoice(
        "amortization_gap",
        NATS,
        "the part of the posterior gap that vanishes if q(z|x) is optimised for each image",
        "lower",
    ),
    MetricChoice(
        "approximation_gap",
        NATS,
        "the part of the posterior gap that remains then, because q is Gaussian; from below",
        "lower",
    ),
    MetricChoice(
        "active_units", "count", "latent dimensions whose posterior mean varies above 0.01 λ²"
    ),
    MetricChoice(
        "effective_rank",
        "count",
        "(tr C)²/tr C² of the covariance C of the posterior means of up to 2,000 test images",
    ),
    MetricChoice("mutual_information", "nats", "between image and code, over the whole split"),
    MetricChoice(
        "mutual_information_ceiling", "nats", "log N: no estimate from N images can exceed it"
    ),
    MetricChoice("marginal_kl", "nats", "KL of the aggregate posterior to the prior"),
    MetricChoice(
        "nonzero_codes", "count", "the L0 count: entries of an image's code that are not near zero"
    ),
    MetricChoice(
        "knn_accuracy", "share", "labels told from posterior means by 5 neighbours", "higher"
    ),
    MetricChoice("tsne_trustworthiness", "share", "neighbourhoods kept by the t-SNE map", "higher"),
    MetricChoice("train_seconds", "s", "wall time of training, evaluation apart", "lower"),
    MetricChoice("evaluation_seconds", "s", "wall time of evaluation, the map included", "lower"),
    MetricChoice("tsne_seconds", "s", "wall time of the t-SNE map", "lower"),
    MetricChoice("step_ms_median", "ms", "median training step, over the pack's size", "lower"),
    MetricChoice(
        "step_ms_p95", "ms", "95th percentile of the training step, over the pack's size", "lower"
    ),
    MetricChoice("samples_per_second", "1/s", "training images a second", "higher"),
    MetricChoice("pack_size", "count", "cells that were trained as one program"),
    MetricChoice(
        "peak_memory_mib",
        "MiB",
        "peak memory of training above its start; in a pack, of all its cells together",
        "lower",
    ),
)

METRICS: dict[str, MetricChoice] = {entry.name: entry for entry in _ENTRIES}
"""Every metric by name, measured on the test split; `<name>_train` is its training twin."""


def metric_choice(name: str) -> MetricChoice:
    """Return the entry of a metric; `<name>_train` is `<name>` on the training split.

    Raises:
        ValueError: there is no such metric.
    """
    base = name.removesuffix("_train")
    if base not in METRICS:
        raise ValueError(
            f"a metric is one of `vaebench list metrics`, or one of them followed by '_train'; "
            f"got {name!r}. Add an entry to vaebench/records/metrics.py."
        )
    entry = METRICS[base]
    if base == name:
        return entry
    return MetricChoice(name, entry.unit, f"{entry.summary} (training split)", entry.better)
