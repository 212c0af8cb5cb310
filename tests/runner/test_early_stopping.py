"""Early stopping: the best weights are kept, and a stop changes nothing."""

import math
from pathlib import Path

import pytest
import torch
from small_grids import BASE
from test_shared_trainings import kept

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.records.schema import CellRecord
from vaebench.runner.early_stopping import EarlyStopping
from vaebench.runner.execute import execute
from vaebench.runner.messages import Outcome, Task
from vaebench.training.loop import Stopped

OVERFITTING = {
    "train_size": 60,
    "valid_size": 300,
    "hidden": [64],
    "learning_rate": 0.02,
    "binarization": "threshold",
}


def cell(**axes: object) -> Cell:
    return Cell.model_validate(BASE | OVERFITTING | axes)


def executed(one: Cell) -> Outcome:
    (outcome,) = execute(Task((one,), ("a",), "grid", None, keep_weights=True))
    return outcome


def codes(record: CellRecord) -> list[str]:
    return [note.code for note in record.warnings]


@pytest.mark.parametrize(
    ("bounds", "stops_after", "best"),
    [
        ([-5.0, -3.0, -4.0, -3.5], 4, 2),
        ([-5.0, -3.0, -4.0, -2.0, -2.0, -2.5], 6, 4),
        ([math.nan, math.nan], 2, 0),
        ([-3.0, -2.0, -1.0], None, 3),
    ],
)
def test_it_stops_after_two_epochs_without_a_better_bound(
    bounds: list[float], stops_after: int | None, best: int
) -> None:
    model = VAE((cell(),), (1, 8, 8), 17, [torch.Generator().manual_seed(0)], 0.3)
    stopping = EarlyStopping(2)
    stopped = []
    for epoch, bound in enumerate(bounds, 1):
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(epoch)
        stopped.append(stopping.after_epoch(epoch, bound, model))
    assert stopped.index(True) + 1 == stops_after if stops_after else not any(stopped)
    assert stopping.best_epoch == best
    stopping.restore(model)
    assert {weight.mean().item() for weight in model.parameters()} == {best or len(bounds)}


def test_the_record_is_that_of_a_training_of_the_best_number_of_epochs() -> None:
    outcome = executed(cell(epochs=60, early_stopping=5))
    record = outcome.record
    trained = len(record.series["train_loss"])
    best = trained - 5
    assert 1 < best < 50
    assert record.metrics["train_seconds"].n == trained * 3
    assert codes(record) == ["early_stopping"]
    assert f"epoch {best}" in record.warnings[0].text
    other = executed(cell(epochs=best)).record
    for name in ("elbo", "elbo_selection", "kl", "mse", "mutual_information", "elbo_train"):
        assert record.metrics[name] == other.metrics[name], name
    late = executed(cell(epochs=60)).record
    assert record.metrics["elbo_selection"].value > late.metrics["elbo_selection"].value


def test_a_stopped_training_goes_on_with_the_best_weights(tmp_path: Path) -> None:
    one = cell(epochs=60, early_stopping=5)
    whole = executed(one)
    last = len(whole.record.series["train_loss"])
    task = Task((one,), ("a",), "grid", None, True, tmp_path)
    calls = iter(range(99))
    with pytest.raises(Stopped):
        # Between the best epoch and the last one.
        execute(task, stop=lambda: next(calls) == last - 4)
    (rest,) = execute(task)
    assert kept(rest) == kept(whole)
    assert codes(rest.record) == ["early_stopping", "resumed"]


def test_cells_that_stop_early_share_no_budget() -> None:
    closer = cell(epochs=60, early_stopping=5, iw_samples=20)
    plain = cell(epochs=60, early_stopping=5)
    outcomes = execute(Task((plain,), ("a",), "grid", None, shared=((closer, "b"),)))
    elbos = {outcome.record.metrics["elbo"].value for outcome in outcomes}
    assert len(outcomes) == 2
    assert len(elbos) == 1


def test_a_cell_without_validation_images_is_refused() -> None:
    one = cell(epochs=2, early_stopping=5).model_copy(update={"valid_size": 0})
    with pytest.raises(ValueError, match="validation images"):
        executed(one)
