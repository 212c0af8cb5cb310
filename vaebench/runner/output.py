"""Show the first lines that workers print, with control characters escaped."""

from __future__ import annotations

import codecs
import os
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from vaebench.system.terminal import escaped

_MOST_CHARACTERS = 4_000
"""The largest number of characters shown for each pack, about fifty lines."""


class ForwardedOutput:
    """Forwards what a worker and its children write to standard error.

    Their descriptors 1 and 2 are the other end of the pipe, so that output of native code is
    included. A thread reads everything, because a full pipe would block the worker.
    """

    def __init__(self, reader: Connection) -> None:
        self._reader = reader
        self._left = _MOST_CHARACTERS
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def begin_pack(self) -> None:
        """Reset the limit on shown characters for the next pack."""
        self._left = _MOST_CHARACTERS

    def close(self) -> None:
        """Forward the remaining output of a worker that has ended."""
        # A process that left the worker's group may keep the other end open.
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._reader.close()

    def _forward(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        with suppress(OSError):
            while content := os.read(self._reader.fileno(), 1 << 16):
                if self._left > 0:
                    self._show(decoder.decode(content))

    def _show(self, text: str) -> None:
        shown, self._left = text[: self._left], self._left - len(text)
        if self._left <= 0:
            shown += "\n... the rest of what this pack prints is left out\n"
        # Standard error may be closed, or its disk full.
        with suppress(OSError, AttributeError, ValueError):
            sys.stderr.write(escaped(shown))
            sys.stderr.flush()
