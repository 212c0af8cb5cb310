"""The settings that findings share: equal cells are trained once, whichever finding asks."""

import itertools
from collections.abc import Mapping
from typing import Any

from vaebench.findings.finding import Budget
from vaebench.grid.cell import Cell

__all__ = ["SEEDS", "cells_of"]

SEEDS: Mapping[Budget, tuple[int, ...]] = {"quick": (0, 1, 2, 3, 4), "full": (0, 1, 2)}

_BASE: Mapping[Budget, Mapping[str, Any]] = {
    "quick": {
        "dataset": "digits",
        "hidden": (128,),
        "latent_dim": 8,
        "epochs": 30,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "tsne_points": 0,
    },
    "full": {
        "dataset": "mnist",
        "hidden": (400,),
        "latent_dim": 20,
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "tsne_points": 0,
    },
}


def cells_of(budget: Budget, **axes: Any) -> tuple[Cell, ...]:
    """The product of these axes (a list is several values) over the seeds of a budget."""
    given = {**_BASE[budget], "seed": list(SEEDS[budget]), **axes}
    columns = [value if isinstance(value, list) else [value] for value in given.values()]
    return tuple(
        Cell(**dict(zip(given, values, strict=True))) for values in itertools.product(*columns)
    )
