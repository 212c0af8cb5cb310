"""Where the workers' time went, from records and the wall clock."""

import pytest

from vaebench.grid.cell import Cell
from vaebench.records.schema import CellRecord, Environment, Metric, Status
from vaebench.runner.messages import Outcome
from vaebench.runner.worker_time import WorkerTime


def outcome(**seconds: float) -> Outcome:
    metrics = {name: Metric.measured(name, value) for name, value in seconds.items()}
    record = CellRecord(
        cell_id="a",
        grid="g",
        cell=Cell(),
        data=None,
        status=Status(state="done"),
        metrics=metrics,
        comparable="mass",
        environment=Environment(),
    )
    return Outcome(record, {})


def test_the_shares_add_up_to_all_the_time_that_the_workers_were_there() -> None:
    spent = WorkerTime(workers=2, wall=10.0, busy=16.0)
    spent.add([outcome(train_seconds=6.0, evaluation_seconds=5.0, tsne_seconds=4.0)])
    spent.add([outcome(train_seconds=2.0)])
    assert spent.shares() == pytest.approx(
        {
            "training": 0.4,
            "t-SNE": 0.2,
            "other evaluation": 0.05,
            "data, models and records": 0.15,
            "starting and waiting": 0.2,
        }
    )
    assert spent.text().startswith("2 workers for 10 s: training 40%, t-SNE 20%")


def test_a_run_of_no_time_has_no_shares() -> None:
    assert WorkerTime(workers=1).shares() == {}
