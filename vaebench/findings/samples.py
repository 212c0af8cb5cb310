"""Findings about generated images: autoencoders, sparse codes, samples between two digits.

The statistics are computed from the images in the records (36 prior samples per cell). Two fixed
references from the digits of scikit-learn are used: the entropy of a classifier, and the distance
to the nearest real image.
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
from vaebench.findings.settings import Budget, gaussian_cells
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.cell import Cell
from vaebench.truth.images import Floats


@cache
def _digits() -> tuple[Floats, Floats]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.asarray(bunch.data, np.float64) / 16, np.asarray(bunch.target, np.float64)


@cache
def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, max_iter=300).fit(*_digits())


def _pixels(images: ArrayLike) -> Floats:
    """Convert uint8 images ``(..., 8, 8)`` to pixels ``(n, 64)`` in [0, 1]."""
    array = np.asarray(images, np.float64) / 255
    if array.shape[-2:] != (8, 8):
        raise Untested(f"the images must be 8×8 digits; they have the shape {array.shape[-2:]}")
    return array.reshape(-1, 64)


def class_entropy(images: ArrayLike) -> Floats:
    """Return the entropy of a logistic regression over the ten digits, ``(n,)`` in nats.

    Args:
        images: uint8 images, ``(n, 8, 8)``.
    """
    return np.asarray(stats.entropy(_classifier().predict_proba(_pixels(images)), axis=1))


def distance_to_data(images: ArrayLike) -> float:
    """Return the root-mean-square distance to the nearest real digit, a mean over images.

    Args:
        images: uint8 images, ``(n, 8, 8)``; the distance is in pixel units, which range to 1.
    """
    pixels, real = _pixels(images), _digits()[0]
    squares = np.sum(pixels**2, axis=1)[:, None] + np.sum(real**2, axis=1) - 2 * pixels @ real.T
    return float(np.mean(np.sqrt(np.maximum(squares.min(axis=1), 0) / 64)))


def _of_digits(**axes: Any) -> Callable[[Budget], tuple[Cell, ...]]:
    """Return the cells of a test on digits, which are the same for both budgets."""
    return lambda _: gaussian_cells("quick", **axes)


def _sparse_cells(budget: Budget) -> tuple[Cell, ...]:
    lambdas = [0.0, 1.0, 10.0, 100.0]
    return gaussian_cells(budget, posterior="delta", sparsity=lambdas, seed=[0, 1, 2])


def _reconstructs_better(evidence: Evidence) -> Statistic:
    vae, twin = (evidence.by_seed("mse", posterior=name) for name in ("diagonal", "delta"))
    return over_seeds((vae / twin).dropna(), "ratio")


def _samples_off(axis: str, worse: str, better: str) -> Callable[[Evidence], Statistic]:
    """Return the distance of prior samples to the data: the value `worse` divided by `better`."""

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
    """Mean class entropy of prior samples minus mean class entropy of reconstructions.

    Reconstructions are as blurred as samples, so blur alone cannot explain the difference.
    """

    def excess(_: object, samples: NDArray[Any], control: NDArray[Any]) -> float:
        return float(class_entropy(samples).mean() - class_entropy(control).mean())

    return over_seeds(evidence.each_cell(excess, "prior_samples", "reconstructions"), "nats")


def _in_between_lines(evidence: Evidence) -> Statistic:
    """Mean class entropy in the middle of interpolations minus mean class entropy at their ends."""

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
"""The method of each finding in this module; `e` is the evidence."""
