"""Images as rows of a matrix, checked and read in blocks of float64, for the closed forms."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_BLOCK_NUMBERS = 2**22


def as_images(images: ArrayLike, dimension: int | None = None) -> NDArray[Any]:
    """Return images as an array (N, D) with N, D >= 1 and finite numbers, without a copy.

    Raises ValueError for another shape, for a D that is not `dimension`, for nan or infinity.
    """
    array = np.asarray(images)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"images must be a non-empty matrix (images, pixels); got shape {array.shape}: "
            "flatten each image to one row"
        )
    if dimension is not None and array.shape[1] != dimension:
        raise ValueError(
            f"images must have {dimension} pixels, like the model; got {array.shape[1]}: "
            "use images of the data set of the model"
        )
    if not np.isfinite(array).all():
        raise ValueError("images must be finite; some hold NaN or infinity: remove those images")
    return array


def blocks(images: ArrayLike, dimension: int | None = None) -> Iterator[Floats]:
    """Yield the rows of `images` as float64 matrices (n, D) of at most 32 MiB (or one row).

    Raises ValueError as `as_images` does.
    """
    array = as_images(images, dimension)
    rows = max(1, _BLOCK_NUMBERS // array.shape[1])
    for start in range(0, len(array), rows):
        yield array[start : start + rows].astype(np.float64)
