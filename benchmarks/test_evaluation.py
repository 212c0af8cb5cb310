"""Times evaluation: bounds, bits per dimension, pictures, t-SNE, nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.models import cell, split_of, vae_of
from vaebench.evaluation.bound import score
from vaebench.evaluation.embedding import knn_accuracy, tsne_map
from vaebench.evaluation.importance import log_weights
from vaebench.evaluation.pictures import pictures

_IMAGES = 1000


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_bound(benchmark: Any) -> None:
    design = cell()
    vae, split = vae_of(design).eval(), split_of(design, _IMAGES)
    scores = benchmark(lambda: score(vae, design, split, _generator()))
    assert scores.reconstruction_error.shape == (_IMAGES,)


def test_bits_per_dimension_of_a_density(benchmark: Any) -> None:
    """The likelihood integrated over each grey level, in float64."""
    design = cell(binarization="none", likelihood="gaussian", sigma="learned")
    vae, split = vae_of(design).eval(), split_of(design, _IMAGES)
    scores = benchmark(lambda: score(vae, design, split, _generator()))
    assert scores.discrete_error is not None


def test_importance_weighted_bound(benchmark: Any) -> None:
    design = cell()
    vae, split = vae_of(design).eval(), split_of(design, 50)
    weights = benchmark.pedantic(
        lambda: log_weights(vae, split.pixels, 100, _generator()), rounds=3, warmup_rounds=1
    )
    assert weights.shape[0] * weights.shape[1] == 50 * 100


def test_samples_and_other_pictures(benchmark: Any) -> None:
    design = cell()
    vae, split = vae_of(design).eval(), split_of(design, _IMAGES)
    kl = score(vae, design, split, _generator()).kl_per_dimension
    made = benchmark(lambda: pictures(vae, split, kl, _generator()))
    assert "prior_samples" in made


def test_tsne_of_300_points(benchmark: Any) -> None:
    design = cell()
    vae, split = vae_of(design).eval(), split_of(design, 300)
    drawn = benchmark.pedantic(lambda: tsne_map(vae, split, 300), rounds=3, warmup_rounds=1)
    assert np.asarray(drawn.points).shape == (300, 2)


def test_neighbours(benchmark: Any) -> None:
    design = cell()
    vae, split = vae_of(design).eval(), split_of(design, _IMAGES)
    accuracy = benchmark.pedantic(lambda: knn_accuracy(vae, split, split), rounds=3)
    assert 0 <= accuracy.value <= 1
