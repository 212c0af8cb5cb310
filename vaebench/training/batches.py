"""The batches of a pack: the order of the images, their pixels and the noise of their codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell

__all__ = ["Generators", "draw_batch", "epoch_order"]


@dataclass(frozen=True)
class Generators:
    """Random generators of a cell for the order of the images, their pixels and the noise."""

    order: torch.Generator
    pixels: torch.Generator
    noise: torch.Generator


def epoch_order(pixels: TrainingPixels, generators: Sequence[Generators]) -> Tensor:
    """Return a random order of the training images for each member, ``(P, N)`` on the device."""
    orders = [torch.randperm(len(pixels), generator=each.order) for each in generators]
    return torch.stack(orders).to(pixels.device)


def draw_batch(
    design: Cell, pixels: TrainingPixels, generators: Sequence[Generators], indices: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw the pixels and noise of one step, from the generators of each member.

    Args:
        design: gives the number of codes drawn for each image and their size.
        pixels: the training split.
        generators: one for each member.
        indices: indices of the images, ``(P, B)`` int64 on the device.

    Returns:
        Pixels ``(P, B, D)`` and standard normal noise ``(P, S, B, Z)``.
    """
    members, images = indices.shape
    noise = torch.empty(
        members, design.importance_samples, images, design.latent_dim, device=pixels.device
    )
    for own, each in zip(noise, generators, strict=True):
        own.normal_(generator=each.noise)
    x = [pixels.visit(rows, each.pixels) for rows, each in zip(indices, generators, strict=True)]
    return (x[0].unsqueeze(0) if members == 1 else torch.stack(x)), noise
