"""A training in the middle, on the disk: after a stop it goes on from there, bit for bit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vaebench.errors import StorageError
from vaebench.records.files import Files, storing, write_whole

__all__ = ["Checkpoint", "Saved"]

_BOOKS = "books"
_FORMAT = "2"
"""Raised when the names or the meaning of what is saved change."""
_DIGEST_BYTES = 64


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: tensors by name, and the rest as JSON has it."""

    tensors: dict[str, Tensor]
    books: dict[str, Any]


@dataclass
class Checkpoint:
    """The file in which a training is kept from time to time.

    A file that is damaged, or of another training or version of torch or vaebench, is not taken
    up: the training starts anew, and `note` says why. Nor does it end where one can't be written.

    Attributes:
        path: the file.
        identity: which training this is.
        every: seconds between two checkpoints; what a stop may cost.
        note: what went wrong, None if nothing did.
    """

    path: Path
    identity: str
    every: float = 60.0
    note: str | None = None
    _last: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= self.every

    def save(self, tensors: Mapping[str, Tensor], books: Mapping[str, object]) -> None:
        """Replace the file by this state, which is on the disk as a whole or not at all."""
        told = {**books, **self._origin()}
        state = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        text = bytearray(json.dumps(told, allow_nan=False).encode())
        content = save(state | {_BOOKS: torch.frombuffer(text, dtype=torch.uint8)})
        files, pending = Files(), self.path.with_suffix(".new")
        try:
            with storing("write a checkpoint", self.path):
                files.make_folder(self.path.parent)
                write_whole(files, pending, _digest(content) + content)
                files.replace(pending, self.path)
        except StorageError as error:
            self.note = f"the last checkpoint could not be written: {error}"
        # Also after a failure: a full disk is not asked again at every epoch.
        self._last = time.monotonic()

    def load(self) -> Saved | None:
        """The state to go on from; None to begin at the beginning."""
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._refused(f"it could not be read ({error.strerror})")
        content = found[_DIGEST_BYTES:]
        if found[:_DIGEST_BYTES] != _digest(content):
            return self._refused("it was damaged")
        try:
            tensors = load(content)
        except SafetensorError as error:
            return self._refused(f"it was damaged ({error})")
        books = json.loads(bytes(tensors.pop(_BOOKS).tolist()))
        if any(books.get(name) != value for name, value in self._origin().items()):
            return self._refused("it was of another training, torch or vaebench")
        return Saved(tensors, books)

    def _origin(self) -> dict[str, str]:
        """What must be the same for a training to be taken up."""
        return {
            "identity": self.identity,
            "format": _FORMAT,
            "torch": torch.__version__,
            "vaebench": importlib.metadata.version("vaebench"),
        }

    def _refused(self, why: str) -> Saved | None:
        self.note = f"a checkpoint was there and not used: {why}"
        return None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
