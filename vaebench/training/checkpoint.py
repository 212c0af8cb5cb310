"""Checkpoints: a training resumed from one gives bitwise the same result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable
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
"""Version of the format, raised when the names or the meaning of the saved values change."""
_DIGEST_BYTES = 64


class _Unusable(Exception):
    """A checkpoint file is damaged or belongs to another training; the message says why."""


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint: tensors by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    books: dict[str, Any]


@dataclass
class Checkpoint:
    """The two newest checkpoint files of a training.

    A file that is damaged, malformed, or of another training or version of torch or vaebench is
    not used; `note` says why. Training continues if a file cannot be written.

    Attributes:
        path: the newest file.
        identity: identifies the training.
        every: seconds between two checkpoints; if the process is killed, at most this is lost.
        note: a description of the last problem, or None.
    """

    path: Path
    identity: str
    every: float = 60.0
    note: str | None = None
    _last: float = field(default_factory=time.monotonic)

    @property
    def previous(self) -> Path:
        """The second newest file."""
        return self.path.with_suffix(".previous.checkpoint")

    def exists(self) -> bool:
        """Whether a checkpoint file exists."""
        return self.path.exists() or self.previous.exists()

    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self.every

    def save(self, state: Saved) -> None:
        """Write a state to the disk, completely or not at all."""
        books = {**state.books, **self._origin(), "names": sorted(state.tensors)}
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in state.tensors.items()
        }
        text = bytearray(json.dumps(books, allow_nan=False).encode())
        content = save(tensors | {_BOOKS: torch.frombuffer(text, dtype=torch.uint8)})
        files, pending = Files(), self.path.with_suffix(".new")
        try:
            with storing("write a checkpoint", self.path):
                files.make_folder(self.path.parent)
                write_whole(files, pending, _digest(content) + content)
                if self.path.exists():
                    files.replace(self.path, self.previous)
                files.replace(pending, self.path)
        except StorageError as error:
            self.note = f"the last checkpoint could not be written: {error}"
        # Also after a failure, so that writing to a full disk is not retried after every epoch.
        self._last = time.monotonic()

    def load(self, restore: Callable[[Saved], None] = lambda _: None) -> Saved | None:
        """Return the newest state that can be restored, or None if there is none.

        Args:
            restore: sets the state of the training. For a malformed state it may raise KeyError,
                TypeError, ValueError, AttributeError or RuntimeError; then the older file is used.
        """
        for path in (self.path, self.previous):
            try:
                saved = self._read(path)
                restore(saved)
            except FileNotFoundError:
                continue
            except _Unusable as error:
                why = str(error)
            except OSError as error:
                why = f"it could not be read ({error.strerror})"
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                why = f"it was malformed ({error})"
            else:
                return saved
            self.note = f"a checkpoint was there and not used: {why}"
        return None

    def _read(self, path: Path) -> Saved:
        found = Files().read(path)
        content = found[_DIGEST_BYTES:]
        if found[:_DIGEST_BYTES] != _digest(content):
            raise _Unusable("it was damaged")
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise _Unusable(f"it was damaged ({error})") from error
        books = json.loads(bytes(tensors.pop(_BOOKS).tolist()))
        if any(books.get(name) != value for name, value in self._origin().items()):
            raise _Unusable("it was of another training, torch or vaebench")
        if books.get("names", sorted(tensors)) != sorted(tensors):
            raise _Unusable("it was malformed (it lacks tensors)")
        return Saved(tensors, books)

    def _origin(self) -> dict[str, str]:
        """Return what must be equal for a checkpoint to be used."""
        return {
            "identity": self.identity,
            "format": _FORMAT,
            "torch": torch.__version__,
            "vaebench": importlib.metadata.version("vaebench"),
        }


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
