"""Exact limits, in nats per image, on the scores of any model of a data set."""

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlog1py, xlogy

from vaebench.truth.images import Floats, as_images, blocks


def bce_floor(pixels: ArrayLike) -> float:
    """Return the lowest binary cross-entropy of any decoder on targets (N, D) in [0, 1].

    It is the mean over images of the summed pixel entropies, reached by a decoder that returns
    its target: -x log p - (1-x) log(1-p) is least at p = x. Binary images have a floor of 0.

    Source: Gibbs' inequality, pixel by pixel (Cover & Thomas 2006, Theorem 2.6.3).

    Raises ValueError for pixels outside [0, 1].
    """
    array = _unit_pixels(pixels)
    sums = (float(np.sum(_cross_entropy(block, block))) for block in blocks(array))
    return sum(sums) / len(array)


def bce_ceiling(train_pixels: ArrayLike, pixels: ArrayLike, clip: float = 1e-7) -> float:
    """Return the binary cross-entropy on `pixels` (N, D) of the best decoder that ignores z.

    That decoder returns the mean of the training pixels, (M, D), clipped to [clip, 1 - clip]. A
    trained VAE with a higher value is worse than this decoder. With clip 0 the value is infinite
    if a pixel that is constant 0 or 1 in training differs in `pixels`; MNIST has two such pixels.

    Source: the maximum-likelihood Bernoulli mean is the sample mean (Bishop 2006, Sec. 2.1);
    the loss is linear in the targets, so that only their mean matters.

    Raises ValueError for pixels outside [0, 1], for different D and for a clip outside [0, 0.5).
    """
    if not 0 <= clip < 0.5:
        raise ValueError(f"clip must be at least 0 and below 0.5; got {clip}")
    trained: Floats = _unit_pixels(train_pixels).mean(axis=0, dtype=np.float64)
    target: Floats = _unit_pixels(pixels, len(trained)).mean(axis=0, dtype=np.float64)
    return float(np.sum(_cross_entropy(target, np.clip(trained, clip, 1 - clip))))


def density_ceiling(log_peak: float | None, dimension: int, scale: ArrayLike) -> float:
    """Return the highest log-density that a location-scale family can give to one image, in nats.

    It is D times the log-density at the mode minus the sum of log scales. As p(x) is an average of
    p(x|z), no log p(x) and no bound on it can be higher.

    Args:
        log_peak: log-density at the mode with scale 1, `LikelihoodChoice.log_peak`.
        dimension: number of pixels D.
        scale: in pixel units, one number or one for each pixel ``(D,)``.

    Raises:
        ValueError: for a family without a peak, a dimension below 1, or a scale that is not
            positive and finite.

    >>> round(density_ceiling(-0.5 * math.log(2 * math.pi), 784, 1.0), 3)
    -720.448
    """
    scales = np.asarray(scale, np.float64)
    if log_peak is None:
        raise ValueError("log_peak must be a number; it is None for a family without a scale")
    if dimension < 1 or scales.shape not in ((), (1,), (dimension,)):
        raise ValueError(
            "the scale must be one number or one for each of at least 1 pixel; "
            f"got {dimension} pixels and scales of shape {scales.shape}"
        )
    if not (np.all(scales > 0) and np.all(np.isfinite(scales))):
        raise ValueError(f"scales must be positive and finite; the smallest is {np.min(scales)}")
    return float(dimension * log_peak - np.sum(np.log(np.broadcast_to(scales, dimension))))


def empirical_entropy(images: ArrayLike) -> float:
    """Return the entropy in nats of the empirical distribution of images (N, D), at most log N.

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
            f"pixels must be in [0, 1]; got {np.min(array)} to {np.max(array)}: "
            "divide grey levels by the highest level"
        )
    return array
