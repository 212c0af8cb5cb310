"""How workers leave: an idle one by itself, so that its locks go with it; a busy one at once."""

import subprocess
import sys

from vaebench.grid.cell import Cell
from vaebench.runner.engines.local import LocalEngine
from vaebench.runner.messages import Task
from vaebench.runner.pool import Pool


def test_an_idle_worker_leaves_by_itself() -> None:
    cell = Cell(train_size=100, test_size=20, hidden=(4,), epochs=1, batch_size=50, tsne_points=0)
    with Pool(1, LocalEngine()) as pool:
        states = [
            outcome.record.status.state
            for event in pool.run([Task((cell,), ("a",), "g", None)])
            for outcome in event.outcomes
        ]
        (slot,) = pool._slots
        assert pool.interrupt("what a run does at its end, too") == []
    assert states == ["done"]
    assert slot.worker.exit_code == 0


def test_a_busy_worker_is_ended() -> None:
    cell = Cell(epochs=100_000, hidden=(400,), tsne_points=0)
    with Pool(1, LocalEngine()) as pool:
        next(event for event in pool.run([Task((cell,), ("a",), "g", None)]) if event.running)
        (slot,) = pool._slots
    assert slot.worker.exit_code == -9


_LEAK = """
from multiprocessing import resource_tracker
from vaebench.system.processes import starting_processes

with starting_processes():
    pass
resource_tracker.register("/of-a-worker-that-was-ended", "semaphore")
"""


def test_locks_of_a_worker_that_was_ended_are_put_away_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", _LEAK], capture_output=True, text=True, check=True)
    # The lock is not there any more; that much the tracker may say.
    assert "leaked semaphore" not in done.stderr
