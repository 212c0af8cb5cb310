"""Start and stop processes that end with their parent; needs no torch."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from multiprocessing import resource_tracker
from types import FrameType, ModuleType
from typing import ParamSpec, TypeVar

from vaebench.errors import EngineError, WorkerStartError

__all__ = [
    "GRACE_SECONDS",
    "Stop",
    "end_group",
    "how_ended",
    "passing_signals_on",
    "serve_the_parent",
    "starting_processes",
]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

GRACE_SECONDS = 10.0
"""Seconds that running work may continue after the first signal to stop.

A compilation, an evaluation and an epoch cannot be interrupted; they may take minutes.
"""

_STOP_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
]


@contextmanager
def starting_processes() -> Iterator[None]:
    """Start processes in this context without the caller's script and with signals blocked.

    A worker does not need the caller's script; running it again would fail in a notebook, for
    standard input, and in a script without a main guard.

    A batch system sends its signals to every process of a job, and a terminal sends Ctrl-C to
    every process of a command, also to one that still imports its modules. Only the parent reacts
    to them; processes started here are ended by the parent, or by SIGKILL.

    Raises:
        EngineError: this process cannot start others; the message names the cause.
        WorkerStartError: the process that starts the others ended.
    """
    if multiprocessing.current_process().daemon:
        raise EngineError(
            "a daemonic process cannot start workers: start this process with daemon=False"
        )
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    before = None
    try:
        if hasattr(signal, "pthread_sigmask"):
            # Starting the tracker unblocks SIGTERM, so it comes first.
            with _silent_leaks():
                resource_tracker.ensure_running()
            # Blocked, not ignored: this process receives the signals afterwards.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        yield
    except EOFError as error:
        raise WorkerStartError(
            "the process that starts the workers ended while it started, likely out of memory; "
            "its own message, if any, is printed above"
        ) from error
    except OSError as error:
        raise _start_error(error) from error
    finally:
        sys.modules["__main__"] = script
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_error(error: OSError) -> EngineError:
    """Return an error with the cause, which the system's message may not contain."""
    if "AF_UNIX path too long" in str(error):
        return EngineError(
            f"the path of the temporary folder {tempfile.gettempdir()} is too long for a socket: "
            "set TMPDIR to a shorter path, such as /tmp"
        )
    if error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EAGAIN):
        place = " (/dev/shm or the temporary folder is full)" * (error.errno == errno.ENOSPC)
        return EngineError(f"workers cannot be started: {error.strerror}{place}")
    return WorkerStartError(f"the process that starts the workers ended: {error}")


@contextmanager
def _silent_leaks() -> Iterator[None]:
    """Prevent warnings of the resource tracker about locks of a worker that has ended."""
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
    """Make this process a worker: it ignores signals to stop and ends with its parent.

    It leads a process group, which `end_group` ends with all its children. Its children
    receive signals as usual.
    """
    if hasattr(os, "setpgid"):
        with suppress(OSError):  # a session leader leads a group already
            os.setpgid(0, 0)
        # A process in the background may still write to its terminal.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    # A handler, unlike SIG_IGN or a blocked signal, is not inherited by the programs it starts.
    for number in _STOP_SIGNALS:
        signal.signal(number, _leave_it_to_the_parent)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_hear_signals)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_it_to_the_parent(number: int, _: FrameType | None) -> None:
    """Ignore a signal that all processes of a command receive; the parent handles it."""


def _hear_signals() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _leave_with_parent(parent: int) -> None:
    """End this process and its group within a second of its parent's end, even during a step."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def end_group(leader: int | None) -> None:
    """Kill the remaining processes in the group of a worker."""
    if leader is not None and hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def how_ended(exit_code: int | None, times: str = "") -> str:
    """Return how a process ended, in words that follow its name; `times` may be " twice"."""
    if exit_code is None or exit_code >= 0:
        return f"left{times} with exit code {exit_code}"
    killed = " (killed, likely out of memory)" if -exit_code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-exit_code).name}{times}{killed}"


class Stop:
    """Records requests to stop: the first asks for a clean end, the second ends immediately.

    The requests are SIGINT, SIGTERM, SIGHUP (the terminal was closed) and SIGUSR1, which batch
    systems send before SIGTERM. If SIGHUP is already ignored, as under nohup, it stays ignored.

    Attributes:
        signal: SIGINT or SIGTERM (also for SIGHUP and SIGUSR1); None without a request.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deadline = float("inf")

    def __enter__(self) -> Stop:
        # Only the main thread receives signals; another thread is stopped by its caller.
        in_main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in _STOP_SIGNALS if in_main}
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and self._before.get(hangup) is signal.SIG_IGN:
            del self._before[hangup]
        for number in self._before:
            signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_over(self) -> bool:
        """Whether the time for a clean end is over."""
        return time.monotonic() >= self._deadline

    def _heard(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        self._deadline = now + GRACE_SECONDS if self.signal is None else now
        if self.signal is None:
            self.signal = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM


def passing_signals_on(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a function: a signal that stopped it is afterwards sent to the caller's handler.

    After Ctrl-C this raises KeyboardInterrupt, so that a script does not continue. The result of
    the function, or its ``summary``, must have the attribute ``signal``.
    """

    @wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        result = function(*arguments, **options)
        stopped_by = getattr(getattr(result, "summary", result), "signal", None)
        if stopped_by is not None:
            signal.raise_signal(stopped_by)
        return result

    return call
