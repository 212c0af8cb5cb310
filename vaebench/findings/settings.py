"""The conditions under which claims were made, and the cells that several findings train."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from vaebench.analysis.labels import value_text
from vaebench.grid.cell import Cell

Budget = Literal["quick", "full"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)

PART_NAMES = ("data", "network", "optimizer", "initialization", "iterations")
"""The parts of a `Setting`."""

Accepted = Mapping[str, tuple[object, ...]]
"""Maps an axis to the value in the claim, followed by other values that also meet it."""


@dataclass(frozen=True)
class Setting:
    """The conditions under which a claim was made.

    Each part maps an axis to the accepted values: first the published value, then values that test
    the claim at least as well. Axes that are not named do not matter to the claim.

    Attributes:
        text: description of the setting.
        data, network, optimizer, initialization: accepted values by axis.
        iterations: minimum number of training steps; 0 for training to convergence.
        published: whether the setting is from a publication; otherwise this project chose it.
    """

    text: str
    data: Accepted = field(default_factory=dict)
    network: Accepted = field(default_factory=dict)
    optimizer: Accepted = field(default_factory=dict)
    initialization: Accepted = field(default_factory=dict)
    iterations: int = 0
    published: bool = True

    def shortfall(self, rows: pd.DataFrame) -> dict[str, str]:
        """Return the parts that these records do not meet, each with the differing values.

        Args:
            rows: rows of the tidy frame, one per cell.
        """
        found = {}
        for part in PART_NAMES[:-1]:
            differs = [
                f"{axis} {value} for {value_text(accepted[0])}"
                for axis, accepted in getattr(self, part).items()
                for value in rows[axis].map(value_text).unique()
                if value not in map(value_text, accepted)
            ]
            if differs:
                found[part] = ", ".join(differs)
        steps = rows["epochs"] * np.ceil(rows["data_train"].astype(float) / rows["batch_size"])
        fewest = 0 if steps.isna().all() else int(steps.min())
        if fewest < self.iterations:
            found["iterations"] = f"{fewest:,} steps of {self.iterations:,}"
        return found


_BASE: Mapping[Budget, Mapping[str, Any]] = {
    "quick": {
        "dataset": "digits",
        "hidden": (128,),
        "latent_dim": 8,
        "epochs": 30,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "tsne_points": 0,
        "seed": [0, 1, 2, 3, 4],
    },
    "full": {
        "dataset": "mnist",
        "hidden": (400,),
        "latent_dim": 20,
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "tsne_points": 0,
        "seed": [0, 1, 2],
    },
}


def cells_of(budget: Budget, **axes: Any) -> tuple[Cell, ...]:
    """Return the cells with these axes; all other axes have the base values of the budget.

    An axis with a list has several values; the result is the Cartesian product of all lists.
    """
    given = {**_BASE[budget], **axes}
    columns = [value if isinstance(value, list) else [value] for value in given.values()]
    return tuple(
        Cell(**dict(zip(given, values, strict=True))) for values in itertools.product(*columns)
    )


def gaussian_cells(budget: Budget, **axes: Any) -> tuple[Cell, ...]:
    """Return `cells_of` with a Gaussian likelihood, whose sigma is learned unless it is given."""
    return cells_of(budget, **{"likelihood": "gaussian", "sigma": "learned", **axes})
