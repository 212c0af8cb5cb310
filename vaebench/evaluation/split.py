"""The images on which a cell is evaluated, converted for its likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vaebench.model.likelihoods import LevelEdges, count_edges, level_edges

_BATCH_NUMBERS = 2_000_000


@dataclass(frozen=True)
class EvaluationSplit:
    """The images of one split; random draws are made once.

    Attributes:
        pixels: the pixels to score, ``(N, D)`` float32; binarised or dequantised with a fixed seed
            if the design requires it.
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
        """Return the first ``count`` images, a random sample because splits are shuffled."""
        index = None if self.index is None else self.index[:count]
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, pixels=self.pixels[:count], index=index, labels=labels)

    def batches(self, numbers_per_image: int) -> Iterator[slice]:
        """Yield batches as slices; the largest tensor of a batch has about two million numbers."""
        size = max(1, min(1000, _BATCH_NUMBERS // max(1, numbers_per_image)))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def edges(self, rows: slice, device: torch.device) -> LevelEdges:
        """Return the intervals of the grey levels or counts of some images, ``(n, D)`` float64.

        Raises:
            ValueError: the data are real-valued.
        """
        if self.index is None:
            raise ValueError("grey-level intervals are not defined for real-valued data")
        index, dtype = self.index[rows].to(device), torch.float64
        if self.levels is None:
            return count_edges(index, dtype)
        return level_edges(index, self.levels, dequantized=self.dequantized, dtype=dtype)
