"""Workers on the machines of a Ray cluster; only the driver writes to the store.

A worker is a Ray actor that runs `vaebench.runner.worker`; its messages are the items of a
streaming generator. Ray and vaebench must be installed on every machine. Data, a user's network
and checkpoints are used if they have the same path there, as on a shared file system.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, cast

from vaebench import __version__
from vaebench.errors import EngineError
from vaebench.runner.engines.base import Worker, WorkerDied
from vaebench.runner.messages import Finished, Message, StopRequest, Task
from vaebench.system.terminal import capped

_DATA = "VAEBENCH_DATA"
_CONNECT_SECONDS = 10.0
_INIT_SECONDS = 120.0


class _Actor:
    """The actor: a worker's loop in a thread of a Ray process, connected by a pipe.

    Args:
        version: the driver's version of vaebench; another version could give other results.
        folder: the driver's working folder, in which a user's network and data are searched.
        data: the driver's ``VAEBENCH_DATA``.
    """

    def __init__(self, version: str, folder: str, data: str | None) -> None:
        if version != __version__:
            raise EngineError(f"has vaebench {__version__}, but must have {version}: install it")
        with suppress(OSError):  # cells that do not need the folder run without it
            os.chdir(folder)
        if data is not None:
            os.environ.setdefault(_DATA, data)
        self._connection, theirs = Pipe()
        threading.Thread(target=_work, args=(theirs,), daemon=True).start()

    def train(self, task: Task) -> Iterator[Message]:
        """Yield the worker's messages about a task as they come."""
        if task.checkpoints is not None and not task.checkpoints.parent.is_dir():
            # The store is not reachable here: a stopped training starts again from epoch 1.
            task = replace(task, checkpoints=None)
        self._connection.send(task)
        message: Message | None = None
        while not isinstance(message, Finished):
            message = cast("Message", self._connection.recv())
            yield message

    def stop(self, reason: str) -> None:
        """Ask the worker to save its training; called while `train` runs."""
        self._connection.send(StopRequest(reason))


def _work(connection: Connection) -> None:
    # The driver needs no torch.
    from vaebench.runner.worker import work

    # On an error the pipe closes, so the other end is notified.
    with connection:
        work(connection)


class RayWorker:
    """A `Worker` on a machine of the cluster, started when Ray has resources for it."""

    exit_code = None

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.awaited = actor.__ray_ready__.remote()
        self._up = False
        self._ended = "was ended"

    def is_up(self) -> bool:
        """Whether the worker has started."""
        return self._up

    def send(self, task: Task) -> None:
        """Send a task to the worker."""
        self.awaited = self._actor.train.remote(task)

    def stop(self, reason: str) -> None:
        """Ask the worker to save its training; see `Worker`."""
        self._actor.stop.remote(reason)

    def receive(self) -> Message | None:
        """Return the worker's next message; see `Worker`."""
        try:
            if not self._up:
                self._ray.get(self.awaited)
                self._up = True
                return None
            return cast("Message", self._ray.get(next(self.awaited)))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            self._ended = _cause(error)
            raise WorkerDied from error

    def leave(self) -> None:
        """Do nothing: an idle actor holds no locks."""
        self.kill()

    def kill(self) -> None:
        """End the worker immediately."""
        self._ray.kill(self._actor)

    def join(self) -> None:
        """Do nothing: Ray ends killed actors."""

    def ended(self, times: str = "") -> str:
        """Return how the worker ended; see `Worker`."""
        verb, _, rest = self._ended.partition(" ")
        return f"{verb}{times} {rest}".rstrip()


def _cause(error: Exception) -> str:
    """Return how a worker ended, without the addresses in Ray's own messages."""
    if getattr(error, "actor_init_failed", False):
        # The last line is the error raised in `_Actor` or by importing its module.
        kind, _, told = str(error).rstrip().rpartition("\n")[2].partition(": ")
        return told if kind.endswith(EngineError.__name__) else f"did not start: {kind}: {told}"
    if type(error).__name__ == "OutOfMemoryError":
        return "died (out of memory)"
    return "died (see Ray's logs)"


