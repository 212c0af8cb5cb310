"""Work grows with the number of cells and no faster: calls are counted, so no clock decides."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from click.testing import CliRunner
from synthetic import record

from vaebench.analysis.frame import load_results, load_with_damage, read_results
from vaebench.cli.main import cli
from vaebench.data.catalog import fingerprint
from vaebench.grid.cell import cell_id
from vaebench.grid.spec import Grid
from vaebench.records.files import Files
from vaebench.records.store import Store
from vaebench.report.overview import result_tables
from vaebench.runner.plan import make_plan
from vaebench.runner.run import run

FEW, MANY = 60, 240
# What is done once makes the ratio smaller than that of the cells; a square would make it 16.
MOST = 1.1 * MANY / FEW


class Unsynced(Files):
    """Files that need not outlive the test, and the names of those that are read."""

    def __init__(self) -> None:
        self.read_names: list[str] = []

    def sync(self, descriptor: int) -> None: ...

    def sync_folder(self, folder: Path) -> None: ...

    def read(self, path: Path, *most: int) -> bytes:
        self.read_names.append(f"{path.parent.name}/{path.name}")
        return super().read(path, *most)


def grid_of(cells: int) -> Grid:
    axes = {"sigma": [0.1, 0.3, "learned"], "latent_dim": [2, 8], "seed": [0, 1]}
    rates = [i / 1000 for i in range(1, cells // 12 + 1)]
    grid = Grid.from_dict(
        {"base": {"likelihood": "gaussian"}, "axes": axes | {"learning_rate": rates}}
    )
    assert len(grid.cells) == cells
    return grid


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A store for each size of grid, in which every cell is done."""
    made = {}
    checksum = fingerprint("digits")
    for count in (FEW, MANY):
        made[count] = tmp_path_factory.mktemp("results") / f"of-{count}"
        with Store(made[count], Unsynced()).writing() as store:
            for cell in grid_of(count).cells:
                store.write(record(cell, cell_id=cell_id(cell, checksum)))
    return made


def calls_of(action: Callable[[], object]) -> int:
    """How many functions an action calls, those written in C among them."""
    count = 0

    def tally(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    action()  # What is imported or remembered once is not counted.
    sys.setprofile(tally)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_a_plan_grows_with_its_cells() -> None:
    few, many = (calls_of(lambda c=c: make_plan(grid_of(c), {})) for c in (FEW, MANY))
    assert many < MOST * few


def test_loading_grows_with_the_records(roots: dict[int, Path]) -> None:
    few, many = (calls_of(lambda c=c: load_results(roots[c])) for c in (FEW, MANY))
    assert many < MOST * few


def test_tables_grow_with_the_designs(roots: dict[int, Path]) -> None:
    frames = [load_with_damage(roots[count])[0] for count in (FEW, MANY)]
    few, many = (calls_of(lambda f=frame: result_tables(f)) for frame in frames)
    assert many < MOST * few


def test_a_resumed_run_reads_each_record_once(roots: dict[int, Path]) -> None:
    files = Unsynced()
    summary = run(grid_of(MANY), Store(roots[MANY], files))
    assert len(summary.finished) == MANY
    assert not summary.trained
    assert sorted(files.read_names) == sorted(f"{name}/record.json" for name in summary.finished)


def test_a_report_reads_each_record_once(
    roots: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, names = Files.read, []

    def noted(files: Files, path: Path, *most: int) -> bytes:
        names.append(path.name)
        return read(files, path, *most)

    monkeypatch.setattr(Files, "read", noted)
    assert len(read_results([roots[FEW]]).frame) == FEW
    assert names == ["record.json"] * FEW


def test_show_grows_with_the_records_but_not_what_it_prints(roots: dict[int, Path]) -> None:
    def shown(root: Path) -> str:
        return CliRunner().invoke(cli, ["show", str(root)]).output

    few, many = (calls_of(lambda r=roots[count]: shown(r)) for count in (FEW, MANY))
    assert many < MOST * few
    lines = shown(roots[MANY]).splitlines()
    assert len(lines) < 75
    assert sum(f"{MANY // 2 - 60} more designs" in line for line in lines) == 1


def test_show_reads_each_record_once(
    roots: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, names = Files.read, []

    def noted(files: Files, path: Path, *most: int) -> bytes:
        names.append(path.name)
        return read(files, path, *most)

    monkeypatch.setattr(Files, "read", noted)
    CliRunner().invoke(cli, ["show", str(roots[FEW])])
    assert names == ["record.json"] * FEW
