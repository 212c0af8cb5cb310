"""What no model of a data set can pass: exact bounds in nats per image."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlog1py, xlogy

from vaebench.truth.images import Floats, as_images, blocks

__all__ = [
    "DENSITY_CEILINGS",
    "STUDENT_T_DEGREES",
    "bce_ceiling",
    "bce_floor",
    "empirical_entropy",
    "gaussian_ceiling",
    "laplace_ceiling",
    "logistic_ceiling",
    "mutual_information_ceiling",
    "student_t_ceiling",
]

STUDENT_T_DEGREES = 5
"""Degrees of freedom of the `student_t` likelihood."""


def bce_floor(pixels: ArrayLike) -> float:
    """Lowest binary cross-entropy any decoder can have on these targets (N, D) in [0, 1].

    It is the mean over images of the summed pixel entropies, reached by a decoder that returns
    its target: -x log p - (1-x) log(1-p) is least at p = x. Binary images have a floor of 0.

    Source: Gibbs' inequality, pixel by pixel (Cover & Thomas 2006, Theorem 2.6.3).

    Raises ValueError for pixels outside [0, 1].
    """
    array = _unit_pixels(pixels)
    sums = (float(np.sum(_cross_entropy(block, block))) for block in blocks(array))
    return sum(sums) / len(array)


def bce_ceiling(train_pixels: ArrayLike, pixels: ArrayLike, clip: float = 1e-7) -> float:
    """Binary cross-entropy on `pixels` (N, D) of the best decoder that ignores z.

    That decoder returns the mean of the training pixels, (M, D), kept in [clip, 1 - clip]. A
    trained VAE above it is worse than no VAE at all. With clip 0 it is infinite where a pixel that
    is constant 0 or 1 in training is not so in `pixels`, as two pixels of MNIST's test images are.

    Source: the maximum-likelihood Bernoulli mean is the sample mean (Bishop 2006, Sec. 2.1);
    the loss is linear in the targets, so that only their mean matters.

    Raises ValueError for pixels outside [0, 1], for two sets of different D and for a clip outside
    [0, 0.5).
    """
    if not 0 <= clip < 0.5:
        raise ValueError(f"clip must be at least 0 and below 0.5, got {clip}")
    trained: Floats = _unit_pixels(train_pixels).mean(axis=0, dtype=np.float64)
    target: Floats = _unit_pixels(pixels, len(trained)).mean(axis=0, dtype=np.float64)
    return float(np.sum(_cross_entropy(target, np.clip(trained, clip, 1 - clip))))


def gaussian_ceiling(dimension: int, sigma: ArrayLike) -> float:
    """Highest log density of `dimension` pixels under N(f, sigma^2): -(D/2) log(2 pi sigma^2).

    `sigma` is a standard deviation, one number or one a pixel (D,). As p(x) is an average of
    p(x|z), no log p(x) and no bound on it can be higher.

    Source: the density at its mode, as for the three ceilings below (Bishop 2006, Sec. 2.3).

    Raises ValueError for a dimension below 1 and for a scale that is not positive and finite.

    >>> round(gaussian_ceiling(784, 1.0), 3)
    -720.448
    """
    return _ceiling(dimension, sigma, -0.5 * math.log(2 * math.pi))


def laplace_ceiling(dimension: int, scale: ArrayLike) -> float:
    """The same for the Laplace density of scale b: -D log(2 b).

    Source: density exp(-|x-f|/b) / (2b) at its mode (Johnson et al. 1995, ch. 24).

    Raises ValueError as `gaussian_ceiling` does.
    """
    return _ceiling(dimension, scale, -math.log(2))


def logistic_ceiling(dimension: int, scale: ArrayLike) -> float:
    """The same for the logistic density of scale s: -D log(4 s).

    Source: density e^-u / (s (1 + e^-u)^2), u = (x-f)/s, at its mode (Johnson et al. 1995, ch. 23).

    Raises ValueError as `gaussian_ceiling` does.
    """
    return _ceiling(dimension, scale, -math.log(4))


def student_t_ceiling(dimension: int, scale: ArrayLike) -> float:
    """The same for Student's t with nu = 5: D log(Gamma(3) / (Gamma(5/2) sqrt(5 pi) s)).

    Source: Gamma((nu+1)/2) / (Gamma(nu/2) sqrt(nu pi) s), the density at its mode (Bishop 2006,
    Sec. 2.3.7).

    Raises ValueError as `gaussian_ceiling` does.
    """
    nu = STUDENT_T_DEGREES
    log_mode = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * math.log(nu * math.pi)
    return _ceiling(dimension, scale, float(log_mode))


DENSITY_CEILINGS: Mapping[str, Callable[[int, ArrayLike], float]] = MappingProxyType(
    {
        "gaussian": gaussian_ceiling,
        "laplace": laplace_ceiling,
        "logistic": logistic_ceiling,
        "student_t": student_t_ceiling,
    }
)
"""The ceiling of each likelihood with a scale: (dimension, scale) -> nats per image."""


def empirical_entropy(images: ArrayLike) -> float:
    """Entropy of the images (N, D) as they are counted, in nats: 0 if all are equal, at most log N.

    No probability mass has a lower mean negative log-likelihood on these very images. It says
    nothing about other images of the same source.

    Source: Gibbs' inequality (Cover & Thomas 2006, Theorem 2.6.3).

    Raises ValueError for an empty or non-finite set.

    >>> empirical_entropy([[1, 2], [1, 2], [1, 2]])
    0.0
    """
    # Adding 0 turns -0.0 into 0.0, which is the same grey level but not the same bytes.
    counts = Counter(row.tobytes() for block in blocks(images) for row in block + 0.0)
    shares = np.array(list(counts.values())) / counts.total()
    return float(np.sum(xlogy(shares, 1 / shares)))


def mutual_information_ceiling(images: int) -> float:
    """Largest mutual information of z with the index of one of N images, in nats: log N.

    Source: I(n; z) <= H(n) = log N for N equally likely images (Hoffman & Johnson 2016).

    Raises ValueError for N below 1.

    >>> round(mutual_information_ceiling(60_000), 3)
    11.002
    """
    if images < 1:
        raise ValueError(f"the number of images must be at least 1, got {images}")
    return math.log(images)


def _cross_entropy(target: Floats, probability: Floats) -> Floats:
    """-x log p - (1-x) log(1-p) of each element, where 0 log 0 is 0."""
    return np.asarray(-xlogy(target, probability) - xlog1py(1 - target, -probability))


def _unit_pixels(pixels: ArrayLike, dimension: int | None = None) -> NDArray[Any]:
    array = as_images(pixels, dimension)
    if np.min(array) < 0 or np.max(array) > 1:
        raise ValueError(
            f"pixels must lie in [0, 1], got {np.min(array)} to {np.max(array)}; "
            "divide grey levels by their highest"
        )
    return array


def _ceiling(dimension: int, scale: ArrayLike, log_mode: float) -> float:
    """Sum over pixels of the log density at the mode, `log_mode` being that at scale 1."""
    scales = np.asarray(scale, np.float64)
    if dimension < 1 or scales.shape not in ((), (1,), (dimension,)):
        raise ValueError(
            "a scale is one number or one a pixel, of at least 1 pixel, "
            f"got {dimension} pixels and scales of shape {scales.shape}"
        )
    if not (np.all(scales > 0) and np.all(np.isfinite(scales))):
        raise ValueError(
            f"scales must be positive and finite, got a smallest of {np.min(scales)}; "
            "a density without spread has no ceiling"
        )
    return float(dimension * log_mode - np.sum(np.log(np.broadcast_to(scales, dimension))))
