"""Makes a store like that of a run of 10,000 cells, from the committed reference records.

Every record is one of `results/reference/quick` with another cell: its own identity, its numbers
changed slightly, its arrays those of a reference cell of the same latent dimension. The store is
written through `Store`, so it is as valid as a trained one.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vaebench.data.catalog import fingerprint
from vaebench.grid.cell import Cell, cell_id
from vaebench.grid.spec import Grid
from vaebench.records.files import Files
from vaebench.records.schema import CellRecord, Metric, Status
from vaebench.records.store import Store

__all__ = ["CELLS", "GRID", "REFERENCE", "fill"]

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "quick"

CELLS = 10_000

GRID = """
name = "many"
description = "ten thousand cells: 2,000 designs and five seeds"

[base]
dataset = "digits"
hidden = [128]
latent_dim = 8
epochs = 30
batch_size = 64
iw_samples = 64
iw_images = 100

[[axes]]
likelihood = ["bernoulli"]
binarization = ["dynamic"]
latent_dim = [1, 2, 4, 8, 16, 32, 64]
beta = [0.25, 0.5, 1.0, 2.0, 4.0]
learning_rate = [5e-4, 1e-3, 2e-3, 4e-3]
seed = [0, 1, 2, 3, 4]

[[axes]]
likelihood = ["gaussian", "laplace", "logistic", "student_t"]
sigma = [0.05, 0.1, 0.3, 1.0, "learned", "optimal", "per_pixel", "predicted"]
latent_dim = [1, 2, 4, 8, 16, 32, 64]
learning_rate = [5e-4, 1e-3, 2e-3, 4e-3]
weight_decay = [0.0, 1e-4]
seed = [0, 1, 2, 3, 4]

[[axes]]
likelihood = ["continuous_bernoulli", "categorical"]
learning_rate = [5e-4, 1e-3, 2e-3, 4e-3]
seed = [0, 1, 2, 3, 4]

[[axes]]
likelihood = ["gaussian"]
sigma = [0.05, 0.1, 0.3, 1.0, "learned", "optimal"]
posterior = ["full", "delta"]
learning_rate = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
seed = [0, 1, 2, 3, 4]
"""

_DIVERGED_EVERY = 200


class _Unsynced(Files):
    """Files that are not synchronised to disk, which is faster and safe enough here."""

    def sync(self, descriptor: int) -> None:
        del descriptor

    def sync_folder(self, folder: Path) -> None:
        del folder


@dataclasses.dataclass(frozen=True)
class _Template:
    record: CellRecord
    arrays: bytes


def fill(root: Path, grid: Grid) -> None:
    """Make `root` a store with a record and arrays for every cell of the grid.

    One in 200 diverged; all others are done.
    """
    templates = list(_templates())
    checksum = fingerprint("digits")
    draw = np.random.default_rng(0)
    with Store(root, _Unsynced()).writing() as store:
        for place, cell in enumerate(grid.cells, 1):
            design = min(templates, key=lambda each: _design_distance(each.record.cell, cell))
            sized = min(templates, key=lambda each: _size_distance(each.record.cell, cell))
            record = _moved(design.record, cell, cell_id(cell, checksum), draw)
            if place % _DIVERGED_EVERY == 0:
                store.write(_diverged(record))
            else:
                _lay_arrays(root / "cells" / record.cell_id, sized.arrays)
                named = {"arrays_sha256": sized.record.arrays_sha256}
                store.write(record.model_copy(update=named))


def _templates() -> Iterator[_Template]:
    for found in Store(REFERENCE).iter_records():
        if isinstance(found, CellRecord):
            packed = REFERENCE / "cells" / found.cell_id / "arrays.npz"
            yield _Template(found, packed.read_bytes())


def _lay_arrays(folder: Path, packed: bytes) -> None:
    """Write arrays that are packed already; the store keeps the arrays that a record names."""
    folder.mkdir(parents=True)
    (folder / "arrays.npz").write_bytes(packed)


def _design_distance(template: Cell, cell: Cell) -> tuple[bool, bool, bool, bool]:
    same = ("likelihood", "posterior", "sigma", "seed")
    return tuple(getattr(template, axis) != getattr(cell, axis) for axis in same)


def _size_distance(template: Cell, cell: Cell) -> tuple[float, bool, bool]:
    return (
        abs(math.log2(template.latent_dim / cell.latent_dim)),
        template.likelihood != cell.likelihood,
        template.seed != cell.seed,
    )


def _moved(like: CellRecord, cell: Cell, name: str, draw: np.random.Generator) -> CellRecord:
    """The record of a cell with another cell's numbers, changed by latent dimension and noise."""
    size = 1 + 0.05 * math.log2(cell.latent_dim)
    metrics = {
        key: _scaled(each, size * draw.normal(1, 0.01)) for key, each in like.metrics.items()
    }
    fields = {"cell_id": name, "grid": "many", "cell": cell, "metrics": metrics}
    return like.model_copy(update=fields)


def _scaled(metric: Metric, factor: float) -> Metric:
    if metric.value is None or metric.unit in ("count", "share"):
        return metric
    return metric.model_copy(update={"value": metric.value * factor})


def _diverged(record: CellRecord) -> CellRecord:
    """The record of a diverged cell: no metrics and no arrays."""
    status = Status(state="diverged", reason="the loss is not finite at step 345", step=345)
    fields = {"status": status, "metrics": {}, "arrays_sha256": None}
    return record.model_copy(update=fields)
