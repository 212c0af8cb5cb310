"""The time that the runner adds to a cell, outside training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.run import RunSummary, run

_FEW, _MANY = 2, 10
_OVERHEAD_MOST = 0.05


def _run(folder: Path, cells: int) -> RunSummary:
    """The given number of cells of about a second, one after another in one worker."""
    grid = Grid.from_dict(
        {
            "name": "overhead",
            "base": {"hidden": [64], "epochs": 30, "tsne_points": 300},
            "axes": {"seed": list(range(cells))},
        }
    )
    return run(grid, Store(folder), jobs=1, largest_pack=1, echo=lambda _: None)


def test_overhead_a_cell(benchmark: Any, tmp_path: Path) -> None:
    """The difference between a long and a short run, so that starting the worker is not counted."""
    _run(tmp_path / "first", 1)  # the first run of a process also starts the server of workers
    few, many = _run(tmp_path / "few", _FEW), benchmark.pedantic(_run, (tmp_path / "many", _MANY))
    wall, work = ((_time(many, i) - _time(few, i)) / (_MANY - _FEW) for i in range(2))
    overhead = wall / work - 1
    benchmark.extra_info |= {"cell_seconds": work, "overhead_share": overhead}
    assert 0 < work < wall
    assert overhead < _OVERHEAD_MOST


def _time(summary: RunSummary, which: int) -> float:
    """Wall seconds of the run, or the seconds of work in its records."""
    spent = summary.worker_time
    assert spent is not None
    return (summary.seconds, spent.training + spent.tsne + spent.evaluation)[which]
