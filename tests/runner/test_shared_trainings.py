"""One training, several budgets: records equal those of separate trainings."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_grids import BASE
from stored_numbers import numbers

from vaebench.grid.cell import Cell
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.execute import execute
from vaebench.runner.messages import Outcome, Task
from vaebench.runner.plan import Planned, estimate, estimates, shared_trainings, training_key
from vaebench.runner.run import run
from vaebench.training.checkpoint import Checkpoint
from vaebench.training.loop import Stopped


def cell(**axes: object) -> Cell:
    return Cell.model_validate(BASE | axes)


def kept(outcome: Outcome) -> tuple[object, ...]:
    """What must be equal: all but the clock, the memory, and how the cell came to be trained."""
    record = outcome.record
    metrics = {
        name: metric
        for name, metric in record.metrics.items()
        if metric.unit not in ("s", "ms", "1/s", "MiB")
    }
    arrays = {n: a.tobytes() for n, a in outcome.arrays.items() if n != "step_ms"}
    changes = {"metrics": metrics, "trained_as": None, "warnings": []}
    return record.model_copy(update=changes), arrays, outcome.weights


def alone(*cells: Cell, names: str) -> list[Outcome]:
    return execute(Task(cells, tuple(names), "grid", None, keep_weights=True))


def test_cells_that_differ_in_epochs_or_evaluation_share_a_training() -> None:
    same = [cell(epochs=1), cell(epochs=7), cell(epochs=7, iw_samples=9), cell(test_size=20)]
    others = [cell(seed=1), cell(learning_rate_schedule="cosine"), cell(valid_size=50)]
    planned = [Planned(each, str(index)) for index, each in enumerate(same + others)]
    groups = {
        trained.cell_id: sorted(each.cell_id for each in shared)
        for trained, shared in shared_trainings(planned).items()
    }
    assert groups == {"1": ["0", "2", "3"], "4": [], "5": [], "6": []}


def test_a_schedule_ties_a_training_to_its_number_of_epochs() -> None:
    cosine = [cell(learning_rate_schedule="cosine", epochs=n) for n in (1, 2)]
    assert training_key(cosine[0]) != training_key(cosine[1])
    cycles = [cell(beta_schedule="cyclical:1", epochs=n) for n in (1, 2)]
    assert training_key(cycles[0]) != training_key(cycles[1])
    rises = [cell(beta_schedule="linear:3", epochs=n) for n in (1, 2)]
    assert training_key(rises[0]) == training_key(rises[1])
    twin = cosine[0].model_copy(update={"iw_samples": 5})
    assert training_key(cosine[0]) == training_key(twin)


def test_a_shared_training_is_paid_once() -> None:
    cells = [cell(epochs=1), cell(epochs=100), cell(epochs=30)]
    prices = estimates(cells)
    assert prices[1] == estimate(cells[1])
    assert prices[0].seconds == estimate(cells[0]).evaluation_seconds
    assert prices[2].seconds == estimate(cells[2]).evaluation_seconds


@pytest.mark.parametrize(
    "design",
    [
        {"likelihood": "gaussian", "sigma": "learned", "beta_schedule": "linear:3"},
        {"likelihood": "logistic", "sigma": "optimal"},
    ],
    ids=str,
)
def test_records_equal_those_of_separate_trainings(design: dict[str, object]) -> None:
    """In training an optimal scale is searched for from where it was, so it must not be moved."""
    axes = {"tsne_points": 30, "valid_size": 40, **design}
    short, middle, longest = (cell(epochs=n, **axes) for n in (1, 2, 4))
    closer = cell(epochs=4, iw_samples=20, test_size=30, **axes)
    shared = ((middle, "b"), (short, "a"), (closer, "d"))
    outcomes = execute(Task((longest,), ("c",), "grid", None, keep_weights=True, shared=shared))
    by_name = {outcome.record.cell_id: outcome for outcome in outcomes}
    assert {n: o.record.trained_as for n, o in by_name.items()} == {
        "a": "c",
        "b": "c",
        "c": None,
        "d": "c",
    }
    for name, each in zip("abcd", (short, middle, longest, closer), strict=True):
        (separate,) = alone(each, names=name)
        assert kept(by_name[name]) == kept(separate), name
        steps = by_name[name].record.metrics["train_seconds"].n
        assert steps == separate.record.metrics["train_seconds"].n == each.epochs * 10
    seconds = [by_name[name].record.metrics["train_seconds"].value for name in "abc"]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_a_pack_shares_its_trainings_too() -> None:
    longest = [cell(epochs=3, seed=seed) for seed in (0, 1)]
    shared = ((cell(epochs=1, seed=1), "b1"), (cell(epochs=2, seed=0), "a2"))
    task = Task(tuple(longest), ("a", "b"), "grid", None, keep_weights=True, shared=shared)
    by_name = {outcome.record.cell_id: outcome for outcome in execute(task)}
    assert by_name["b1"].record.trained_as == "b"
    shorter = alone(cell(epochs=1, seed=0), cell(epochs=1, seed=1), names="xy")[1]
    expected, found = kept(replace(shorter)), kept(by_name["b1"])
    assert found[0].metrics == expected[0].metrics
    assert found[1:] == expected[1:]


def test_a_user_network_with_dropout_is_not_disturbed() -> None:
    """Dropout draws from torch's default generator, which an evaluation must leave as it was."""
    axes = {"architecture": "networks_with_dropout:build"}
    longest, short = cell(epochs=2, **axes), cell(epochs=1, tsne_points=30, **axes)
    outcomes = execute(Task((longest,), ("b",), "g", None, True, shared=((short, "a"),)))
    separate = alone(longest, names="b") + alone(short, names="a")
    found = {o.record.cell_id: o.record.metrics["elbo"] for o in outcomes}
    assert found == {o.record.cell_id: o.record.metrics["elbo"] for o in separate}


