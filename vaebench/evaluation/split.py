"""The images that a cell is evaluated on, as its likelihood sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.model.likelihoods import LevelEdges, count_edges, level_edges

_BATCH_NUMBERS = 2_000_000


@dataclass(frozen=True)
class EvaluationSplit:
    """One split of the data, drawn once.

    Attributes:
        pixels: the pixels to score, ``(N, D)`` float32; binarised or dequantised with a fixed seed
            if the cell says so.
        index: grey level of each pixel, 0 ... levels - 1, or its count, ``(N, D)``; None for
            real-valued data.
        levels: number of grey levels after binarisation; None for real-valued data and counts.
        dequantized: whether noise within a level was added to ``pixels``.
        labels: class of each image, ``(N,)``; None for data without labels.
        classes: the name of each label, where the data have names.
        columns: the names of the numbers of a row, where the data have names.
    """

    pixels: Tensor
    index: Tensor | None
    levels: int | None
    dequantized: bool
    labels: Tensor | None
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, count: int) -> EvaluationSplit:
        """Return the first ``count`` images: a fair sample, since a split is shuffled."""
        return EvaluationSplit(
            self.pixels[:count],
            None if self.index is None else self.index[:count],
            self.levels,
            self.dequantized,
            None if self.labels is None else self.labels[:count],
            self.classes,
            self.columns,
        )

    def batches(self, numbers_per_image: int) -> Iterator[slice]:
        """Yield slices for which the largest tensor of a batch has about two million numbers."""
        size = max(1, min(1000, _BATCH_NUMBERS // max(1, numbers_per_image)))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def edges(self, rows: slice, dtype: torch.dtype) -> LevelEdges:
        """Return the intervals of the grey levels or counts of some images, ``(n, D)``.

        Raises:
            ValueError: the data are real-valued.
        """
        if self.index is None:
            raise ValueError("real-valued data have no grey levels")
        if self.levels is None:
            return count_edges(self.index[rows], dtype)
        return level_edges(self.index[rows], self.levels, dequantized=self.dequantized, dtype=dtype)
