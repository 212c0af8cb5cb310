"""Warnings about the results of a cell: violated bounds, and limits of their interpretation.

The bounds are those of `vaebench.truth.bounds` on the evaluated split. A result that violates one
is a bug of the program, and the warning says so.
"""

from __future__ import annotations

import math

from torch import Tensor

from vaebench.evaluation.bound import Scores
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.axes import DATASETS, LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.model.likelihoods import SCALE_FLOOR
from vaebench.records.schema import NOT_A_LIKELIHOOD, Note
from vaebench.truth.bounds import bce_ceiling, bce_floor, density_ceiling

_ROUNDING = 1e-4


def comparable_as(cell: Cell, levels: int | None) -> str:
    """Return whether the likelihood of a cell is a mass, a density, or neither for these data."""
    family = LIKELIHOODS[cell.likelihood]
    return family.kind if family.fits(levels) else NOT_A_LIKELIHOOD


def warnings_of(
    cell: Cell, train_pixels: Tensor, split: EvaluationSplit, scores: Scores
) -> list[Note]:
    """Return the warnings about the results of a cell.

    Args:
        cell: the design.
        train_pixels: pixels of the training images, ``(N, D)``.
        split: the images that were scored.
        scores: their scores.
    """
    error = float(scores.reconstruction_error.mean())
    warnings = []
    if comparable_as(cell, split.levels) == NOT_A_LIKELIHOOD:
        text = (
            f"Bernoulli on grey pixels is {NOT_A_LIKELIHOOD}: the cross entropy that many codes "
            "minimise, not comparable with any density or mass"
        )
        warnings.append(Note.of("not_a_likelihood", text))
    if cell.prior != "normal" and scores.kl is not None:
        text = (
            f"the KL to a {cell.prior} prior has no closed form: it is a mean over the draws of z, "
            "and no KL per dimension is recorded"
        )
        warnings.append(Note.of("monte_carlo_kl", text))
    if LIKELIHOODS[cell.likelihood].support == "binary":
        warnings += _bernoulli_bounds(train_pixels, split, error)
    else:
        warnings += _blind_squares(train_pixels, split, scores)
    if _unbounded(cell, split):
        text = (
            "a density on data with repeated exact values and no dequantisation: its value can "
            "grow without bound; compare bits_per_dim instead"
        )
        warnings.append(Note.of("unbounded_density", text))
    if scores.scale_squared is not None:
        warnings += _scale_bounds(cell, split, scores.scale_squared, error)
    return warnings


def _bernoulli_bounds(train_pixels: Tensor, split: EvaluationSplit, error: float) -> list[Note]:
    warnings = []
    pixels = split.pixels.numpy()
    floor = bce_floor(pixels)
    if error < floor * (1 - _ROUNDING):
        text = (
            f"BUG: a reconstruction error of {error:.3f} nats is below the entropy of the pixels, "
            f"{floor:.3f}; please report this"
        )
        warnings.append(Note.of("impossible_score", text))
    ceiling = bce_ceiling(train_pixels.numpy(), pixels)
    if math.isfinite(ceiling) and error > ceiling:
        text = (
            f"collapsed or hardly trained: the reconstruction error of {error:.3f} nats is above "
            f"that of a decoder which ignores the code, {ceiling:.3f}"
        )
        warnings.append(Note.of("collapsed", text))
    return warnings


def _blind_squares(train_pixels: Tensor, split: EvaluationSplit, scores: Scores) -> list[Note]:
    """Warn if the mean of the training images predicts the images better than the decoder."""
    blind = float((split.pixels.double() - train_pixels.double().mean(0)).square().mean())
    error = float(scores.squared_error.mean())
    if not error > blind:
        return []
    text = (
        f"collapsed or hardly trained: the mean squared error of {error:.4g} is above that of a "
        f"decoder which ignores the code, {blind:.4g}"
    )
    return [Note.of("collapsed", text)]


def _scale_bounds(
    cell: Cell, split: EvaluationSplit, scale_squared: float, error: float
) -> list[Note]:
    warnings = []
    sigma = math.sqrt(scale_squared)
    if not 0 < sigma < math.inf:
        text = f"the decoder's scale is {sigma:g}, which gives no density"
        return [Note.of("scale_without_density", text)]
    # With standardised columns a fitted scale is a different number for each column.
    own = cell.dataset not in DATASETS and split.levels is None
    several = own and cell.standardize and isinstance(cell.sigma, str)
    if isinstance(cell.sigma, str) and not several and sigma < 1.05 * SCALE_FLOOR:
        warnings.append(Note.of("scale_on_floor", f"sigma ended on its floor of {SCALE_FLOOR:g}"))
    if several or cell.sigma in ("per_pixel", "predicted"):
        return warnings
    log_peak = LIKELIHOODS[cell.likelihood].log_peak
    ceiling = density_ceiling(log_peak, split.pixels.shape[1], sigma)
    if -error > ceiling + _ROUNDING * abs(ceiling):
        text = (
            f"BUG: E_q log p(x|z) of {-error:.3f} nats is above the ceiling of a spherical "
            f"decoder with sigma {sigma:.4g}, {ceiling:.3f}; please report this"
        )
        warnings.append(Note.of("impossible_score", text))
    return warnings


def _unbounded(cell: Cell, split: EvaluationSplit) -> bool:
    """Return whether a density on repeated values is unbounded.

    It is if its scale is fitted, or fixed below half the distance between two grey levels.
    """
    if split.levels is None or split.dequantized or LIKELIHOODS[cell.likelihood].kind != "density":
        return False
    if not isinstance(cell.sigma, float | int):
        return True
    return cell.sigma < 0.5 / (split.levels - 1)
