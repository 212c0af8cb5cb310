"""A cell's sources of randomness, from its seed alone."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator"]


def generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each purpose ("weights", "order", "noise" ...) of a seed.

    Hashing keeps the streams apart: seeds that are neighbours share nothing.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
