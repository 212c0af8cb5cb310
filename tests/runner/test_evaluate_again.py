"""Kept weights are evaluated again: the same numbers, or those of other evaluation settings."""

from pathlib import Path

import pytest
from small_grids import grid
from stored_numbers import numbers
from test_runs import run

import vaebench
from vaebench.errors import UsageError
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store

DESIGN: dict[str, list[object]] = {"likelihood": ["gaussian"], "sigma": ["optimal", 0.3]}
SPEED = ("train_seconds", "step_ms_median", "samples_per_second", "peak_memory_mib")


def stored(root: Path) -> dict[str, CellRecord]:
    return {record.cell_id: record for record in Store(root).read_all()[0]}


def without_warnings(root: Path) -> dict[str, object]:
    found = numbers(root)
    return {name: (*each[:3], each[4]) for name, each in found.items()}  # type: ignore[index]  # a tuple


def codes(record: CellRecord) -> list[str]:
    return [note.code for note in record.warnings]


def test_the_same_settings_give_the_same_numbers(tmp_path: Path) -> None:
    made = grid(**DESIGN, epochs=[1, 2], tsne_points=[20], iw_samples=[5])
    run(made, tmp_path, keep_weights=True)
    before, values = stored(tmp_path), without_warnings(tmp_path)
    summary, _ = run(made, tmp_path, evaluate_again=True)
    assert summary.states() == {"done": 4}
    assert without_warnings(tmp_path) == values
    for name, record in stored(tmp_path).items():
        assert [record.metrics[m] for m in SPEED] == [before[name].metrics[m] for m in SPEED]
        assert codes(record) == [*codes(before[name]), "evaluated_again"]
        assert record.trained_as == before[name].trained_as
        assert record.environment == before[name].environment
        vaebench.load_model(tmp_path, name)
    run(made, tmp_path, evaluate_again=True)
    assert all(codes(each).count("evaluated_again") == 1 for each in stored(tmp_path).values())


def test_other_settings_give_what_a_training_with_them_would(tmp_path: Path) -> None:
    run(grid(**DESIGN, iw_samples=[5]), tmp_path / "few", keep_weights=True)
    few = stored(tmp_path / "few")
    more = grid(**DESIGN, iw_samples=[200], test_size=[30], ais_images=[0])
    run(more, tmp_path / "few", evaluate_again=True)
    run(more, tmp_path / "trained")
    expected, found = without_warnings(tmp_path / "trained"), without_warnings(tmp_path / "few")
    assert len(expected) == 2
    assert expected.items() <= found.items()
    for name in expected:
        record = stored(tmp_path / "few")[name]
        donor = few[str(record.trained_as)]
        assert donor.cell.sigma == record.cell.sigma
        assert record.metrics["train_seconds"] == donor.metrics["train_seconds"]
        assert "too_few_samples" not in codes(record)
        assert record.weights_sha256 is None
    assert few.items() <= stored(tmp_path / "few").items()


def test_weights_go_with_the_new_record_if_asked_for(tmp_path: Path) -> None:
    run(grid(seed=[0]), tmp_path, keep_weights=True)
    run(grid(seed=[0], iw_samples=[3]), tmp_path, keep_weights=True, evaluate_again=True)
    assert len(list(tmp_path.glob("cells/*/weights.safetensors"))) == 2


def test_a_cell_of_another_training_is_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no store"):
        run(grid(seed=[0]), tmp_path / "none", evaluate_again=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError, match="no cell has kept weights"):
        run(grid(seed=[0]), tmp_path, evaluate_again=True)
    run(grid(seed=[0]), tmp_path, keep_weights=True)
    for axes in ({"seed": [1]}, {"epochs": [3]}, {"valid_size": [20]}, {"beta": [2.0]}):
        with pytest.raises(UsageError, match="--keep-weights"):
            run(grid(**axes), tmp_path, evaluate_again=True)
    summary, lines = run(grid(seed=[0, 1]), tmp_path, evaluate_again=True)
    assert list(summary.trained.values()) == ["done"]
    assert any("no weights were kept for 1 of 2 cells" in line for line in lines)


def test_a_failed_evaluation_leaves_the_record_of_the_training(tmp_path: Path) -> None:
    made = grid(architecture=["networks_with_dropout:build"])
    run(made, tmp_path, keep_weights=True)
    before = numbers(tmp_path)
    path = next(tmp_path.glob("cells/*/weights.safetensors"))
    store = Store(tmp_path)
    (record,) = stored(tmp_path).values()
    with store.writing():
        store.write(record, store.arrays(record.cell_id), b"not a safetensors file")
    assert path.read_bytes() == b"not a safetensors file"
    summary, _ = run(made, tmp_path, evaluate_again=True)
    assert list(summary.trained.values()) == ["failed"]
    assert numbers(tmp_path) == before
