"""A cell's sources of randomness, from its seed alone."""

from __future__ import annotations

import hashlib

import torch

from vaebench.grid.cell import Cell
from vaebench.training.batches import Generators

__all__ = ["generator", "training_generators"]


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each purpose ("weights", "order", "noise" ...) of a seed.

    Hashing keeps the streams apart: seeds that are neighbours share nothing.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def training_generators(cell: Cell) -> Generators:
    """What training a cell draws from, each on the device where it is drawn."""
    return Generators(
        order=generator(cell.seed, "order"),
        pixels=generator(cell.seed, "pixels", cell.device),
        noise=generator(cell.seed, "noise", cell.device),
    )
