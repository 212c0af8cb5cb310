"""Linear models whose log p(x) is known, and encoders that are not their best."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebench.data.sources import load
from vaebench.truth.ppca import LinearVAE, Spectrum, fit

TRAIN_IMAGES = 4_000


def synthetic(length=0.95):
    """D = 50, k = 8, sigma^2 = 0.05; W is not axis-aligned.

    At length 0.95 KL(p(z|x) || p(z)) is about 28 nats, at 0.3 about 18.
    """
    rng = np.random.default_rng(0)
    W = length * rng.standard_normal((50, 8))
    return LinearVAE.with_optimal_encoder(W, rng.standard_normal(50), math.sqrt(0.05))


def axis_aligned(model):
    """The same likelihood, turned so that the best diagonal encoder is the exact posterior."""
    _, _, rows = np.linalg.svd(model.W, full_matrices=False)
    return model.rotated(rows.T)


def turned(model, seed=3):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((model.latent_dim, model.latent_dim)))
    return model.rotated(rotation)


def perturbed(model, seed=1):
    """The same decoder; the encoder's means are off by 0.3 deviations, its variances too wide."""
    rng = np.random.default_rng(seed)
    total_variance = np.sum(model.W**2) + model.dimension * model.sigma**2
    deviation = np.sqrt(model.posterior_variance / total_variance)[:, None]
    V = model.V + 0.3 * deviation * rng.standard_normal(model.V.shape)
    variance = model.posterior_variance * rng.uniform(1.0, 1.6, model.latent_dim)
    return LinearVAE(model.W, model.mu, model.sigma, V, variance)


def real_images(dataset) -> tuple[Spectrum, torch.Tensor]:
    """The spectrum of some training images, and test images ``(40, 784)`` in float64."""
    folder = os.environ.get("VAEBENCH_DATA")
    if not folder:
        pytest.skip("needs real images: VAEBENCH_DATA is not set")
    images = load(dataset, Path(folder), train_size=TRAIN_IMAGES)
    train, test = (part.images.flatten(1).double() / 255 for part in (images.train, images.test))
    return fit(train.numpy()), test[:40]


def exact(model, pixels):
    return torch.as_tensor(model.log_likelihood(pixels.numpy()))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def within(difference, errors, count=3.0):
    """Whether a mean difference over images is within so many Monte Carlo standard errors."""
    error = float(errors.square().sum().sqrt()) / len(errors)
    return abs(float(difference.mean())) < count * error


def standard_error(values):
    """Of the mean over images, by their spread."""
    return float(values.std()) / math.sqrt(len(values))
