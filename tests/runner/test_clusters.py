"""Runs on a Ray cluster: the same numbers, and the same care for what goes wrong."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_grids import BASE, grid
from stored_numbers import numbers

from vaebench.errors import EngineError
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.engines import engine_of
from vaebench.runner.engines import ray_cluster as cluster
from vaebench.runner.engines.base import WorkerDied
from vaebench.runner.engines.ray_cluster import RayEngine, RayWorker
from vaebench.runner.messages import Message, Progressed, Task
from vaebench.runner.run import RunSummary
from vaebench.runner.run import run as run_grid

HERE = Path(__file__).parent
pytestmark = [
    # Ray leaves sockets and log files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def run(made: Grid, root: Path, **options: Any) -> RunSummary:
    return run_grid(made, Store(root), echo=lambda _: None, **options)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two machines, as far as Ray can tell: one core and one GPU each."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # A user's own networks, as they would lie in the working folder of every machine.
        patch.setenv("PYTHONPATH", str(HERE))
        patch.syspath_prepend(str(HERE))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
        made.add_node(num_cpus=1, num_gpus=1)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


def test_a_cluster_gives_the_bits_of_this_machine(nodes: Any, tmp_path: Path) -> None:
    made = grid(likelihood=["gaussian", "bernoulli"], seed=[0, 1])
    there = run(made, tmp_path / "there", engine="ray", jobs=2)
    here = run(made, tmp_path / "here", jobs=1)
    assert there.states() == here.states() == {"done": 4}
    assert numbers(tmp_path / "there") == numbers(tmp_path / "here")
    # One writer: nothing to do is found by the records, wherever they were trained.
    assert run(made, tmp_path / "there", engine="ray").trained == {}


def test_jobs_and_devices_are_those_of_the_cluster(nodes: Any) -> None:
    with RayEngine() as engine:
        assert engine.devices() == ["cpu", "cuda"]
        assert engine.jobs(None, {"cpu"}) == 2
        assert engine.jobs(1, {"cpu"}) == 1
        assert engine.jobs(7, {"cpu", "cuda"}) == 2


def test_a_run_says_which_cluster_it_is_on(nodes: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    run_grid(grid(), Store(tmp_path), engine="ray", echo=lines.append)
    assert f"workers: on the Ray cluster at {nodes.address} (2 machines)" in lines


def test_a_worker_that_dies_takes_only_its_cell_with_it(nodes: Any, tmp_path: Path) -> None:
    made = grid(architecture=["hostile_networks:killed_always", "hostile_networks:sound"])
    summary = run(made, tmp_path, engine="ray", largest_pack=1)
    assert summary.states() == {"done": 1, "failed": 1}
    records, _ = Store(tmp_path).read_all()
    (dead,) = [each for each in records if each.status.state == "failed"]
    assert dead.status.reason is not None
    assert "the worker died twice" in dead.status.reason
    assert "Ray's logs" in dead.status.reason


def test_a_cell_that_hangs_is_ended(nodes: Any, tmp_path: Path) -> None:
    made = grid(architecture=["hostile_networks:hangs", "hostile_networks:sound"])
    summary = run(made, tmp_path, engine="ray", time_limit=3, largest_pack=1)
    assert summary.states() == {"done": 1, "timeout": 1}


def test_a_training_that_is_stopped_is_kept_and_gone_on_with(nodes: Any, tmp_path: Path) -> None:
    # With a fitted scale it is not compiled, which on a busy machine takes the time of grace.
    made = grid(epochs=[2, 1000], likelihood=["gaussian"], sigma=["optimal"])
    store, whole = Store(tmp_path / "stopped"), Store(tmp_path / "whole")

    def ask() -> None:
        end = time.monotonic() + 60
        while not list(store.root.glob("cells/*/record.json")) and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    stopped = run(made, store.root, engine="ray", largest_pack=1)
    asking.join()
    assert stopped.states() == {"done": 1, "interrupted": 1}
    assert run(made, store.root, engine="ray").states() == {"done": 2}
    assert (
        sum(note.code == "resumed" for each in store.read_all()[0] for note in each.warnings) == 1
    )
    run(made, whole.root, largest_pack=1)
    assert numbers(store.root) == numbers(whole.root)


def test_a_machine_that_leaves_is_made_up_for(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Grid.from_dict(
        {"name": "g", "base": BASE | {"epochs": 400}, "axes": {"seed": [0, 1, 2, 3]}}
    )
    other = nodes.add_node(num_cpus=1)
    training: set[int] = set()
    all_at_work = threading.Event()
    receive = RayWorker.receive

    def heard(worker: RayWorker) -> Message | None:
        message = receive(worker)
        if isinstance(message, Progressed):
            training.add(id(worker))
            if len(training) == 3:
                all_at_work.set()
        return message

    def leave() -> None:
        if all_at_work.wait(60):
            nodes.remove_node(other)

    monkeypatch.setattr(RayWorker, "receive", heard)
    leaving = threading.Thread(target=leave)
    leaving.start()
    try:
        summary = run(made, tmp_path, engine="ray", jobs=3, largest_pack=1)
    finally:
        leaving.join()
    assert summary.states() == {"done": 4}
    records, _ = Store(tmp_path).read_all()
    assert sum(note.code == "retried" for each in records for note in each.warnings) == 1


def test_a_device_that_a_machine_lacks_is_unavailable(nodes: Any, tmp_path: Path) -> None:
    # Ray was told of a GPU that is not there.
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    summary = run(grid(device=["cuda"]), tmp_path, engine="ray")
    assert summary.states() == {"unavailable": 1}


def test_another_version_on_a_machine_is_refused(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "__version__", "0.0.1")
    with pytest.raises(EngineError, match=r"no worker can be started.* must have 0\.0\.1"):
        run(grid(seed=[0]), tmp_path, engine="ray", jobs=1)


def test_a_worker_that_was_ended_says_so(nodes: Any) -> None:
    with RayEngine() as engine:
        engine.jobs(1, {"cpu"})
        worker = engine.start()
        deadline = time.monotonic() + 60
        while not worker.is_up() and time.monotonic() < deadline:
            for ready in engine.wait([worker], 1.0):
                assert ready.receive() is None
        worker.kill()
        worker.send(Task((), ("a",), "g", None))
        with pytest.raises(WorkerDied):
            worker.receive()


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'vaebench\[ray\]'"):
        RayEngine().devices()


def test_an_address_where_nobody_answers_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        with pytest.raises(EngineError, match=f"no Ray cluster answers at RAY_ADDRESS={address}"):
            RayEngine().devices()


def test_there_are_two_engines() -> None:
    assert engine_of("local").elsewhere() is None
    with pytest.raises(ValueError, match="engine must be one of local, ray; got 'roy'"):
        engine_of("roy")  # type: ignore[arg-type]  # that is the point
