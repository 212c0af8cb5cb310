"""The processes that train: started once, fed one pack at a time, watched."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from vaebench.errors import EngineError
from vaebench.records.schema import Status
from vaebench.runner.engines.base import Engine, Worker, WorkerDied
from vaebench.runner.messages import Begun, Finished, Outcome, Progressed, Task, unfinished

__all__ = ["Event", "Pool", "Running"]

_ATTEMPTS = 2


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
class _Seat:
    """A worker and what it is at."""

    worker: Worker
    task: Task | None = None
    attempt: int = 1
    begun: float = math.inf
    share: float = 0.0
    losses: tuple[float, ...] = field(default_factory=tuple)


class Pool:
    """Workers as a context manager; on leaving it they are ended.

    Args:
        jobs: number of workers.
        engine: starts them.
        time_limit: seconds that a cell may take, evaluation included; a worker that is longer at
            it is ended, also where it hangs.

    Attributes:
        jobs: as given.
        busy_seconds: what the workers spent on packs that ended, added up.
    """

    def __init__(self, jobs: int, engine: Engine, time_limit: float = math.inf) -> None:
        self.jobs, self._engine, self._time_limit = jobs, engine, time_limit
        self._seats: list[_Seat] = []
        self._waiting: deque[tuple[Task, int]] = deque()
        self._deaths: dict[str, str] = {}
        self._failed_starts = 0
        self.stopping = False
        self.busy_seconds = 0.0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats:
            seat.worker.leave()
            if seat.task is not None:
                seat.worker.kill()
        for seat in self._seats:
            seat.worker.bury()
        self._seats.clear()

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Execute tasks in their order, as events; ends when none is left or running.

        Raises:
            EngineError: no worker can be started.
        """
        self._waiting.extend((task, 1) for task in tasks)
        for _ in range(min(self.jobs, len(tasks))):
            if not self.stopping:
                self._seats.append(_Seat(self._engine.start()))
                # The first start takes seconds: who was asked to stop meanwhile begins nothing.
                yield Event([], ())
        self._feed()
        while self._has_work():
            for outcomes in self._listen():
                self._feed()
                yield Event(outcomes, self._running())

    def stop(self, reason: str) -> None:
        """Begin nothing more, and have what is in training kept at the end of its epoch.

        The records of what was kept come as events, with the state ``interrupted``.
        """
        self.stopping = True
        for seat in self._seats:
            if seat.task is not None and seat.task.checkpoints is not None:
                seat.worker.stop(reason)

    def interrupt(self, reason: str) -> list[Outcome]:
        """End what is running at once; returns its records with the state ``interrupted``."""
        outcomes = []
        for seat in self._seats:
            if seat.task is not None:
                seat.worker.kill()
                status = Status(state="interrupted", reason=reason)
                outcomes += unfinished(seat.task, status)
                seat.task = None
        return outcomes

    def _has_work(self) -> bool:
        running = any(seat.task is not None for seat in self._seats)
        return running or bool(self._waiting and not self.stopping)

    def _feed(self) -> None:
        for seat in self._seats:
            if self._waiting and not self.stopping and seat.task is None and seat.worker.is_up():
                seat.task, seat.attempt = self._waiting.popleft()
                seat.begun, seat.share, seat.losses = math.inf, 0.0, ()
                seat.worker.send(seat.task)

    def _listen(self) -> Iterator[list[Outcome]]:
        heard = {
            id(seat.worker): seat
            for seat in self._seats
            if seat.task is not None or not seat.worker.is_up()
        }
        ready = self._engine.wait([seat.worker for seat in heard.values()], 0.5)
        if not ready:
            # The listener looks at signals between events, so there is one even when nothing moves.
            yield []
        for worker in ready:
            yield self._hear(heard[id(worker)])
        for seat in list(self._seats):
            if seat.task is not None and self._over_time(seat, seat.task):
                yield self._end(seat, seat.task)

    def _hear(self, seat: _Seat) -> list[Outcome]:
        try:
            message = seat.worker.receive()
        except WorkerDied:
            return self._bury(seat)
        self._failed_starts = 0
        if isinstance(message, Begun):
            seat.begun = time.monotonic()
        elif isinstance(message, Progressed):
            seat.share, seat.losses = message.epoch / message.epochs, message.losses
        elif isinstance(message, Finished):
            self.busy_seconds += message.seconds
            return self._finish(seat, message.outcomes)
        return []

    def _over_time(self, seat: _Seat, task: Task) -> bool:
        return time.monotonic() - seat.begun > self._time_limit * len(task.cells)

    def _end(self, seat: _Seat, task: Task) -> list[Outcome]:
        """End a worker whose time is up; of a pack, try each cell alone."""
        seat.worker.kill()
        self.busy_seconds += time.monotonic() - seat.begun
        self._replace(seat)
        if len(task.cells) > 1:
            self._try_alone(task)
            return []
        return unfinished(task, _timeout(seat, self._time_limit))

    def _finish(self, seat: _Seat, outcomes: list[Outcome]) -> list[Outcome]:
        """Take a worker's records; of a pack that failed, try each cell alone."""
        task, seat.task = seat.task, None
        failed = any(outcome.record.status.state == "failed" for outcome in outcomes)
        if task is None or not failed or len(task.cells) == 1:
            return [self._with_history(outcome) for outcome in outcomes]
        self._try_alone(task)
        return []

    def _bury(self, seat: _Seat) -> list[Outcome]:
        """A worker died: try its task once more, then record how it ended; start another worker."""
        worker, task, attempt = seat.worker, seat.task, seat.attempt
        if not worker.is_up():
            self._failed_starts += 1
            if self._failed_starts > self.jobs:
                raise EngineError(f"no worker can be started: the last one {worker.ended()}")
        self._replace(seat)
        if task is None:
            return []
        self._deaths |= dict.fromkeys(task.cell_ids, worker.ended())
        if len(task.cells) > 1:
            self._try_alone(task)
            return []
        if attempt < _ATTEMPTS:
            self._waiting.appendleft((task, attempt + 1))
            return []
        return unfinished(task, _death(worker))

    def _replace(self, seat: _Seat) -> None:
        """Start another worker for one that has died."""
        seat.worker.leave()
        seat.worker.bury()
        seat.task = None
        if not self.stopping:
            self._seats[self._seats.index(seat)] = _Seat(self._engine.start())

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
            Running(seat.task, seat.share, seat.losses)
            for seat in self._seats
            if seat.task is not None
        )


def _death(worker: Worker) -> Status:
    reason = f"the worker {worker.ended(' twice')}"
    detail: dict[str, JsonValue] = {"kind": "worker", "exit_code": worker.exit_code}
    return Status(state="failed", reason=reason, detail=detail)


def _timeout(seat: _Seat, limit: float) -> Status:
    """How far a cell got in its time is a detail, lest each have a reason of its own."""
    detail: dict[str, JsonValue] = {
        "time_limit": limit,
        "share_of_epochs": seat.share,
        "losses": list(seat.losses),
    }
    return Status(state="timeout", reason=f"it took longer than {limit:g} s", detail=detail)
