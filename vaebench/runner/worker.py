"""A worker process: receives packs of cells through a pipe and sends back their records.

A worker imports torch once and trains many packs. An exception in a cell's code is recorded as the
failure of that cell; if a worker dies, only its current pack is affected.
"""

from __future__ import annotations

import math
import re
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from vaebench.errors import DataInvalid, DataMissing, error_text
from vaebench.grid.cell import Cell
from vaebench.records.schema import ReasonCode, Status
from vaebench.runner.execute import execute
from vaebench.runner.machine import absent_device, environment, settle
from vaebench.runner.memory import is_out_of_memory
from vaebench.runner.messages import (
    Begun,
    Finished,
    Outcome,
    Progressed,
    Recorded,
    StopRequest,
    Task,
    unfinished,
)
from vaebench.system.processes import serve_the_parent
from vaebench.system.terminal import capped
from vaebench.training.loop import Stopped

_THREADS = 1
"""One thread per worker: most cells are too small to gain from more, and cores run workers."""

_TRACEBACK_CHARACTERS = 4_000


def serve(connection: Connection) -> None:
    """Run as a worker process until the pipe is closed or the parent has ended."""
    serve_the_parent()
    work(connection)


def work(connection: Connection) -> None:
    """Run the worker's loop in the calling thread until the pipe is closed."""
    settle(_THREADS)
    _warm_up()
    # If the parent has ended, the pipe is closed; `serve` also ends this process within a second.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = connection.recv()
            if isinstance(task, StopRequest):
                continue  # a request for the previous task, which has ended
            connection.send(Begun())
            begin = time.perf_counter()
            outcomes = _attempt(task, connection)
            connection.send(Finished(outcomes, time.perf_counter() - begin))


def _warm_up() -> None:
    """Train a small cell, so that the memory of libraries is not counted for the first cell."""
    sizes = {"train_size": 100, "test_size": 20, "batch_size": 50, "hidden": [8], "latent_dim": 2}
    cell = Cell.model_validate(sizes | {"epochs": 1, "tsne_points": 0})
    execute(Task((cell,), ("warm-up",), "warm-up", None))


class _Parent:
    """The other end of the pipe during a task.

    Attributes:
        reason: why the task should stop, or None.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # The first epoch is always reported, because the next may take long.
        self._last = -math.inf
        self.reason: str | None = None
        self._recorded: set[str] = set()

    def report(self, epoch: int, epochs: int, losses: Sequence[float]) -> None:
        """Send the progress, at most ten times a second."""
        if epoch == epochs or time.monotonic() - self._last > 0.1:
            self._last = time.monotonic()
            self._connection.send(Progressed(epoch, epochs, tuple(losses)))

    def record(self, outcomes: list[Outcome]) -> None:
        """Send records before the training ends."""
        self._connection.send(Recorded(outcomes))
        self._recorded.update(outcome.record.cell_id for outcome in outcomes)

    def left(self, task: Task) -> Task:
        """Return the task without the cells whose records were sent."""
        return task.without(self._recorded)

    def asks_to_stop(self) -> bool:
        """Return whether a request to stop was received."""
        if self._connection.poll():
            self.reason = cast("StopRequest", self._connection.recv()).reason
        return self.reason is not None


def _attempt(task: Task, connection: Connection) -> list[Outcome]:
    """Execute a task; an exception is recorded as the failure of its cells."""
    parent = _Parent(connection)
    absent = absent_device(task.cells[0].device)
    if absent is not None:
        status = Status(state="unavailable", reason_code="device", reason=absent)
        return unfinished(task, status, environment("cpu"))
    try:
        return execute(task, parent.report, parent.asks_to_stop, parent.record)
    except Stopped:
        status = Status(state="interrupted", reason_code="interrupted", reason=parent.reason)
        return unfinished(parent.left(task), status)
    except BaseException as error:  # noqa: BLE001 -- a user's network may raise anything
        return unfinished(parent.left(task), _failed(error), environment("cpu"))
    finally:
        # Flush now, because the worker may be ended right after this task.
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()


def _failed(error: BaseException) -> Status:
    lines = "".join(traceback.format_exception(error))
    return Status(
        state="failed",
        reason_code=_reason_code(error),
        reason=_public_text(error_text(error)),
        detail={"traceback": _public_text(lines[-_TRACEBACK_CHARACTERS:])},
    )


def _reason_code(error: BaseException) -> ReasonCode:
    if isinstance(error, DataMissing | DataInvalid):
        return "data"
    return "out_of_memory" if is_out_of_memory(error) else "error"


def _public_text(text: str) -> str:
    """Return a text for records: escaped, shortened, and without the user's folders."""
    return capped(_homeless(text))


def _homeless(text: str) -> str:
    """Return the text with ~ for the home folder and . for the working folder."""
    for folder, short in ((Path.cwd(), "."), (Path.home(), "~")):
        # In a container the home folder may be the root.
        if folder != Path(folder.anchor):
            text = re.sub(rf"{re.escape(str(folder))}(?![\w-])", short, text)
    return text
