"""How workers leave: an idle one by itself, so that its locks go with it; a busy one at once."""

from vaebench.grid.cell import Cell
from vaebench.runner.local import LocalEngine
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
        (seat,) = pool._seats
        assert pool.interrupt("what a run does at its end, too") == []
    assert states == ["done"]
    assert seat.worker.exit_code == 0


def test_a_busy_worker_is_ended() -> None:
    cell = Cell(epochs=100_000, hidden=(400,), tsne_points=0)
    with Pool(1, LocalEngine()) as pool:
        next(event for event in pool.run([Task((cell,), ("a",), "g", None)]) if event.running)
        (seat,) = pool._seats
    assert seat.worker.exit_code == -9
