"""Workers as processes of this machine, started by a fork server that has imported torch."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self, cast

from vaebench.runner.engines.base import Worker, WorkerDied
from vaebench.runner.messages import Message, StopRequest, Task
from vaebench.runner.output import ForwardedOutput
from vaebench.system.processes import end_group, how_ended, starting_processes

_LEAVE_SECONDS = 5.0
# Imported once by the fork server, so that workers start faster. Missing modules are skipped.
_PRELOADED = (
    "vaebench.runner.worker",
    "vaebench.runner.engines.preload",
    "sklearn.datasets",
    "sklearn.neighbors",
)


def default_jobs() -> int:
    """Return the default number of jobs: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalWorker:
    """A `Worker` at the other end of a pipe."""

    def __init__(
        self, process: BaseProcess, connection: Connection, output: ForwardedOutput
    ) -> None:
        self._process, self.connection, self._output = process, connection, output

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process; None while it runs."""
        return self._process.exitcode

    def is_up(self) -> bool:
        """Always true: messages sent while the worker starts wait in the pipe."""
        return True

    def send(self, task: Task | StopRequest) -> None:
        """Send a task to the worker."""
        if isinstance(task, Task):
            self._output.begin_pack()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def stop(self, reason: str) -> None:
        """Ask the worker to save its training; see `Worker`."""
        self.send(StopRequest(reason))

    def receive(self) -> Message:
        """Return the worker's next message; see `Worker`."""
        try:
            return cast("Message", self.connection.recv())
        except (EOFError, OSError) as error:  # OSError: killed in the middle of a message
            raise WorkerDied from error

    def leave(self) -> None:
        """Close the pipe: an idle worker then ends and releases its locks."""
        self.connection.close()

    def kill(self) -> None:
        """End the worker and its children immediately."""
        end_group(self._process.pid)
        self._process.kill()

    def join(self) -> None:
        """Wait for the worker to end, or kill it; its children end in either case."""
        self._process.join(timeout=_LEAVE_SECONDS)
        self.kill()
        self._process.join()
        self._output.close()

    def ended(self, times: str = "") -> str:
        """Return how the worker ended; see `Worker`."""
        return how_ended(self.exit_code, times)


class LocalEngine:
    """An `Engine` of this machine; each worker uses one core."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOADED))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the workers are ended by the pool."""

    def elsewhere(self) -> None:
        """Return None, because all workers are on this machine."""

    def devices(self) -> list[str]:
        """Return one device of each kind on this machine."""
        from vaebench.runner.machine import available_devices

        return available_devices()

    def jobs(self, wanted: int | None, devices: Collection[str]) -> int:
        """Return ``wanted``; by default one job for each core."""
        del devices
        return wanted or default_jobs()

    def start(self) -> LocalWorker:
        """Start a worker; the first takes seconds."""
        with starting_processes():
            ours, theirs = self._context.Pipe()
            reader, writer = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_with_output, args=(writer, _serve, theirs), daemon=True
            )
            process.start()
        theirs.close()
        writer.close()
        return LocalWorker(process, ours, ForwardedOutput(reader))

    def wait(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """Return the workers with a message."""
        ours = {worker.connection: worker for worker in workers if isinstance(worker, LocalWorker)}
        return [
            ours[connection]  # type: ignore[index]  # wait() is typed for sockets too
            for connection in wait(list(ours), timeout=seconds)
        ]


def _with_output(output: Connection, serve: Callable[[Connection], None], ours: Connection) -> None:
    """Serve with standard output and standard error redirected to a pipe."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    # New streams, because those of the fork server may be files with a shared position.
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.FileIO(descriptor, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )
        for descriptor in (1, 2)
    )
    serve(ours)


def _serve(connection: Connection) -> None:
    # Imported here: the parent needs no torch, and the fork server has already imported it.
    from vaebench.runner.worker import serve

    serve(connection)
