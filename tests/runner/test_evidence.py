"""What a record holds beyond one number a metric: scores for choosing, spectra, shared training."""

from vaebench.grid.cell import Cell
from vaebench.runner.execute import execute
from vaebench.runner.messages import Outcome, Task

SMALL = {"hidden": [8], "latent_dim": 3, "train_size": 200, "test_size": 40, "tsne_points": 0}


def executed(*cells: Cell) -> list[Outcome]:
    return execute(Task(cells, tuple(f"cell{i}" for i, _ in enumerate(cells)), "grid", None))


def test_validation_images_reach_the_evaluation() -> None:
    plain = executed(Cell.model_validate(SMALL | {"epochs": 1}))[0].record.metrics
    valid = executed(Cell.model_validate(SMALL | {"epochs": 1, "valid_size": 60}))[0].record
    assert (plain["elbo_selection"].n, plain["elbo_held_out"].n) == (20, 20)
    assert (valid.metrics["elbo_selection"].n, valid.metrics["elbo_held_out"].n) == (60, 40)
    assert valid.metrics["elbo_held_out"].value == valid.metrics["elbo"].value
