"""Findings about what models generate: autoencoders, sparse codes, in-between digits.

Samples are judged by the images that records keep (36 prior samples a cell) and by two fixed
yardsticks made of scikit-learn's own digits: a classifier's entropy and the nearest real image.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vaebench.findings.evidence import Evidence, over_seeds, rank_correlation
from vaebench.findings.finding import Method
from vaebench.findings.settings import Budget, cells_of
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats


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


def _learned_sigma(budget: Budget, **axes: Any) -> tuple[Cell, ...]:
    return cells_of(budget, likelihood="gaussian", **{"sigma": "learned", **axes})


def _of_digits(**axes: Any) -> Callable[[Budget], tuple[Cell, ...]]:
    """The cells of a yardstick that is of digits: both budgets run the same."""
    return lambda _: _learned_sigma("quick", **axes)


def _sparse_cells(budget: Budget) -> tuple[Cell, ...]:
    lambdas = [0.0, 1.0, 10.0, 100.0]
    return _learned_sigma(budget, posterior="delta", sparsity=lambdas, seed=[0, 1, 2])


def _reconstructs_better(evidence: Evidence) -> Statistic:
    ratio = evidence.by_seed("mse", posterior="diagonal") / evidence.by_seed(
        "mse", posterior="delta"
    )
    return over_seeds(ratio.dropna(), "ratio")


def _samples_off(axis: str, worse: str, better: str) -> Callable[[Evidence], Statistic]:
    """Distance of the samples to the data: that of one value of an axis over that of another."""

    def statistic(evidence: Evidence) -> Statistic:
        def distance(value: str) -> "pd.Series[float]":
            return evidence.where(**{axis: value}).each_cell(
                lambda _, samples: distance_to_data(samples), "prior_samples"
            )

        return over_seeds((distance(worse) / distance(better)).dropna(), "ratio")

    return statistic


def _sparsity_empties(evidence: Evidence) -> Statistic:
    table = evidence.table("sparsity", "nonzero_codes")
    return over_seeds(table.iloc[:, -1] - table.iloc[:, 0], "entries of a code")


def _in_between_samples(evidence: Evidence) -> Statistic:
    """Mean class entropy of prior samples minus that of reconstructions, by seed.

    Reconstructions are as blurred as samples, so blur alone does not make the difference.
    """

    def excess(_: object, samples: NDArray[Any], control: NDArray[Any]) -> float:
        return float(class_entropy(samples).mean() - class_entropy(control).mean())

    return over_seeds(evidence.each_cell(excess, "prior_samples", "reconstructions"), "nats")


def _in_between_lines(evidence: Evidence) -> Statistic:
    """Mean class entropy in the middle of interpolations minus that at their ends."""

    def excess(_: object, lines: NDArray[Any]) -> float:
        entropy = class_entropy(lines).reshape(len(lines), -1)
        ends = (entropy[:, 0] + entropy[:, -1]) / 2
        return float(np.mean(entropy[:, entropy.shape[1] // 2] - ends))

    return over_seeds(evidence.each_cell(excess, "interpolations"), "nats")


_AUTOENCODERS = _of_digits(posterior=["diagonal", "delta"])

METHODS: dict[str, Method] = {
    "delta-reconstructs-better": Method(_reconstructs_better, _AUTOENCODERS),
    "delta-samples-worse": Method(_samples_off("posterior", "delta", "diagonal"), _AUTOENCODERS),
    "per-pixel-samples-worse": Method(
        _samples_off("sigma", "per_pixel", "learned"), _of_digits(sigma=["learned", "per_pixel"])
    ),
    "sparse-lambda-empties": Method(_sparsity_empties, _sparse_cells),
    "sparse-lambda-costs": Method(
        lambda e: rank_correlation(e.table("sparsity", "mse")), _sparse_cells
    ),
    "samples-in-between": Method(_in_between_samples, _of_digits()),
    "lines-in-between": Method(_in_between_lines, _of_digits()),
}
"""How each finding of this module is measured; `e` is its evidence."""
