"""Evaluate one trained cell: all metrics, arrays and warnings.

A cell is one training: one value of every design choice. Models are packs, groups of cells that are
trained together as one program; evaluation uses a pack of one cell.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.evaluation.annealing import Annealing, annealed_bound
from vaebench.evaluation.bound import (
    Scores,
    bound_metrics,
    mean_and_se,
    score,
    selection_metrics,
)
from vaebench.evaluation.embedding import codes_of, knn_accuracy, tsne_map
from vaebench.evaluation.guards import warnings_of
from vaebench.evaluation.importance import (
    importance_bound,
    importance_metrics,
    log_weights,
    why_too_few_samples,
)
from vaebench.evaluation.information import information_metrics
from vaebench.evaluation.linear import exact_log_likelihood, has_closed_form
from vaebench.evaluation.local import gap_metrics
from vaebench.evaluation.pictures import column_values, map_images, pictures, small_decoder
from vaebench.evaluation.spectrum import SPECTRUM_IMAGES, code_spectrum, effective_rank
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric, Note


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, arrays by name, and warnings about them."""

    metrics: dict[str, Metric]
    arrays: dict[str, NDArray[np.generic]]
    warnings: list[Note]


@torch.no_grad()
def fit_scale(vae: VAE, train: EvaluationSplit, generator: torch.Generator) -> None:
    """Set an ``optimal`` sigma to the scale of highest likelihood on the whole training split.

    The residuals are those of one sampled code per image, as in training.
    """
    if vae.sigma_kind != "optimal":
        return
    device = vae.prior_scale.device
    residuals = []
    for rows in train.batches(max(train.pixels.shape[1], vae.latent_dim)):
        x = train.pixels[rows].to(device).unsqueeze(0)
        noise = torch.randn((1, 1, x.shape[1], vae.latent_dim), generator=generator).to(x)
        mean = vae.decode(vae.encode(x).rsample(noise)).mean
        residuals.append((x.unsqueeze(1) - mean).cpu())
    vae.fit_scale(torch.cat(residuals, 2))


def evaluate(
    vae: VAE,
    cell: Cell,
    train: EvaluationSplit,
    test: EvaluationSplit,
    generator: torch.Generator,
    valid: EvaluationSplit | None = None,
) -> Evaluation:
    """Measure a trained cell (a pack of one) on its test split.

    Args:
        vae: the trained model; an ``optimal`` sigma is set here, from the training split.
        train: the training split, on which the scale and knn_accuracy are fitted.
        test: the images to evaluate.
        generator: source of all random numbers, on the CPU.
        valid: images for choosing a design; half of ``test`` if there are none.

    Raises:
        ValueError: if the test split is empty.
    """
    begin = time.perf_counter()
    vae.eval()
    fit_scale(vae, train, generator)
    scores = score(vae, cell, test, generator)
    metrics = bound_metrics(cell, test, scores)
    metrics |= _on_training_images(vae, cell, train, generator)
    arrays = _summaries(scores)
    importance = _importance(vae, cell, test, scores, generator)
    metrics, arrays = metrics | importance.metrics, arrays | importance.arrays
    if scores.kl is not None:
        metrics |= information_metrics(vae, test, scores.kl, generator)
    spectrum = code_spectrum(codes_of(vae, test, SPECTRUM_IMAGES))
    metrics["effective_rank"] = effective_rank(spectrum, min(len(test), SPECTRUM_IMAGES))
    arrays["code_spectrum"] = spectrum.astype(np.float32)
    metrics["knn_accuracy"] = knn_accuracy(vae, train, test)
    has_pictures = test.levels is not None and vae.image_shape[1] > 1  # vectors have none
    before_map = time.perf_counter()
    embedded = tsne_map(vae, test, cell.tsne_points)
    map_seconds = time.perf_counter() - before_map
    metrics["tsne_trustworthiness"] = embedded.trust
    if embedded.points is None:
        metrics["tsne_seconds"] = Metric.absent("tsne_seconds", embedded.trust.why)
    else:
        metrics["tsne_seconds"] = Metric.measured("tsne_seconds", map_seconds)
        arrays["tsne"] = embedded.points
        if embedded.labels is not None:
            arrays["tsne_labels"] = embedded.labels
            if test.classes:
                arrays["tsne_classes"] = np.array(test.classes)
        if cell.seed == 0 and has_pictures:
            arrays |= map_images(vae, test, len(embedded.points))
    if has_pictures:
        ranks = scores.code_variance if scores.kl_per_dimension is None else scores.kl_per_dimension
        arrays |= pictures(vae, test, None if scores.kl is None else ranks, generator)
        if cell.seed == 0:
            arrays |= small_decoder(vae)
    arrays |= column_values(vae, test)
    # Optional measurements come last, so that they do not change the noise of the others.
    chosen_by = None if valid is None else (valid, score(vae, cell, valid, generator))
    metrics |= selection_metrics(cell, (test, scores), chosen_by)
    if cell.local_images:
        metrics |= gap_metrics(vae, test.pixels[: cell.local_images], generator)
    metrics |= _annealed(vae, cell, test, arrays.get("iw_bound_by_image"), generator)
    has_density = scores.scale_squared is not None and 0 < scores.scale_squared < math.inf
    if has_closed_form(cell) and has_density:
        exact = exact_log_likelihood(vae, test.pixels)
        metrics["exact_log_likelihood"] = mean_and_se("exact_log_likelihood", exact)
    warnings = [*warnings_of(cell, train.pixels, test, scores), *importance.warnings]
    seconds = time.perf_counter() - begin
    metrics["evaluation_seconds"] = Metric.measured("evaluation_seconds", seconds)
    return Evaluation(metrics, arrays, warnings)


