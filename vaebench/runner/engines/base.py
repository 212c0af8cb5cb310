"""The protocols of engines, which start workers, and of workers, which train; needs no torch.

The modules `local` and `ray_cluster` implement the protocols of this module.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, Self

from vaebench.runner.messages import Message, Task

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")


class WorkerDied(Exception):
    """A worker ended unexpectedly, and its task with it; `Worker.ended` says how."""


class Worker(Protocol):
    """A process that trains, one task at a time."""

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process; minus the signal number after a signal; None if unknown."""

    def is_up(self) -> bool:
        """Whether the worker can receive a task."""

    def send(self, task: Task) -> None:
        """Send a task to the worker; if it has died, the next `receive` raises."""

    def stop(self, reason: str) -> None:
        """Ask the worker to save its training at the end of the epoch and to end its task."""

    def receive(self) -> Message | None:
        """Return the worker's next message, or None if it has only started.

        Raises:
            WorkerDied: the worker ended unexpectedly.
        """

    def leave(self) -> None:
        """Ask the worker to end when it is idle; returns immediately."""

    def kill(self) -> None:
        """End the worker immediately."""

    def join(self) -> None:
        """Wait a few seconds for the worker to end, then kill it."""

    def ended(self, times: str = "") -> str:
        """Return how it ended, as words that follow "the worker"; ``times`` may be " twice"."""


class Engine(Protocol):
    """Starts workers and receives their messages; leaving its context ends the workers."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def elsewhere(self) -> str | None:
        """Return the place of the workers in words; None if all are on this machine."""

    def devices(self) -> list[str]:
        """Return the devices that ``available`` stands for."""

    def jobs(self, wanted: int | None, devices: Collection[str]) -> int:
        """Return the number of workers for cells on these devices, at most ``wanted`` if given."""

    def start(self) -> Worker:
        """Start a worker.

        Raises:
            EngineError: the worker cannot be started.
        """

    def wait(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """Wait for messages; return the workers that have one, or none after the seconds."""
