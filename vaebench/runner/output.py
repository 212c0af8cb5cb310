"""What a cell's code prints: the first lines are passed on, a flood is not."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

__all__ = ["capped_output"]

_MOST_CHARACTERS = 4_000
"""About fifty lines: enough to find out what is wrong, too little to bury a run's own lines."""


class _Capped(io.TextIOBase):
    """Passes text on to a stream until it is too much, and says so once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._left = stream, _MOST_CHARACTERS

    def write(self, text: str) -> int:
        if self._left > 0:
            self._stream.write(text[: self._left])
            self._left -= len(text)
            if self._left <= 0:
                self._stream.write("\n... the rest of what this pack prints is left out\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def capped_output() -> Iterator[None]:
    """Cap what Python code prints inside, on standard output and on standard error each."""
    with (
        redirect_stdout(_Capped(sys.stdout)),
        redirect_stderr(_Capped(sys.stderr)),
    ):
        yield
