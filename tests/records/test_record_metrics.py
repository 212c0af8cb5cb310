"""The registry holds the contract's columns with their units, and knows training twins."""

import pytest

from vaebench.records.metrics import METRICS, metric_choice

CONTRACT = {
    "elbo": "nats/image",
    "reconstruction_error": "nats/image",
    "kl": "nats/image",
    "elbo_se": "nats/image",
    "mse": "pixel²",
    "sigma_fitted": "pixel",
    "bits_per_dim": "bits",
    "iw_bound": "nats/image",
    "iw_samples": "count",
    "iw_se": "nats/image",
    "iw_ess": "share",
    "posterior_gap": "nats/image",
    "active_units": "count",
    "mutual_information": "nats",
    "marginal_kl": "nats",
    "knn_accuracy": "share",
    "tsne_trustworthiness": "share",
    "train_seconds": "s",
    "step_ms_median": "ms",
    "step_ms_p95": "ms",
    "samples_per_second": "1/s",
    "pack_size": "count",
    "peak_memory_mib": "MiB",
}


@pytest.mark.parametrize(("name", "unit"), CONTRACT.items())
def test_every_column_of_the_contract_has_its_unit(name: str, unit: str) -> None:
    assert metric_choice(name).unit == unit


@pytest.mark.parametrize(
    ("name", "better"),
    [("elbo", "higher"), ("mse", "lower"), ("kl", None), ("elbo_train", "higher")],
)
def test_better_says_which_way(name: str, better: str | None) -> None:
    assert metric_choice(name).better == better


def test_every_entry_is_told_in_one_line() -> None:
    for name, entry in METRICS.items():
        assert entry.name == name
        assert entry.summary
        assert "\n" not in entry.summary


def test_training_twin_keeps_the_unit_and_says_the_split() -> None:
    twin = metric_choice("mse_train")
    assert (twin.name, twin.unit) == ("mse_train", "pixel²")
    assert "training split" in twin.summary


@pytest.mark.parametrize("name", ["elbow", "", "_train"])
def test_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="vaebench list metrics"):
        metric_choice(name)


def test_which_way_is_better_is_one_of_two_words() -> None:
    assert {metric.better for metric in METRICS.values()} == {"higher", "lower", None}
