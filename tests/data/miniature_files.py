"""A miniature of MNIST's four files: what they hold, and writing them in the usual layouts."""

import gzip
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@dataclass(frozen=True)
class Miniature:
    """The files' contents by name, and what they hold."""

    contents: Mapping[str, bytes]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def write(self, folder: Path, *, zipped: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
        return folder
