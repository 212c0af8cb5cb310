"""Times a grid of 10,000 cells: plan, find nothing to do, load, export and report.

Each command runs in a fresh process. The limits are on its CPU time, not on the wall's: a machine
that is busy with something else makes a command late, but hardly dearer. A report's is on the
wall's, since it is made by several processes at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fresh_process import Cost, cost_of, vaebench
from benchmarks.many_records import CELLS, GRID, fill
from vaebench.grid.spec import Grid

_GIGABYTE = 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the grid file `many.toml` and `store`, where each of its cells has a record."""
    made = tmp_path_factory.mktemp("scale")
    (made / "many.toml").write_text(GRID, encoding="utf-8")
    grid = Grid.load(made / "many.toml")
    assert len(grid.cells) == CELLS
    fill(made / "store", grid)
    return made


def _measured(
    benchmark: Any, command: Sequence[str], folder: Path, rounds: int, by: str = "cpu_seconds"
) -> Cost:
    """The round that took the least time: disturbances only add time."""
    costs: list[Cost] = []
    benchmark.pedantic(lambda: costs.append(cost_of(command, folder)), rounds=rounds)
    least = min(costs, key=attrgetter(by))
    benchmark.extra_info["cpu_seconds"] = [cost.cpu_seconds for cost in costs]
    benchmark.extra_info["wall_seconds"] = [cost.wall_seconds for cost in costs]
    benchmark.extra_info["peak_bytes"] = max(cost.peak_bytes for cost in costs)
    return least


def _keeps_to(cost: Cost, cpu_seconds: float) -> None:
    assert cost.cpu_seconds < cpu_seconds
    assert cost.peak_bytes < _GIGABYTE


def test_help(benchmark: Any, tmp_path: Path) -> None:
    cost = _measured(benchmark, vaebench("--help"), tmp_path, rounds=5)
    assert "Usage" in cost.output
    _keeps_to(cost, 0.3)


def test_plan(benchmark: Any, folder: Path) -> None:
    command = vaebench("run", "many.toml", "-o", "empty", "--dry-run")
    cost = _measured(benchmark, command, folder, rounds=3)
    assert f"to do: {CELLS:,} cells" in cost.output
    _keeps_to(cost, 2)


def test_resume(benchmark: Any, folder: Path) -> None:
    """One cell in 200 diverged, which is not tried again: exit 1."""
    command = vaebench("run", "many.toml", "-o", "store", "--no-report")
    cost = _measured(benchmark, command, folder, rounds=3)
    assert f"all {CELLS} cells have a record" in cost.output
    assert cost.code == 1
    _keeps_to(cost, 5)


def test_load(benchmark: Any, folder: Path) -> None:
    code = "import vaebench; print(len(vaebench.load_results('store')))"
    cost = _measured(benchmark, [sys.executable, "-c", code], folder, rounds=3)
    assert cost.output.split() == [str(CELLS)]
    _keeps_to(cost, 10)


def test_export(benchmark: Any, folder: Path) -> None:
    command = vaebench("export", "store", "-o", "table.csv")
    cost = _measured(benchmark, command, folder, rounds=3)
    assert f"{CELLS} rows" in cost.output
    _keeps_to(cost, 10)


def test_report(benchmark: Any, folder: Path) -> None:
    """The page stays small enough that a browser opens it at once."""
    command = vaebench("report", "store", "-o", "report")
    cost = _measured(benchmark, command, folder, rounds=3, by="wall_seconds")
    page = folder / "report" / "index.html"
    benchmark.extra_info["page_bytes"] = page.stat().st_size
    assert cost.code == 0
    assert page.stat().st_size < 5_000_000
    assert cost.wall_seconds < 30
    assert cost.peak_bytes < _GIGABYTE
