"""`Pool`: the worker processes, each of which trains one pack of cells at a time.

A pack is a number of cells that are trained as one program.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from vaebench.errors import EngineError
from vaebench.records.schema import Note, Status
from vaebench.runner.engines.base import Engine, Worker, WorkerDied
from vaebench.runner.messages import (
    Begun,
    Finished,
    Outcome,
    Progressed,
    Recorded,
    Task,
    unfinished,
)

_ATTEMPTS = 2


@dataclass(frozen=True)
class Running:
    """A pack in training: its progress (0 to 1) and its last losses in nats per image."""

    task: Task
    share: float
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Event:
    """An event of a pool: records to write, or the progress of a pack (``outcomes`` empty)."""

    outcomes: list[Outcome]
    running: tuple[Running, ...]


@dataclass
class WorkerSlot:
    """A worker and its current task."""

    worker: Worker
    task: Task | None = None
    attempt: int = 1
    begun: float = math.inf
    allowed: float = math.inf
    share: float = 0.0
    losses: tuple[float, ...] = ()


class Pool:
    """A pool of workers as a context manager; leaving it ends the workers.

    A worker that ran a user's own code is replaced after its task, since that code may have
    changed anything in its process.

    Args:
        jobs: number of workers.
        engine: starts them.
        time_limit: seconds that a cell may take, evaluation included; a worker that takes longer
            is ended, also if it hangs.

    Attributes:
        jobs: as given.
        busy_seconds: time that the workers spent on finished packs, added up.
    """

    def __init__(self, jobs: int, engine: Engine, time_limit: float = math.inf) -> None:
        self.jobs, self._engine, self._time_limit = jobs, engine, time_limit
        self._slots: list[WorkerSlot] = []
        self._waiting: deque[tuple[Task, int]] = deque()
        self._deaths: dict[str, str] = {}
        self._failed_starts = 0
        self.stopping = False
        self.busy_seconds = 0.0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            slot.worker.leave()
            # After a request to stop, workers that are still starting can be killed.
            if slot.task is not None or self.stopping:
                slot.worker.kill()
        for slot in self._slots:
            slot.worker.join()
        self._slots.clear()

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Execute tasks in their order and yield events until all tasks are finished.

        Raises:
            EngineError: no worker can be started.
        """
        self._waiting.extend((task, 1) for task in tasks)
        for _ in range(min(self.jobs, len(tasks))):
            if not self.stopping:
                self._slots.append(WorkerSlot(self._engine.start()))
                # The first start takes seconds; the caller checks for signals in between.
                yield Event([], ())
        self._feed()
        while self._has_work():
            for outcomes in self._listen():
                self._feed()
                yield Event(outcomes, self._running())

    def stop(self, reason: str) -> None:
        """Start no more tasks, and save each training in its checkpoint at the end of its epoch.

        The records of these cells follow as events, with the state ``interrupted``.
        """
        self.stopping = True
        for slot in self._slots:
            if slot.task is not None and slot.task.checkpoints is not None:
                slot.worker.stop(reason)

    def interrupt(self, reason: str) -> list[Outcome]:
        """End all running tasks immediately; return their records, state ``interrupted``."""
        outcomes = []
        for slot in self._slots:
            if slot.task is not None:
                slot.worker.kill()
                status = Status(state="interrupted", reason_code="interrupted", reason=reason)
                outcomes += unfinished(slot.task, status)
                slot.task = None
        return outcomes

    def _has_work(self) -> bool:
        running = any(slot.task is not None for slot in self._slots)
        return running or bool(self._waiting and not self.stopping)

    def _feed(self) -> None:
        for slot in self._slots:
            if self._waiting and not self.stopping and slot.task is None and slot.worker.is_up():
                slot.task, slot.attempt = self._waiting.popleft()
                slot.begun, slot.share, slot.losses = math.inf, 0.0, ()
                slot.allowed = self._time_limit * len(slot.task.all_cells())
                slot.worker.send(slot.task)

    def _listen(self) -> Iterator[list[Outcome]]:
        heard = {
            id(slot.worker): slot
            for slot in self._slots
            if slot.task is not None or not slot.worker.is_up()
        }
        ready = self._engine.wait([slot.worker for slot in heard.values()], 0.5)
        if not ready:
            # An empty event lets the caller check for signals.
            yield []
        for worker in ready:
            yield self._hear(heard[id(worker)])
        for slot in list(self._slots):
            if slot.task is not None and time.monotonic() - slot.begun > slot.allowed:
                yield self._end(slot, slot.task)

    def _hear(self, slot: WorkerSlot) -> list[Outcome]:
        try:
            message = slot.worker.receive()
        except WorkerDied:
            return self._dead(slot)
        self._failed_starts = 0
        if isinstance(message, Begun):
            slot.begun = time.monotonic()
        elif isinstance(message, Progressed):
            slot.share, slot.losses = message.epoch / message.epochs, message.losses
        elif isinstance(message, Recorded):
            if slot.task is not None:
                slot.task = slot.task.without([o.record.cell_id for o in message.outcomes])
            return [self._with_history(outcome) for outcome in message.outcomes]
        elif isinstance(message, Finished):
            self.busy_seconds += message.seconds
            return self._finish(slot, message.outcomes)
        return []

    def _end(self, slot: WorkerSlot, task: Task) -> list[Outcome]:
        """End a worker that exceeded the time limit; train each cell of its pack separately."""
        self.busy_seconds += time.monotonic() - slot.begun
        detail: dict[str, JsonValue] = {
            "time_limit": self._time_limit,
            "share_of_epochs": slot.share,
            "losses": list(slot.losses),
        }
        alone = self._try_alone(task)
        slot.worker.kill()
        self._replace(slot)
        # The progress is recorded as a detail, because tables count equal reasons together.
        reason = f"it took longer than {self._time_limit:g} s"
        status = Status(state="timeout", reason_code="timeout", reason=reason, detail=detail)
        return [] if alone else unfinished(task, status)

    def _finish(self, slot: WorkerSlot, outcomes: list[Outcome]) -> list[Outcome]:
        """Return the records of a finished task; if a pack failed, retry its cells separately."""
        task, slot.task = slot.task, None
        failed = any(outcome.record.status.state == "failed" for outcome in outcomes)
        alone = failed and task is not None and self._try_alone(task)
        if task is not None and not alone:
            # Shared cells whose last epoch was before the point at which training was resumed.
            missed = task.without([outcome.record.cell_id for outcome in outcomes]).shared
            for cell, name in missed:
                single = replace(task, cells=(cell,), cell_ids=(name,), shared=())
                self._waiting.appendleft((single, 1))
        if task is not None and any(":" in cell.architecture for cell in task.cells):
            slot.worker.kill()
            self._replace(slot)
        return [] if alone else [self._with_history(outcome) for outcome in outcomes]

    def _dead(self, slot: WorkerSlot) -> list[Outcome]:
        """Handle the death of a worker: retry its task once, or record how the worker ended."""
        worker, task, attempt = slot.worker, slot.task, slot.attempt
        if not worker.is_up():
            self._failed_starts += 1
            if self._failed_starts > self.jobs:
                raise EngineError(f"no worker can be started: the last one {worker.ended()}")
        retried = task is not None and self._try_alone(task)
        if task is not None and not retried and attempt < _ATTEMPTS:
            self._waiting.appendleft((task, attempt + 1))
            retried = True
        self._replace(slot)
        if task is None:
            return []
        self._deaths |= dict.fromkeys(task.cell_ids, worker.ended())
        reason = f"the worker {worker.ended(' twice')}"
        detail: dict[str, JsonValue] = {"exit_code": worker.exit_code}
        status = Status(state="failed", reason_code="worker", reason=reason, detail=detail)
        return [] if retried else unfinished(task, status)

    def _replace(self, slot: WorkerSlot) -> None:
        """End a worker, and start another one if tasks are left."""
        slot.worker.leave()
        slot.worker.join()
        if self._waiting and not self.stopping:
            self._slots[self._slots.index(slot)] = WorkerSlot(self._engine.start())
        else:
            self._slots.remove(slot)

    def _try_alone(self, task: Task) -> bool:
        """Queue each cell of a pack as a separate task; return false for a pack of one cell."""
        if len(task.cells) == 1:
            return False
        self._waiting.extendleft((single, 1) for single in reversed(task.alone()))
        return True

    def _with_history(self, outcome: Outcome) -> Outcome:
        """Add a note to a record if an earlier worker died while training its cell."""
        ended = self._deaths.get(outcome.record.cell_id)
        if ended is None:
            return outcome
        retried = Note.of("retried", f"trained at a second try: the first worker {ended}")
        warnings = [*outcome.record.warnings, retried]
        return replace(outcome, record=outcome.record.model_copy(update={"warnings": warnings}))

    def _running(self) -> tuple[Running, ...]:
        return tuple(
            Running(slot.task, slot.share, slot.losses)
            for slot in self._slots
            if slot.task is not None
        )
