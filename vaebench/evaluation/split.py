"""The images that a cell is evaluated on, as its likelihood sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.model.likelihoods import LevelEdges, count_edges, level_edges

__all__ = ["EvaluationSplit"]

_BATCH_NUMBERS = 2_000_000


@dataclass(frozen=True)
class EvaluationSplit:
    """One split of the data, drawn once.

    Attributes:
        pixels: what the model is scored on, ``(N, D)`` float32: binarised or dequantised with a
            fixed seed where the cell asks for it.
        index: grey level of each pixel, 0 ... levels - 1, or its count, ``(N, D)``; None for
            real-valued data.
        levels: number of grey levels after binarisation; None for real-valued data and counts.
        dequantized: whether noise within a level was added to ``pixels``.
        labels: class of each image, ``(N,)``; None where the data have none.
    """

    pixels: Tensor
    index: Tensor | None
    levels: int | None
    dequantized: bool
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, count: int) -> EvaluationSplit:
        """The first ``count`` images; a split comes shuffled, so they are a fair sample of it."""
        return EvaluationSplit(
            self.pixels[:count],
            None if self.index is None else self.index[:count],
            self.levels,
            self.dequantized,
            None if self.labels is None else self.labels[:count],
        )

    def batches(self, numbers_per_image: int) -> Iterator[slice]:
        """Slices of as many images as keep a batch's largest tensor near two million numbers."""
        size = max(1, min(1000, _BATCH_NUMBERS // max(1, numbers_per_image)))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def edges(self, rows: slice, dtype: torch.dtype) -> LevelEdges:
        """Return the intervals of the grey levels or counts of some images, ``(n, D)``.

        Raises:
            ValueError: if the data are real-valued.
        """
        if self.index is None:
            raise ValueError("real-valued data have no grey levels")
        if self.levels is None:
            return count_edges(self.index[rows], dtype)
        return level_edges(self.index[rows], self.levels, dequantized=self.dequantized, dtype=dtype)
