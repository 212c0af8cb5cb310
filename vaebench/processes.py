"""How a process of ours starts, how it is stopped, and how it ends with its parent; no torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType

__all__ = ["GRACE_SECONDS", "Stop", "serve_the_parent", "without_the_script"]

GRACE_SECONDS = 30.0
"""How long work that was begun may go on after the first signal to stop."""


@contextmanager
def without_the_script() -> Iterator[None]:
    """Keep a new process from running the caller's script again.

    Workers need nothing of it; a notebook, standard input or a script without a main guard would
    otherwise end them before they start.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def serve_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end this process when the parent is gone."""
    # Ctrl-C goes to the whole process group; what to do about it is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    """End this process within a second of its parent's end, even in the middle of a step."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Stop:
    """Remembers SIGINT and SIGTERM: the first asks for an orderly end, the second for one now."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deadline = float("inf")

    def __enter__(self) -> Stop:
        self._before = {number: signal.getsignal(number) for number in self._numbers()}
        for number in self._before:
            signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_over(self) -> bool:
        """Whether the time to end orderly is used up."""
        return time.monotonic() >= self._deadline

    def _heard(self, number: int, _: FrameType | None) -> None:
        self._deadline = (
            time.monotonic() + GRACE_SECONDS if self.signal is None else time.monotonic()
        )
        self.signal = self.signal or number

    @staticmethod
    def _numbers() -> Iterator[int]:
        yield signal.SIGINT
        yield signal.SIGTERM
