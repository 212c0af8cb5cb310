"""How a process of ours starts, how it is stopped, and how it ends with its parent; no torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType, ModuleType

__all__ = ["GRACE_SECONDS", "Stop", "not_to_be_stopped", "serve_the_parent", "without_the_script"]

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


@contextmanager
def not_to_be_stopped() -> Iterator[None]:
    """Processes started inside never hear a request to stop; SIGKILL ends them.

    A batch system sends it to every process of a job, a terminal's Ctrl-C to every process of a
    command, also to one that still imports its modules. What to do is the parent's decision.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting it unblocks SIGTERM, so it comes first.
    with _without_a_word_of_leaks():
        resource_tracker.ensure_running()
    # Blocked rather than ignored: what comes meanwhile, this process still hears afterwards.
    requests = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, requests)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_a_word_of_leaks() -> Iterator[None]:
    """The tracker started inside puts away the locks of a worker that was ended, and is silent."""
    before = os.environ.get("PYTHONWARNINGS")
    ours = "ignore:resource_tracker:UserWarning"
    os.environ["PYTHONWARNINGS"] = ours if before is None else f"{before},{ours}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


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
    """Remembers requests to stop: the first asks for an orderly end, the second for one now.

    They are SIGINT, SIGTERM, and SIGUSR1, by which a batch system says that SIGTERM will follow.
    """

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
        now = time.monotonic()
        self._deadline = now + GRACE_SECONDS if self.signal is None else now
        if self.signal is None:
            self.signal = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM

    @staticmethod
    def _numbers() -> Iterator[int]:
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread alone; whoever started this one stops it
        yield signal.SIGINT
        yield signal.SIGTERM
        if hasattr(signal, "SIGUSR1"):
            yield signal.SIGUSR1