TRAIN_IMAGES = 5_000
"""The largest number of training images for the metrics ending in ``_train``."""


def _on_training_images(
    vae: VAE, cell: Cell, train: EvaluationSplit, generator: torch.Generator
) -> dict[str, Metric]:
    """Return the terms of the bound on the first 5,000 training images, to show overfitting."""
    subset = train.first(TRAIN_IMAGES)
    metrics = bound_metrics(cell, subset, score(vae, cell, subset, generator))
    return {f"{name}_train": metrics[name] for name in ("elbo", "reconstruction_error", "kl")}


def _summaries(scores: Scores) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {
        "posterior_mean_variance": _float32(scores.code_variance),
        "aggregate_second_moment": _float32(scores.second_moment),
    }
    if scores.kl_per_dimension is not None:
        arrays["kl_per_dimension"] = _float32(scores.kl_per_dimension)
    return arrays


def _float32(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values.numpy(), dtype=np.float32)


def _importance(
    vae: VAE, cell: Cell, test: EvaluationSplit, scores: Scores, generator: torch.Generator
) -> Evaluation:
    """Measure the importance-weighted bound, its curve over k, and its gap to the ELBO."""
    if cell.iw_samples == 0 or scores.kl is None:
        reason = (
            Note.of("not_requested", "not requested: iw_samples = 0")
            if cell.iw_samples == 0
            else Note.of("no_density", "a delta posterior has no density to weigh with")
        )
        names = ("iw_bound", "iw_samples", "iw_se", "iw_ess", "posterior_gap")
        return Evaluation({name: Metric.absent(name, reason) for name in names}, {}, [])
    images = min(cell.iw_images, len(test))
    weights = log_weights(vae, test.pixels[:images], cell.iw_samples, generator)
    result = importance_bound(weights)
    elbo = -(scores.reconstruction_error + scores.kl)[:images]
    metrics = importance_metrics(result, cell.iw_samples)
    metrics["posterior_gap"] = mean_and_se("posterior_gap", result.bound - elbo)
    curve = torch.stack([values.mean() for values in result.curve.values()])
    arrays: dict[str, NDArray[np.generic]] = {
        "iw_curve_k": np.array(list(result.curve), dtype=np.int64),
        "iw_curve": _float32(curve),
        "iw_bound_by_image": _float32(result.bound),
    }
    lack = why_too_few_samples(result)
    text = f"iw_samples is too small: {lack}"
    warnings = [] if lack is None else [Note.of("too_few_samples", text)]
    return Evaluation(metrics, arrays, warnings)


def _annealed(
    vae: VAE,
    cell: Cell,
    test: EvaluationSplit,
    iw_bounds: NDArray[np.generic] | None,
    generator: torch.Generator,
) -> dict[str, Metric]:
    """Measure the bound by annealed importance sampling, and its difference to iw_bound."""
    if cell.ais_images == 0:
        return {}
    pixels = test.pixels[: cell.ais_images]
    bound = annealed_bound(vae, pixels, Annealing(), generator).bound
    metrics = {"ais_bound": mean_and_se("ais_bound", bound)}
    if iw_bounds is None or len(iw_bounds) < len(pixels):
        text = "iw_samples and iw_images give no iw_bound of all these images"
        reason = Note.of("not_requested", text)
        return metrics | {"iw_shortfall": Metric.absent("iw_shortfall", reason)}
    missed = bound - torch.from_numpy(iw_bounds[: len(pixels)])
    return metrics | {"iw_shortfall": mean_and_se("iw_shortfall", missed)}
