"""The random generators of a cell, which depend only on its seed."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from vaebench.grid.cell import Cell
from vaebench.training.batches import Generators


def _number(seed: int, purpose: str) -> int:
    """Return a 63-bit hash of seed and purpose, so that similar seeds give unrelated numbers."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a separate generator for each purpose ("weights", "order", "noise") of a seed."""
    return torch.Generator(device).manual_seed(_number(seed, purpose))


def seed_the_defaults(seed: int) -> None:
    """Seed the default generators of torch, NumPy and Python.

    Only a user's network uses them, for example in dropout.
    """
    number = _number(seed, "defaults")
    torch.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 -- the generator that others draw from
    random.seed(number)


def training_generators(cell: Cell) -> Generators:
    """Return the generators for training a cell, each on the device that uses its numbers."""
    return Generators(
        order=generator(cell.seed, "order"),
        pixels=generator(cell.seed, "pixels", cell.device),
        noise=generator(cell.seed, "noise", cell.device),
    )
