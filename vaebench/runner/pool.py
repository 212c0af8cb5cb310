"""The processes that train: started once, fed one pack at a time, watched."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from pydantic import JsonValue

from vaebench.processes import not_to_be_stopped, without_the_script
from vaebench.records.schema import Status
from vaebench.runner.messages import Begun, Finished, Outcome, Progressed, Task, unfinished

__all__ = ["Event", "Pool", "Running"]

_ATTEMPTS = 2
_LEAVE_SECONDS = 5.0
# Imported once, so that every worker starts with them; the first cell would import the others.
# Modules that are not there are passed over.
_PRELOADED = ("vaebench.runner.worker", "sklearn.datasets", "sklearn.neighbors")


@dataclass(frozen=True)
class Running:
    """A pack in training: how far it is (0 to 1) and its last losses."""

    task: Task
    share: float
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Event:
    """Something happened: records to be written, or progress of a pack (``outcomes`` empty)."""

    outcomes: list[Outcome]
    running: tuple[Running, ...]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    attempt: int = 1
    begun: float = math.inf
    share: float = 0.0
    losses: tuple[float, ...] = field(default_factory=tuple)


def _serve(connection: Connection, threads: int) -> None:
    # The parent needs no torch; the fork server has it by the time a worker starts.
    from vaebench.runner.worker import serve

    serve(connection, threads)


class Pool:
    """Worker processes as a context manager; on leaving it they are ended.

    Args:
        jobs: number of processes.
        threads: threads of each.
        time_limit: seconds that a cell may take, evaluation included; a worker that is longer at
            it is ended, also where it hangs.

    Attributes:
        jobs: as given.
        busy_seconds: what the workers spent on packs that ended, added up.
    """

    def __init__(self, jobs: int, threads: int, time_limit: float = math.inf) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOADED))
        self.jobs, self._threads, self._time_limit = jobs, threads, time_limit
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[Task, int]] = deque()
        self._deaths: dict[str, str] = {}
        self.stopping = False
        self.busy_seconds = 0.0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            if worker.task is not None:
                worker.process.kill()
        for worker in self._workers:
            # An idle worker leaves by itself, and takes its locks with it, as its pipe has ended.
            worker.process.join(timeout=_LEAVE_SECONDS)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Execute tasks in their order, as events; ends when none is left or running."""
        self._waiting.extend((task, 1) for task in tasks)
        for _ in range(min(self.jobs, len(tasks))):
            if not self.stopping:
                self._workers.append(self._start())
                # The first start takes seconds: who was asked to stop meanwhile begins nothing.
                yield Event([], ())
        self._feed()
        while any(worker.task for worker in self._workers):
            for outcomes in self._listen():
                self._feed()
                yield Event(outcomes, self._running())

    def interrupt(self, reason: str) -> list[Outcome]:
        """End what is running at once; returns its records with the state ``interrupted``."""
        outcomes = []
        for worker in self._workers:
            if worker.task is not None:
                worker.process.kill()
                status = Status(state="interrupted", reason=reason)
                outcomes += unfinished(worker.task, status)
                worker.task = None
        return outcomes

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._threads), daemon=True)
        with without_the_script(), not_to_be_stopped():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _feed(self) -> None:
        for worker in self._workers:
            if worker.task is None and self._waiting and not self.stopping:
                worker.task, worker.attempt = self._waiting.popleft()
                worker.begun, worker.share, worker.losses = math.inf, 0.0, ()
                # A worker that died meanwhile is found by _listen, as its pipe has ended.
                with suppress(BrokenPipeError, ConnectionResetError):
                    worker.connection.send(worker.task)

    def _listen(self) -> Iterator[list[Outcome]]:
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        ready = wait(list(busy), timeout=0.5)
        if not ready:
            # The listener looks at signals between events, so there is one even when nothing moves.
            yield []
        for connection in ready:
            worker = busy[connection]  # type: ignore[index]  # wait() is typed for sockets too
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):  # OSError: killed in the middle of a message
                yield self._bury(worker)
                continue
            if isinstance(message, Begun):
                worker.begun = time.monotonic()
            elif isinstance(message, Progressed):
                worker.share, worker.losses = message.epoch / message.epochs, message.losses
                yield []
            elif isinstance(message, Finished):
                self.busy_seconds += message.seconds
                yield self._finish(worker, message.outcomes)
        for worker in list(self._workers):
            if worker.task is not None and self._over_time(worker, worker.task):
                yield self._end(worker, worker.task)

    def _over_time(self, worker: _Worker, task: Task) -> bool:
        return time.monotonic() - worker.begun > self._time_limit * len(task.cells)

    def _end(self, worker: _Worker, task: Task) -> list[Outcome]:
        """End a worker whose time is up; of a pack, try each cell alone."""
        worker.process.kill()
        self.busy_seconds += time.monotonic() - worker.begun
        self._replace(worker)
        if len(task.cells) > 1:
            self._try_alone(task)
            return []
        return unfinished(task, _timeout(worker, self._time_limit))

    def _finish(self, worker: _Worker, outcomes: list[Outcome]) -> list[Outcome]:
        """Take a worker's records; of a pack that failed, try each cell alone."""
        task, worker.task = worker.task, None
        failed = any(outcome.record.status.state == "failed" for outcome in outcomes)
        if task is None or not failed or len(task.cells) == 1:
            return [self._with_history(outcome) for outcome in outcomes]
        self._try_alone(task)
        return []

    def _bury(self, worker: _Worker) -> list[Outcome]:
        """A worker died: try its task once more, then record how it ended; start another worker."""
        task, attempt = worker.task, worker.attempt
        self._replace(worker)
        if task is None:
            return []
        ended = _ended(worker.process.exitcode)
        self._deaths |= dict.fromkeys(task.cell_ids, ended)
        if len(task.cells) > 1:
            self._try_alone(task)
            return []
        if attempt < _ATTEMPTS:
            self._waiting.appendleft((task, attempt + 1))
            return []
        return unfinished(task, _death(worker.process.exitcode))

    def _replace(self, worker: _Worker) -> None:
        """Start another worker for one that has died."""
        worker.process.join(timeout=5)
        worker.connection.close()
        worker.task = None
        if not self.stopping:
            self._workers[self._workers.index(worker)] = self._start()

    def _try_alone(self, task: Task) -> None:
        """Have each cell of a pack trained by itself, before all that waits."""
        cells = zip(task.cells, task.cell_ids, strict=True)
        singles = [replace(task, cells=(cell,), cell_ids=(name,)) for cell, name in cells]
        self._waiting.extendleft((single, 1) for single in reversed(singles))

    def _with_history(self, outcome: Outcome) -> Outcome:
        """A record that came at a second try says so: no death of a worker stays silent."""
        ended = self._deaths.get(outcome.record.cell_id)
        if ended is None:
            return outcome
        warnings = [*outcome.record.warnings, f"trained at a second try: the first worker {ended}"]
        return replace(outcome, record=outcome.record.model_copy(update={"warnings": warnings}))

    def _running(self) -> tuple[Running, ...]:
        return tuple(
            Running(worker.task, worker.share, worker.losses)
            for worker in self._workers
            if worker.task is not None
        )


def _ended(code: int | None, times: str = "") -> str:
    """How a worker ended, in words that follow "the worker"."""
    if code is None or code >= 0:
        return f"left{times} with exit code {code}"
    killed = " (killed, likely out of memory)" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{times}{killed}"


def _death(code: int | None) -> Status:
    reason = f"the worker {_ended(code, ' twice')}"
    return Status(state="failed", reason=reason, detail={"kind": "worker", "exit_code": code})


def _timeout(worker: _Worker, limit: float) -> Status:
    """How far a cell got in its time is a detail, lest each have a reason of its own."""
    detail: dict[str, JsonValue] = {
        "time_limit": limit,
        "share_of_epochs": worker.share,
        "losses": list(worker.losses),
    }
    return Status(state="timeout", reason=f"it took longer than {limit:g} s", detail=detail)
