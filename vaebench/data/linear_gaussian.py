"""`linear-gaussian`: images drawn from a linear Gaussian model with known parameters.

    z ~ N(0, I_8),    x = mu + W z + sigma e,    e ~ N(0, I_64),

with sigma 0.3. The columns of W are orthogonal: the eight lowest spatial frequencies of the 8x8
image without the constant one, with lengths 2, 2^0.75, 2^0.5, ... 2^-0.75. The covariance
W W' + sigma^2 I thus has eight different eigenvalues length^2 + sigma^2, and sigma^2 for the other
56. See Tipping & Bishop 1999, "Probabilistic principal component analysis".
"""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 8
LATENT_DIM = 8
SIGMA = 0.3
TRAIN_IMAGES = 10_000
TEST_IMAGES = 2_000
_SEED = 1606_05908
_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2))


class LinearGaussian(NamedTuple):
    """Parameters of the model of the images: `W` (64, 8), `mu` (64,) and the noise `sigma`."""

    W: NDArray[np.float64]
    mu: NDArray[np.float64]
    sigma: float


def linear_gaussian_truth() -> LinearGaussian:
    """Return the parameters of the model, in float64.

    >>> truth = linear_gaussian_truth()
    >>> truth.W.shape, truth.mu.shape, truth.sigma
    ((64, 8), (64,), 0.3)
    """
    lengths = 2.0 ** (1 - np.arange(LATENT_DIM) / 4)
    cosines = [_cosine(frequency) for frequency in range(SIDE)]
    columns = [np.outer(cosines[down], cosines[across]).ravel() for down, across in _FREQUENCIES]
    mu = np.linspace(0.25, 0.75, SIDE * SIDE)
    return LinearGaussian(np.stack(columns, axis=1) * lengths, mu, SIGMA)


def _cosine(frequency: int) -> NDArray[np.float64]:
    """Row `frequency` of the orthonormal DCT-II, `(SIDE,)`."""
    wave = np.cos(np.pi * frequency * (2 * np.arange(SIDE) + 1) / (2 * SIDE))
    return np.asarray(wave / np.linalg.norm(wave), dtype=np.float64)


def linear_gaussian_draw() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return training images `(10000, 1, 8, 8)` and test images `(2000, 1, 8, 8)`, float32."""
    truth = linear_gaussian_truth()
    train, test = np.random.SeedSequence(_SEED).spawn(2)
    return _images(truth, train, TRAIN_IMAGES), _images(truth, test, TEST_IMAGES)


def _images(truth: LinearGaussian, seed: np.random.SeedSequence, count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    z = random.standard_normal((count, LATENT_DIM))
    noise = random.standard_normal((count, SIDE * SIDE))
    x = truth.mu + z @ truth.W.T + truth.sigma * noise
    return x.reshape(count, 1, SIDE, SIDE).astype(np.float32)


def linear_gaussian_fingerprint() -> str:
    """Return the SHA-256 of the model's definition.

    The images are not hashed, because rounding in the matrix product depends on the machine.
    """
    definition = (
        f"linear-gaussian/1 side={SIDE} sigma={SIGMA} frequencies={_FREQUENCIES} "
        f"lengths=2^(1-j/4) mu=0.25..0.75 seed={_SEED} train={TRAIN_IMAGES} test={TEST_IMAGES}"
    )
    return hashlib.sha256(definition.encode()).hexdigest()
