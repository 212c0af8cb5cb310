"""The numbers that the README and the reference page state follow from the committed records."""

import json
import math
import re
from pathlib import Path

import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "reference-results.md").read_text(encoding="utf-8")


def values(store: str, metric: str, **axes: object) -> list[float]:
    """The values of a metric, read from the JSON files without vaebench."""
    found = []
    for path in sorted((ROOT / "results" / "reference" / store / "cells").glob("*/record.json")):
        record = json.loads(path.read_bytes())
        if all(record["cell"][axis] == value for axis, value in axes.items()):
            found.append(record["metrics"][metric]["value"])
    return found


def interval(values: list[float], digits: int = 1) -> str:
    """Mean and half the 95 % Student t interval, as the documents write it."""
    n = len(values)
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n)
    return f"{mean:.{digits}f} ± {half:.{digits}f}".replace("-", "−")


def latent(metric: str, latent_dim: int, epochs: int = 6) -> list[float]:
    found = values(
        "mnist-latent-dim",
        metric,
        latent_dim=latent_dim,
        epochs=epochs,
        binarization="dynamic",
        learning_rate=1e-3,
    )
    assert len(found) == 3
    return found


@pytest.mark.parametrize("latent_dim", [1, 32, 1000, 10_000])
def test_the_headline_of_the_readme(latent_dim: int) -> None:
    assert interval(latent("elbo", latent_dim)) in " ".join(README.split())


@pytest.mark.parametrize("latent_dim", [1, 4, 32, 100, 1000, 10_000])
def test_the_elbos_of_the_latent_dimension(latent_dim: int) -> None:
    assert interval(latent("elbo", latent_dim)) in RESULTS


@pytest.mark.parametrize("latent_dim", [32, 10_000])
def test_the_rates_of_the_latent_dimension(latent_dim: int) -> None:
    assert interval(latent("kl", latent_dim)) in RESULTS


FAMILIES: dict[str, dict[str, object]] = {
    "categorical": {"likelihood": "categorical"},
    "Gaussian, sigma per pixel": {"likelihood": "gaussian", "sigma": "per_pixel"},
    "Gaussian, one learned sigma": {"likelihood": "gaussian", "sigma": "learned"},
    "Gaussian, sigma 0.1": {"likelihood": "gaussian", "sigma": 0.1},
    "continuous Bernoulli": {"likelihood": "continuous_bernoulli"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_of_bits_per_dimension(name: str) -> None:
    (row,) = re.findall(rf"^\| {re.escape(name)} \|.*$", RESULTS, re.MULTILINE)
    _, _, digits, mnist, _ = (cell.strip() for cell in row.split("|"))
    measured = [
        interval(values("likelihood", "bits_per_dim", dataset=dataset, **FAMILIES[name]), 2)
        for dataset in ("digits", "mnist")
    ]
    assert measured == [digits, mnist]


def test_the_table_of_external_models() -> None:
    from benchmarks.external.table import table

    assert table(ROOT / "results" / "reference" / "external") in RESULTS


RECIPES: list[dict[str, object]] = [
    {"hidden": [128]},
    {"beta": 0.5},
    {"beta_schedule": "linear:10"},
    {"beta_schedule": "cyclical:4"},
    {"prior": "vamp"},
    {"prior": "mixture"},
    {"free_bits": 0.25},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_gains_of_the_recipes(recipe: dict[str, object]) -> None:
    plain = {"hidden": [128] * 4, "beta": 1.0, "beta_schedule": "constant"}
    plain |= {"free_bits": 0.0, "prior": "normal"}
    levels, gains = [], []
    for metric in ("elbo", "kl"):
        old, new = (
            [values("collapse", metric, seed=seed, **axes)[0] for seed in range(3)]
            for axes in (plain, plain | recipe)
        )
        levels.append(interval(new))
        gains.append(interval([b - a for a, b in zip(old, new, strict=True)]))
    assert f"| {' | '.join(levels + gains)} |" in RESULTS
