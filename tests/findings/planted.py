"""Records that say what a test wants them to say: the tidy frame of chosen cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.analysis.frame import tidy
from vaebench.findings.evidence import Evidence
from vaebench.findings.finding import Budget, Finding
from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell, cell_id
from vaebench.records.schema import NOT_A_LIKELIHOOD, CellRecord, DataFacts, Metric, Note, Status

CHECKSUM = "0f" * 32
Numbers = Mapping[str, float]

# Metrics of a dull cell; a planted world changes some of them.
_DULL: Numbers = {
    "elbo": -20.0,
    "elbo_train": -20.0,
    "kl": 5.0,
    "kl_train": 5.0,
    "reconstruction_error": 15.0,
    "reconstruction_error_at_mean": 15.0,
    "mse": 0.04,
    "sigma_fitted": 0.2,
    "active_units": 8.0,
    "iw_bound": -19.0,
    "iw_se": 0.01,
    "posterior_gap": 1.0,
    "nonzero_codes": 8.0,
    "mutual_information": 4.0,
    "mutual_information_ceiling": 5.9,
    "bits_per_dim": 20.0 / (64 * np.log(2)),
}


def record(cell: Cell, numbers: Numbers, series: Mapping[str, Sequence[float]]) -> CellRecord:
    binary = cell.binarization != "none"
    grey = cell.likelihood == "bernoulli" and not binary
    support = "binary" if binary else "dequantised" if cell.dequantize else "grey"
    return CellRecord(
        cell_id=cell_id(cell, CHECKSUM),
        grid="planted",
        cell=cell,
        data=DataFacts(
            name=cell.dataset,
            checksum=CHECKSUM,
            shape=(1, 8, 8),
            levels=2 if binary else 17,
            binarization=cell.binarization,
            dequantize=cell.dequantize,
            n_train=60_000 if "mnist" in cell.dataset else 1437,
            n_valid=0,
            n_test=360,
            support=support,
        ),
        status=Status(state="done"),
        metrics={
            name: Metric.absent(name, Note.of("not_requested", "planted"))
            if value is None
            else Metric.measured(name, float(value))
            for name, value in numbers.items()
        },
        series={name: list(values) for name, values in series.items()},
        comparable=NOT_A_LIKELIHOOD if grey else LIKELIHOODS[cell.likelihood].kind,
    )


def noise(cell: Cell, size: float) -> float:
    """The same small number for the same seed and design: an honest spread over seeds."""
    return float(np.random.default_rng([cell.seed, cell.latent_dim, cell.epochs]).normal(0, size))


HELD = ("reproduced", "shown at this budget")
FAILED = ("contradicted", "not shown at this budget")
"""What a test finds where the claim holds, and where it does not, in any setting."""


def evidence(
    finding: Finding,
    numbers: Callable[[Cell], Numbers],
    *,
    budget: Budget = "quick",
    seeds: int | None = None,
    arrays: Callable[[Cell], Mapping[str, NDArray[Any]]] | None = None,
    series: Callable[[Cell], Mapping[str, Sequence[float]]] = lambda _: {},
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Evidence:
    """The evidence of a world in which every cell of a finding measured `numbers(cell)`."""
    cells: Iterable[Cell] = finding.cells(budget)
    kept = [cell for cell in cells if seeds is None or cell.seed < seeds]
    records = [record(cell, {**_DULL, **numbers(cell)}, series(cell)) for cell in kept]
    stored = {} if arrays is None else {cell_id(cell, CHECKSUM): arrays(cell) for cell in kept}
    return Evidence(
        tidy([(each, "planted") for each in records]),
        lambda name: stored.get(name, {}),
        {each.cell_id: each.series for each in records},
        facts or {},
    )
