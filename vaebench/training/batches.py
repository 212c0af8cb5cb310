"""What the steps of a pack are taken on: pixels and noise, drawn for a block of steps at once.

On a CPU a block is one step. On a GPU a draw costs its launch, whatever its size, and a block of
steps is what is replayed as one graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell

__all__ = ["Batches", "Generators", "blocks", "steps_of_a_block"]

_MOST_STEPS = 64
_MOST_NUMBERS = 2**21
"""Of one cell's pixels or noise in a block: 8 MiB, so half a GiB of a pack of 64, and twice that
while its cells' are put together."""


@dataclass(frozen=True)
class Generators:
    """One cell's sources of randomness: the order of the images, their pixels, the codes' noise."""

    order: torch.Generator
    pixels: torch.Generator
    noise: torch.Generator


def steps_of_a_block(cell: Cell, dimensions: int) -> int:
    """How many steps on images of so many pixels are taken together where steps are replayed.

    One number for all cells that may share a pack, whichever do: a cell's random numbers depend
    on it.
    """
    codes = cell.importance_samples << (cell.latent_dim - 1).bit_length()
    step = cell.batch_size * max(dimensions, codes)
    return min(_MOST_STEPS, max(1, _MOST_NUMBERS // step))


def blocks(order: Tensor, batch_size: int, steps: int) -> Iterator[Tensor]:
    """An epoch's images ``(P, N)`` in blocks ``(P, K, B)`` of so many steps.

    The last block of full batches may have fewer, and a last batch of fewer images is its own.
    """
    full = order.shape[1] // batch_size
    for start in range(0, full, steps):
        stop = min(start + steps, full)
        yield order[:, start * batch_size : stop * batch_size].view(len(order), -1, batch_size)
    if full * batch_size < order.shape[1]:
        yield order[:, full * batch_size :].unsqueeze(1)


class Batches:
    """Draws what the members of a pack see, each from its own generators.

    Args:
        cells: one a member.
        pixels: the training split.
        generators: one a member; those in the list at the time of a draw are used.
    """

    def __init__(
        self, cells: Sequence[Cell], pixels: TrainingPixels, generators: Sequence[Generators]
    ) -> None:
        self._cells, self._pixels, self._generators = cells, pixels, generators
        self._width = max(cell.latent_dim for cell in cells)

    def draw(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels ``(K, P, B, D)`` and noise ``(K, P, S, B, Z)`` of K steps.

        Args:
            indices: of the images, ``(P, K, B)`` int64 on the device.
        """
        steps, images = indices.shape[1:]
        x, noise = [], []
        for cell, rows, sources in zip(self._cells, indices, self._generators, strict=True):
            seen = self._pixels.visit(rows.flatten(), sources.pixels)
            x.append(seen.view(steps, images, -1))
            shape = (steps, cell.importance_samples, images, cell.latent_dim)
            drawn = torch.empty(shape, device=seen.device).normal_(generator=sources.noise)
            # Zeros in the codes that a narrower member lacks keep them out of everything.
            lacking = self._width - cell.latent_dim
            noise.append(F.pad(drawn, (0, lacking)) if lacking else drawn)
        if len(x) == 1:
            return x[0].unsqueeze(1), noise[0].unsqueeze(1)
        return torch.stack(x, dim=1), torch.stack(noise, dim=1)
