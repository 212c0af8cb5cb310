"""A cell's record to write, with any field changed."""

from vaebench.grid.cell import Cell
from vaebench.records.schema import (
    CellRecord,
    DataFacts,
    Environment,
    Metric,
    Note,
    Status,
)

DIGITS = DataFacts(
    name="digits",
    checksum="ab" * 32,
    shape=(1, 8, 8),
    levels=17,
    binarization="none",
    dequantize=False,
    n_train=1437,
    n_valid=0,
    n_test=360,
    support="grey",
)


def cell_record(**changes: object) -> CellRecord:
    fields: dict[str, object] = {
        "cell_id": "digits-gaussian-s0.1-z8-seed0-0123456789",
        "grid": "tiny",
        "cell": Cell(likelihood="gaussian", sigma=0.1),
        "data": DIGITS,
        "status": Status(state="done"),
        "metrics": {
            "elbo": Metric.measured("elbo", 12.5, n=360, se=0.25),
            "kl": Metric.measured("kl", 1 / 3, n=360),
            "knn_accuracy": Metric.absent(
                "knn_accuracy", Note.of("no_labels", "the data have no labels")
            ),
        },
        "series": {"train_elbo": [-3.5, None], "sigma": [0.1, 0.1]},
        "environment": Environment(versions={"python": "3.11.7", "torch": "2.13.0"}, cores=2),
        "comparable": "density",
    }
    return CellRecord(**{**fields, **changes})