def _check_address(address: str) -> None:
    """Check that a cluster answers at an address; Ray itself would retry for minutes.

    Raises:
        EngineError: there is no answer.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from error


@contextmanager
def _cluster_errors(place: str = "") -> Iterator[None]:
    """Turn any exception of Ray into an EngineError; Ray raises plain exceptions and SystemExit."""
    try:
        yield
    except EngineError:
        raise
    except (Exception, SystemExit) as error:
        told = capped(str(error).strip().partition("\n")[0], 500)
        raise EngineError(f"the Ray cluster{place} cannot be used: {told}") from error


def _init(ray: Any) -> None:
    """Connect to a cluster or start one, within a time limit.

    Ray retries for many minutes if a cluster on this machine is shutting down, so it is called in a
    thread: this function can return after the time limit or at a signal, and the thread does not
    prevent the process from ending.
    """
    failures: list[BaseException] = []
    answered = threading.Event()

    def connect() -> None:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except BaseException as error:  # noqa: BLE001 -- raised again below
            failures.append(error)
        answered.set()
        # The thread must stay alive: a cluster ends with the thread that started it.
        threading.Event().wait()

    threading.Thread(target=connect, daemon=True).start()
    if not answered.wait(_INIT_SECONDS):
        raise EngineError(
            f"Ray did not connect within {_INIT_SECONDS:.0f} s; a cluster on this machine may be "
            "ending: run it again, or set RAY_ADDRESS (local starts a new cluster)"
        )
    if failures:
        raise failures[0]


class RayEngine:
    """An `Engine` of a Ray cluster: a running one (``RAY_ADDRESS``), or one started here.

    A worker has one core, and one GPU if cells use GPUs and the cluster has any.
    """

    def __init__(self) -> None:
        self._connected: Any = None
        self._is_ours = False
        self._gpus = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect from the cluster; a cluster started here is shut down."""
        if self._is_ours:
            self._connected.shutdown()

    @_cluster_errors()
    def elsewhere(self) -> str:
        """Return the cluster's address and size; connects if necessary."""
        ray = self._ray()
        machines = sum(node["Alive"] for node in ray.nodes())
        many = "s" * (machines != 1)
        address = ray.get_runtime_context().gcs_address
        return f"the Ray cluster at {address} ({machines} machine{many})"

    @_cluster_errors()
    def devices(self) -> list[str]:
        """Return ``cpu``, and ``cuda`` if a machine of the cluster has a GPU."""
        return ["cpu", "cuda"] if self._resource("GPU") else ["cpu"]

    @_cluster_errors()
    def jobs(self, wanted: int | None, devices: Collection[str]) -> int:
        """Return one job for each core, or for each GPU if cells use GPUs, at most ``wanted``."""
        on_gpus = any(device.startswith("cuda") for device in devices)
        gpus = self._resource("GPU") if on_gpus else 0
        self._gpus = min(gpus, 1)
        most = gpus or max(self._resource("CPU"), 1)
        return min(wanted or most, most)

    @_cluster_errors()
    def start(self) -> RayWorker:
        """Ask Ray for a worker; it starts when a node has room for it."""
        ray = self._ray()
        actor = ray.remote(num_cpus=1, num_gpus=self._gpus, max_concurrency=2)(_Actor)
        return RayWorker(ray, actor.remote(__version__, str(Path.cwd()), os.environ.get(_DATA)))

    @_cluster_errors()
    def wait(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """Return the workers with a message."""
        ours = {worker.awaited: worker for worker in workers if isinstance(worker, RayWorker)}
        if not ours:
            time.sleep(seconds)
            return []
        ready, _ = self._ray().wait(list(ours), num_returns=1, timeout=seconds)
        return [ours[awaited] for awaited in ready]

    def _resource(self, name: str) -> int:
        return int(self._ray().cluster_resources().get(name, 0))

    def _ray(self) -> Any:
        """Return the module of Ray, connected to a cluster.

        Raises:
            EngineError: Ray is not installed, or the cluster does not answer.
        """
        if self._connected is None:
            # Ray reports no usage statistics unless the user asks for it.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                import ray
            except ImportError as error:
                raise EngineError(
                    "the engine ray needs Ray, which is not installed: pip install 'vaebench[ray]'"
                ) from error
            if not ray.is_initialized():
                address = os.environ.get("RAY_ADDRESS", "")
                _check_address(address)
                with _cluster_errors(f" at RAY_ADDRESS={address}" if address else ""):
                    _init(ray)
                self._is_ours = True
            self._connected = ray
        return self._connected
