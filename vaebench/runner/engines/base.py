"""Where the processes that train are started, and how a run communicates with them; needs no torch.

The modules `local` and `ray_cluster` implement the protocols of this module.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, Self

from vaebench.runner.messages import Message, Task

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")


class WorkerDied(Exception):
    """A worker ended by itself, and its task with it; `Worker.ended` says how."""


class Worker(Protocol):
    """A process that trains, one task at a time."""

    @property
    def exit_code(self) -> int | None:
        """That of its process, minus the signal's number where one ended it; None if unknown."""

    def is_up(self) -> bool:
        """Whether it can be given a task."""

    def send(self, task: Task) -> None:
        """Give it a task; if it has died, the next `receive` raises."""

    def stop(self, reason: str) -> None:
        """Ask it to save its training at the end of the epoch and to end its task."""

    def receive(self) -> Message | None:
        """Return its next message, or None if it has only started.

        Raises:
            WorkerDied: it ended by itself.
        """

    def leave(self) -> None:
        """Ask it to end as soon as it is idle; returns at once."""

    def kill(self) -> None:
        """End it at once."""

    def join(self) -> None:
        """Wait until it has ended, for a few seconds; then end it."""

    def ended(self, times: str = "") -> str:
        """How it ended, in words that follow "the worker"; ``times`` may be " twice"."""


class Engine(Protocol):
    """Starts workers and receives their messages; a context that ends what it started."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def elsewhere(self) -> str | None:
        """Where the workers are, in words; None if all are on this machine."""

    def devices(self) -> list[str]:
        """The kinds of device that ``available`` means."""

    def jobs(self, wanted: int | None, devices: Collection[str]) -> int:
        """How many workers to start for cells on these devices; ``wanted`` is the user's choice."""

    def start(self) -> Worker:
        """Start a worker.

        Raises:
            EngineError: none can be started.
        """

    def wait(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """Return the workers with a message as soon as there is one; none after the seconds."""
