"""Where the processes that train are started, and how a run speaks to them; needs no torch.

The modules `local` and `ray_cluster` implement the protocols of this module.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, Self

from vaebench.runner.messages import Message, Task

__all__ = ["ENGINES", "Engine", "EngineName", "Worker", "WorkerDied"]

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")


class WorkerDied(Exception):
    """A worker ended by itself, and what it was at with it; `Worker.ended` says how."""


class Worker(Protocol):
    """A process that trains, one task at a time."""

    @property
    def exit_code(self) -> int | None:
        """That of its process, minus the signal's number where one ended it; None if unknown."""

    def is_up(self) -> bool:
        """Whether it can be given a task."""

    def send(self, task: Task) -> None:
        """Give it a task; one that died meanwhile says so at the next `receive`."""

    def stop(self, reason: str) -> None:
        """Have it keep its training at the end of the epoch, and end its task so."""

    def receive(self) -> Message | None:
        """What it has to say, None if no more than that it is up.

        Raises:
            WorkerDied: it ended by itself.
        """

    def leave(self) -> None:
        """Have it end as soon as it is idle; returns at once."""

    def kill(self) -> None:
        """End it at once."""

    def join(self) -> None:
        """Wait until it has ended, for a few seconds; then end it."""

    def ended(self, times: str = "") -> str:
        """How it ended, in words that follow "the worker"; ``times`` is put in, as " twice"."""


class Engine(Protocol):
    """Starts workers, and hears them; a context that ends what it began."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def elsewhere(self) -> str | None:
        """Where the workers are, in words; None where all are on this machine."""

    def devices(self) -> list[str]:
        """The kinds of device that ``available`` stands for."""

    def jobs(self, wanted: int | None, devices: Collection[str]) -> int:
        """How many workers to start for cells on these devices; ``wanted`` is the user's word."""

    def start(self) -> Worker:
        """Start a worker.

        Raises:
            EngineError: none can be started.
        """

    def wait(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """Those that have something to say, as soon as there is one; none after the seconds."""
