"""Nearest-neighbour accuracy and t-SNE map of the codes, with scikit-learn.

Codes are posterior means. The number of images is limited; it is the ``n`` of the metric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from vaebench.evaluation.split import EvaluationSplit
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric, Note

Codes = NDArray[np.float32]
Labels = NDArray[np.int64]

NEIGHBOURS = 5
_FITTED_MOST, _PREDICTED_MOST = 10_000, 2_000
_PERPLEXITY = 30.0
_EXAGGERATION, _ITERATIONS = 4.0, 400
_SPREAD_LEAST = 1e-10


@torch.no_grad()
def codes_of(vae: VAE, split: EvaluationSplit, most: int) -> Codes:
    """Return the posterior means of the first ``most`` images of a split, ``(n, Z)``."""
    parts = []
    for rows in split.batches(max(split.pixels.shape[1], vae.latent_dim)):
        if rows.start >= most:
            break
        x = split.pixels[rows.start : min(rows.stop, most)].to(vae.prior_scale.device)
        parts.append(vae.encode(x.unsqueeze(0)).mean[0].float().cpu())
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def knn_accuracy(vae: VAE, train: EvaluationSplit, test: EvaluationSplit) -> Metric:
    """Predict the labels of up to 2,000 test images from the 5 nearest of 10,000 training codes."""
    if train.labels is None or test.labels is None:
        return Metric.absent("knn_accuracy", Note.of("no_labels", "the data have no labels"))
    fitted = codes_of(vae, train, _FITTED_MOST)
    if len(fitted) < NEIGHBOURS:
        reason = Note.of("too_few_images", f"fewer than {NEIGHBOURS} training images")
        return Metric.absent("knn_accuracy", reason)
    predicted = codes_of(vae, test, _PREDICTED_MOST)
    if not (np.isfinite(fitted).all() and np.isfinite(predicted).all()):
        return Metric.absent("knn_accuracy", Note.of("not_finite", "the codes are not finite"))
    # In more than a few dimensions a tree is slower than computing all distances.
    classifier = KNeighborsClassifier(NEIGHBOURS, algorithm="brute")
    classifier.fit(fitted, train.labels[: len(fitted)].numpy())
    right = classifier.predict(predicted) == test.labels[: len(predicted)].numpy()
    share, count = float(right.mean()), len(right)
    se = float(np.sqrt(share * (1 - share) / count))
    return Metric.measured("knn_accuracy", share, n=count, se=se)


@dataclass(frozen=True)
class Map:
    """A t-SNE map: ``points (n, 2)``, ``labels (n,)`` or None, and its trustworthiness."""

    points: Codes | None
    labels: Labels | None
    trust: Metric


def _no_map(reason: Note) -> Map:
    return Map(None, None, Metric.absent("tsne_trustworthiness", reason))


def tsne_map(vae: VAE, test: EvaluationSplit, most: int) -> Map:
    """Return the map of the first ``most`` test codes, or the reason why there is none.

    The perplexity is 30, or a third of the number of points if there are fewer than 91 (van der
    Maaten and Hinton 2008 recommend a value well below that number). The early exaggeration is 4
    as in that paper; with scikit-learn's 12 a map needs more than twice as many iterations for the
    same divergence. The random state is fixed.
    """
    name = "tsne_trustworthiness"
    if most == 0:
        return _no_map(Note.of("not_requested", "not requested: tsne_points = 0"))
    codes = codes_of(vae, test, most)
    count = len(codes)
    if count <= 2 * NEIGHBOURS + 1:
        return _no_map(Note.of("too_few_images", f"{count} points are too few for a map"))
    if not np.isfinite(codes).all():
        return _no_map(Note.of("not_finite", "the codes are not finite"))
    spread = float(codes.astype(np.float64).std(0).max())
    if spread < _SPREAD_LEAST:
        return _no_map(Note.of("collapsed", "the posterior has collapsed: one code for all"))
    # PCA initialises the map in two dimensions, which codes of one dimension do not have.
    init = "pca" if codes.shape[1] > 1 else "random"
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    points = TSNE(
        perplexity=perplexity,
        early_exaggeration=_EXAGGERATION,
        max_iter=_ITERATIONS,
        init=init,
        random_state=0,
    ).fit_transform(codes)
    trust = float(trustworthiness(codes, points, n_neighbors=NEIGHBOURS))
    labels = None if test.labels is None else test.labels[:count].numpy()
    return Map(points.astype(np.float32), labels, Metric.measured(name, trust, n=count))
