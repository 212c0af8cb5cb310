"""Findings about what models generate: autoencoders, sparse codes, in-between digits.

Samples are judged by the images that records keep (36 prior samples a cell) and by two fixed
yardsticks made of scikit-learn's own digits: a classifier's entropy and the nearest real image.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from vaebench.findings.evidence import (
    Arrays,
    Evidence,
    by_seed,
    each_seed,
    over_seeds,
    rank_correlation,
    select,
    values_of,
)
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats

__all__ = ["METHODS", "class_entropy", "distance_to_data"]

_SPARSITIES = [0.0, 1.0, 10.0, 100.0]


@cache
def _digits() -> tuple[Floats, Floats]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.asarray(bunch.data, np.float64) / 16, np.asarray(bunch.target, np.float64)


@cache
def _classifier() -> Callable[[Floats], Floats]:
    from sklearn.linear_model import LogisticRegression

    images, labels = _digits()
    fitted = LogisticRegression(C=1.0, max_iter=300).fit(images, labels)
    return lambda pixels: np.asarray(fitted.predict_proba(pixels), np.float64)


def _pixels(images: ArrayLike) -> Floats:
    """uint8 images (..., 8, 8) as pixels (n, 64) in [0, 1]."""
    array = np.asarray(images, np.float64) / 255
    if array.shape[-2:] != (8, 8):
        raise Untested(f"the yardstick is of 8×8 digits, and these images are {array.shape[-2:]}")
    return array.reshape(-1, 64)


def class_entropy(images: ArrayLike) -> Floats:
    """Entropy in nats of a logistic regression's ten classes for uint8 images (n, 8, 8): (n,)."""
    shares = _classifier()(_pixels(images))
    return np.asarray(stats.entropy(shares, axis=1))


def distance_to_data(images: ArrayLike) -> float:
    """Mean root mean square distance in pixels of uint8 images (n, 8, 8) to the nearest digit."""
    pixels, real = _pixels(images), _digits()[0]
    squares = np.sum(pixels**2, axis=1)[:, None] + np.sum(real**2, axis=1) - 2 * pixels @ real.T
    return float(np.mean(np.sqrt(np.maximum(squares.min(axis=1), 0) / 64)))


def _kept(evidence: Evidence, rows: pd.DataFrame, name: str) -> Arrays:
    kept = evidence.arrays(str(rows["cell_id"].iloc[0]))
    if name not in kept:
        raise Untested(f"the records hold no {name.replace('_', ' ')}")
    return kept


def _sample_distance(evidence: Evidence, **axes: object) -> "pd.Series[float]":
    return each_seed(
        select(evidence.frame, **axes),
        lambda rows: distance_to_data(_kept(evidence, rows, "prior_samples")["prior_samples"]),
    )


def _autoencoder_cells(budget: Budget) -> tuple[Cell, ...]:
    del budget  # the yardsticks are of digits, so both budgets run the same cells
    return cells_of(
        "quick", likelihood="gaussian", sigma="learned", posterior=["diagonal", "delta"]
    )


def _reconstructs_better(evidence: Evidence) -> Statistic:
    vae = by_seed(evidence.frame, "mse", posterior="diagonal")
    return over_seeds((vae / by_seed(evidence.frame, "mse", posterior="delta")).dropna(), "ratio")


def _samples_off(evidence: Evidence) -> Statistic:
    ratio = _sample_distance(evidence, posterior="delta") / _sample_distance(
        evidence, posterior="diagonal"
    )
    return over_seeds(ratio.dropna(), "ratio")


def _per_pixel_cells(budget: Budget) -> tuple[Cell, ...]:
    del budget
    return cells_of("quick", likelihood="gaussian", sigma=["learned", "per_pixel"])


def _per_pixel_samples(evidence: Evidence) -> Statistic:
    ratio = _sample_distance(evidence, sigma="per_pixel") / _sample_distance(
        evidence, sigma="learned"
    )
    return over_seeds(ratio.dropna(), "ratio")


def _sparse_cells(budget: Budget) -> tuple[Cell, ...]:
    return cells_of(
        budget,
        likelihood="gaussian",
        sigma="learned",
        posterior="delta",
        sparsity=_SPARSITIES,
        seed=[0, 1, 2],
    )


def _sparsity_rank(evidence: Evidence, metric: str) -> Statistic:
    table = values_of(evidence.frame, "sparsity", metric, _SPARSITIES)
    return rank_correlation(table)


def _sparsity_empties(evidence: Evidence) -> Statistic:
    table = values_of(evidence.frame, "sparsity", "nonzero_codes", _SPARSITIES)
    return over_seeds(table[_SPARSITIES[-1]] - table[_SPARSITIES[0]], "entries of a code")


def _sparsity_costs(evidence: Evidence) -> Statistic:
    return _sparsity_rank(evidence, "mse")


def _in_between_samples(evidence: Evidence) -> Statistic:
    """Mean class entropy of prior samples minus that of reconstructions, by seed.

    Reconstructions are as blurred as samples, so blur alone does not make the difference.
    """

    def excess(rows: pd.DataFrame) -> float:
        samples, control = (
            class_entropy(_kept(evidence, rows, name)[name]).mean()
            for name in ("prior_samples", "reconstructions")
        )
        return float(samples - control)

    return over_seeds(each_seed(evidence.frame, excess), "nats")


def _in_between_lines(evidence: Evidence) -> Statistic:
    """Mean class entropy in the middle of interpolations minus that at their ends."""

    def excess(rows: pd.DataFrame) -> float:
        lines = np.asarray(_kept(evidence, rows, "interpolations")["interpolations"])
        entropy = class_entropy(lines).reshape(len(lines), -1)
        ends = (entropy[:, 0] + entropy[:, -1]) / 2
        return float(np.mean(entropy[:, entropy.shape[1] // 2] - ends))

    return over_seeds(each_seed(evidence.frame, excess), "nats")


def _plain_cells(budget: Budget) -> tuple[Cell, ...]:
    del budget
    return cells_of("quick", likelihood="gaussian", sigma="learned")


METHODS: dict[str, Method] = {
    "delta-reconstructs-better": Method(_reconstructs_better, _autoencoder_cells),
    "delta-samples-worse": Method(_samples_off, _autoencoder_cells),
    "per-pixel-samples-worse": Method(_per_pixel_samples, _per_pixel_cells),
    "sparse-lambda-empties": Method(_sparsity_empties, _sparse_cells),
    "sparse-lambda-costs": Method(_sparsity_costs, _sparse_cells),
    "samples-in-between": Method(_in_between_samples, _plain_cells),
    "lines-in-between": Method(_in_between_lines, _plain_cells),
}
"""How each finding of this module is measured."""