def test_a_cell_that_diverges_on_the_way_is_recorded_for_every_budget() -> None:
    axes = {"likelihood": "gaussian", "sigma": 1.0, "learning_rate": 1e30}
    longest, short = cell(epochs=3, **axes), cell(epochs=2, **axes)
    outcomes = execute(Task((longest,), ("b",), "grid", None, shared=((short, "a"),)))
    (separate,) = alone(short, names="a")
    found = {outcome.record.cell_id: outcome.record.status for outcome in outcomes}
    assert found == {"a": separate.record.status, "b": separate.record.status}
    assert separate.record.status.state == "diverged"


def test_a_cell_that_its_last_update_breaks_is_recorded_so() -> None:
    """The learned scale moves ten times as fast as the weights, so it overflows alone."""
    axes = {"likelihood": "gaussian", "learning_rate": 3e38, "batch_size": 200}
    longest, short = cell(epochs=2, **axes), cell(epochs=1, **axes)
    outcomes = execute(Task((longest,), ("b",), "grid", None, shared=((short, "a"),)))
    separate = alone(short, names="a") + alone(longest, names="b")
    found = {outcome.record.cell_id: outcome.record.status for outcome in outcomes}
    assert found == {outcome.record.cell_id: outcome.record.status for outcome in separate}
    assert [found[name].step for name in "ab"] == [1, 2]


def test_finished_budgets_stay_recorded_and_the_rest_is_resumed(tmp_path: Path) -> None:
    shared = ((cell(epochs=1), "a"), (cell(epochs=3), "b"))
    task = Task((cell(epochs=4),), ("c",), "grid", None, True, tmp_path, shared)
    sent: list[Outcome] = []
    with pytest.raises(Stopped):
        execute(task, stop=lambda: bool(sent), record=sent.extend)
    assert [outcome.record.cell_id for outcome in sent] == ["a"]
    assert Checkpoint(task.checkpoint or tmp_path, "c").load() is not None
    rest = execute(task.without(["a"]))
    names = [outcome.record.cell_id for outcome in rest]
    assert sorted(names) == ["b", "c"]
    for outcome in sent + rest:
        name = outcome.record.cell_id
        (separate,) = alone(cell(epochs={"a": 1, "b": 3, "c": 4}[name]), names=name)
        assert kept(outcome) == kept(separate), name


def test_a_grid_of_budgets_equals_separate_grids(tmp_path: Path) -> None:
    axes = {"epochs": [1, 3], "seed": [0, 1]}
    run(Grid.from_dict({"name": "g", "base": BASE, "axes": axes}), Store(tmp_path / "one"))
    for epochs in (1, 3):
        grid = Grid.from_dict({"name": "g", "base": BASE, "axes": axes | {"epochs": [epochs]}})
        run(grid, Store(tmp_path / "other"))
    assert numbers(tmp_path / "one") == numbers(tmp_path / "other")
    trained = [each.trained_as for each in Store(tmp_path / "one").read_all()[0]]
    assert sum(each is not None for each in trained) == 2


def test_a_budget_that_a_checkpoint_has_passed_is_trained_by_itself(tmp_path: Path) -> None:
    """A parent that was killed may have lost the record of a budget that the worker had sent."""
    store = Store(tmp_path / "store")
    grid = Grid.from_dict({"name": "g", "base": BASE, "axes": {"epochs": [1, 2, 4]}})
    summary = run(grid, store)
    names = {store.read(name).cell.epochs: name for name in summary.trained}
    task = Task((cell(epochs=4),), (names[4],), "g", None, False, store.checkpoints)
    count = iter(range(9))
    with pytest.raises(Stopped):
        execute(task, stop=lambda: next(count) == 2)
    before = numbers(store.root)
    for name in (names[2], names[4]):
        (store.root / "cells" / name / "record.json").unlink()
    assert set(run(grid, store).trained) == {names[2], names[4]}
    assert numbers(store.root) == before
    assert store.read(names[2]).trained_as is None
