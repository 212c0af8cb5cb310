"""Records to write, and a small run."""

from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.records.schema import CellRecord, Status
from vaebench.records.store import Store
from vaebench.runner.run import RunSummary, run

BASE: dict[str, object] = {
    "train_size": 200,
    "test_size": 50,
    "batch_size": 20,
    "hidden": [8],
    "latent_dim": 2,
    "epochs": 2,
    "tsne_points": 0,
}


def record(name: str, **changes: object) -> CellRecord:
    made = CellRecord(
        cell_id=name,
        grid="faults",
        cell=Cell(),
        data=None,
        status=Status(state="done"),
        comparable="mass",
    )
    return made.model_copy(update=changes)


def small_grid() -> Grid:
    return Grid.from_dict({"name": "small", "base": BASE, "axes": {"seed": [0, 1]}})


def small_run(store: Store, **options: object) -> tuple[RunSummary, list[str]]:
    lines: list[str] = []
    settings: dict[str, object] = {"jobs": 1, "largest_pack": 1, "echo": lines.append}
    summary = run(small_grid(), store, **(settings | options))  # type: ignore[arg-type]  # any type
    return summary, lines
