"""Labels told from codes, and the t-SNE map in every corner case."""

import math

import numpy as np
import pytest
import torch
from scored_models import cell, made, real_split, source
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from vaebench.evaluation.embedding import codes_of, knn_accuracy, tsne_map
from vaebench.evaluation.split import EvaluationSplit
from vaebench.model.vae import VAE


def identity(latent_dim: int) -> VAE:
    """A model whose posterior mean is the image itself."""
    design = cell(dataset="linear-gaussian", latent_dim=latent_dim)
    weights = {"encoder.mean.weight": np.eye(latent_dim)}
    return made(design, (1, 1, latent_dim), weights, levels=None)


def clusters(count: int, latent_dim: int, seed: int = 80) -> EvaluationSplit:
    """Three tight clusters far apart, with their labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randn(count, latent_dim, generator=random)
    return real_split(5.0 * labels.unsqueeze(1) + 0.3 * noise, labels)


def test_codes_are_posterior_means_of_the_first_images() -> None:
    split = clusters(2_500, 2)
    codes = codes_of(identity(2), split, 1_700)
    np.testing.assert_allclose(codes, split.pixels[:1_700], rtol=1e-6)
    assert len(codes_of(identity(2), split, 9_999)) == 2_500


def test_labels_are_told_from_clusters_and_not_from_chance() -> None:
    metric = knn_accuracy(identity(2), clusters(90, 2), clusters(60, 2, seed=81))
    assert metric.value == 1.0
    assert metric.n == 60
    assert metric.se == 0
    assert knn_accuracy(identity(2), clusters(90, 2), clusters(2_100, 2, seed=81)).n == 2_000
    train = clusters(900, 2)
    shuffled = torch.randperm(900, generator=source())
    chance = real_split(train.pixels, (train.labels if train.labels is not None else 0)[shuffled])
    guessed = knn_accuracy(identity(2), chance, clusters(600, 2, seed=82))
    assert guessed.value == pytest.approx(1 / 3, abs=0.1)
    assert guessed.se == pytest.approx(math.sqrt(2 / 9 / 600), rel=0.2)


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        (real_split(torch.rand(9, 2)), clusters(9, 2), "the data have no labels"),
        (clusters(9, 2), real_split(torch.rand(9, 2)), "the data have no labels"),
        (clusters(4, 2), clusters(9, 2), "fewer than 5 training images"),
        (
            real_split(torch.full((9, 2), math.nan), torch.zeros(9, dtype=torch.int64)),
            clusters(9, 2),
            "the codes are not finite",
        ),
    ],
    ids=["no train labels", "no test labels", "few images", "nan"],
)
def test_labels_that_cannot_be_told_are_absent_with_the_reason(
    train: EvaluationSplit, test: EvaluationSplit, reason: str
) -> None:
    metric = knn_accuracy(identity(2), train, test)
    assert metric.value is None
    assert metric.reason == reason


def pixels_of(kind: str) -> Tensor:
    spread = torch.randn(40, 3, generator=source())
    if kind == "duplicates":
        return spread[:4].repeat(10, 1)
    if kind == "two places":
        return torch.tensor([[0.0, 0, 0], [1, 1, 1]]).repeat(20, 1)
    if kind == "nearly equal":
        return 1e-6 * spread
    return spread[: {"few": 12, "many": 40}[kind]]


@pytest.mark.parametrize("kind", ["few", "many", "duplicates", "two places", "nearly equal"])
def test_a_map_has_two_finite_dimensions(kind: str) -> None:
    split = real_split(pixels_of(kind), torch.arange(len(pixels_of(kind))))
    found = tsne_map(identity(3), split, 300)
    assert found.points is not None
    assert found.labels is not None
    assert found.points.shape == (len(split), 2)
    assert found.points.dtype == np.float32
    assert np.isfinite(found.points).all()
    assert found.labels.tolist() == list(range(len(split)))
    assert found.trust.value is not None
    assert 0 <= found.trust.value <= 1
    assert found.trust.n == len(split)


def test_codes_of_one_dimension_are_mapped_too() -> None:
    split = real_split(torch.randn(30, 1, generator=source()))
    found = tsne_map(identity(1), split, 300)
    assert found.points is not None
    assert found.points.shape == (30, 2)
    assert found.labels is None
    assert found.trust.value is not None
    assert found.trust.value > 0.8


def test_a_map_keeps_clusters_and_is_always_the_same() -> None:
    split = clusters(60, 4)
    first, again = (tsne_map(identity(4), split, 45) for _ in range(2))
    assert first.points is not None
    assert first.labels is not None
    assert len(first.points) == 45
    np.testing.assert_array_equal(first.points, again.points)
    centres = np.stack([first.points[first.labels == each].mean(0) for each in range(3)])
    nearest = np.argmin(((first.points[:, None] - centres) ** 2).sum(-1), axis=1)
    np.testing.assert_array_equal(nearest, first.labels)
    assert first.trust.value is not None
    assert first.trust.value > 0.8


def test_the_perplexity_is_30_or_a_third_of_the_other_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def fit_transform(self: TSNE, codes: np.ndarray) -> np.ndarray:
        seen.append(self.perplexity)
        return codes[:, :2]

    monkeypatch.setattr(TSNE, "fit_transform", fit_transform)
    for count in (12, 45, 88, 91, 94, 200):
        tsne_map(identity(4), clusters(count, 4), 300)
    assert seen == pytest.approx([11 / 3, 44 / 3, 29, 30, 30, 30])


@pytest.mark.parametrize(
    ("pixels", "most", "reason"),
    [
        (torch.rand(50, 2), 0, "not requested"),
        (torch.rand(11, 2), 300, "11 points are too few"),
        (torch.rand(50, 2), 11, "11 points are too few"),
        (torch.full((50, 2), 0.3), 300, "the posterior has collapsed"),
        (torch.full((50, 2), math.nan), 300, "not finite"),
    ],
    ids=["none", "few", "few asked for", "collapsed", "nan"],
)
def test_a_map_that_cannot_be_made_is_absent_with_the_reason(
    pixels: Tensor, most: int, reason: str
) -> None:
    found = tsne_map(identity(2), real_split(pixels), most)
    assert found.points is None
    assert found.labels is None
    assert found.trust.value is None
    assert reason in str(found.trust.reason)


def neighbour_probabilities(codes: np.ndarray, perplexity: float) -> np.ndarray:
    """P of van der Maaten and Hinton 2008, section 2, each bandwidth by bisection."""
    distances = ((codes[:, None] - codes[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    given = np.zeros_like(distances)
    for i, row in enumerate(distances):
        low, high = -20.0, 20.0
        for _ in range(80):
            middle = (low + high) / 2
            weights = np.exp(-(row - row.min()) * math.exp(middle))
            share = weights / weights.sum()
            entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
            low, high = (middle, high) if entropy > math.log(perplexity) else (low, middle)
        given[i] = share
    return (given + given.T) / (2 * len(codes))


def divergence(p: np.ndarray, points: np.ndarray) -> float:
    """KL(P || Q) in nats, Q by Student's t of one degree of freedom on the map."""
    q = 1 / (1 + ((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    used = p > 0
    return float((p[used] * np.log(p[used] / q[used])).sum())


@pytest.mark.parametrize("latent_dim", [2, 8, 64])
def test_a_map_diverges_no_more_than_one_of_scikit_learns_1000_iterations(latent_dim: int) -> None:
    pixels = load_digits().data[:300]
    codes = PCA(latent_dim, random_state=0).fit_transform(pixels) / 10
    split = real_split(torch.from_numpy(codes).float())
    drawn = tsne_map(identity(latent_dim), split, 300).points
    assert drawn is not None
    default = TSNE(perplexity=30, init="pca", random_state=0).fit_transform(split.pixels.numpy())
    p = neighbour_probabilities(codes, 30)
    ours, theirs = (divergence(p, points.astype(np.float64)) for points in (drawn, default))
    assert 0 < ours < 1.02 * theirs
