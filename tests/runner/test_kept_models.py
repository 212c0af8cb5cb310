"""Weights that are kept: a loaded model is the one that was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from test_runs import grid, run

import vaebench
from vaebench.errors import RecordMissing, WeightsMissing
from vaebench.evaluation.evaluate import evaluate
from vaebench.model.vae import VAE
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store
from vaebench.runner.models import packed_weights
from vaebench.runner.prepared import prepared_for
from vaebench.runner.seeding import generator


def remeasured(model: VAE, record: CellRecord) -> dict[str, float | None]:
    cell = record.cell
    found = prepared_for(cell, None)
    source = generator(cell.seed, "evaluation")
    measured = evaluate(model, cell, found.train, found.test, source).metrics
    return {name: m.value for name, m in measured.items() if not name.endswith("_seconds")}


@pytest.mark.parametrize(
    "axes",
    [
        {"likelihood": ["gaussian"], "sigma": ["predicted"]},
        {"likelihood": ["gaussian"], "sigma": ["optimal"]},
        {"likelihood": ["bernoulli"], "architecture": ["conv"], "hidden": [[4, 4]]},
        {"likelihood": ["bernoulli"], "latent_dim": [2, 3], "seed": [0, 1]},
    ],
    ids=["predicted sigma", "optimal sigma", "conv", "a pack of two latent sizes"],
)
def test_a_loaded_model_measures_what_its_record_says(
    tmp_path: Path, axes: dict[str, list[object]]
) -> None:
    run(grid(**axes), tmp_path, largest_pack=4, keep_weights=True)
    records, damages = Store(tmp_path).read_all()
    assert not damages
    for record in records:
        model = vaebench.load_model(tmp_path, record.cell_id)
        again = remeasured(model, record)
        assert again
        assert again == {name: record.metrics[name].value for name in again}


def test_another_model_measures_something_else(tmp_path: Path) -> None:
    run(grid(seed=[0, 1]), tmp_path, keep_weights=True)
    one, other = Store(tmp_path).read_all()[0]
    again = remeasured(vaebench.load_model(tmp_path, one.cell_id), other)
    assert again["elbo"] != other.metrics["elbo"].value


def test_weights_are_kept_where_asked_for_and_asked_for_later(tmp_path: Path) -> None:
    made = grid(seed=[0, 1])
    run(made, tmp_path)
    assert not list(tmp_path.glob("cells/*/weights.safetensors"))
    assert "weights_sha256" not in next(tmp_path.glob("cells/*/record.json")).read_text()
    with pytest.raises(WeightsMissing, match="--keep-weights"):
        vaebench.load_model(tmp_path, Store(tmp_path).read_all()[0][0].cell_id)
    second, _ = run(made, tmp_path, keep_weights=True)
    assert list(second.trained.values()) == ["done", "done"]
    third, _ = run(made, tmp_path, keep_weights=True)
    assert third.trained == {}
    first = next(tmp_path.glob("cells/*/weights.safetensors"))
    first.unlink()
    fourth, _ = run(made, tmp_path, keep_weights=True)
    assert [*fourth.trained] == [first.parent.name]


def test_no_failure_takes_the_place_of_a_finished_cell(tmp_path: Path) -> None:
    made = grid(seed=[0])
    run(made, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("cells/*/*")}
    assert len(before) == 2, "a record and its arrays"
    summary, _ = run(made, tmp_path, keep_weights=True, time_limit=1e-3)
    assert summary.states() == {"timeout": 1}
    assert {path: path.read_bytes() for path in tmp_path.glob("cells/*/*")} == before
    again, _ = run(made, tmp_path, keep_weights=True)
    assert again.states() == {"done": 1}
    assert list(tmp_path.glob("cells/*/weights.safetensors"))


def test_damaged_arrays_are_told_of_until_they_are_made_anew(tmp_path: Path) -> None:
    made = grid(seed=[0])
    run(made, tmp_path)
    (arrays,) = tmp_path.glob("cells/*/arrays.npz")
    arrays.write_bytes(b"PK")
    summary, _ = run(made, tmp_path, time_limit=1e-3)
    assert summary.states() == {"timeout": 1}
    assert len(summary.unused) == 1
    assert Store(tmp_path).read_all()[0][0].status.state == "done"
    again, _ = run(made, tmp_path)
    assert (again.states(), again.unused) == ({"done": 1}, [])
    assert not Store(tmp_path).check()


def test_weights_that_are_not_the_cells_own_are_not_loaded(tmp_path: Path) -> None:
    run(grid(seed=[0, 1]), tmp_path, keep_weights=True)
    one, other = sorted(tmp_path.glob("cells/*/weights.safetensors"))
    one.write_bytes(other.read_bytes())
    with pytest.raises(WeightsMissing, match="is missing or differs from its checksum"):
        vaebench.load_model(tmp_path, one.parent.name)
    with pytest.raises(RecordMissing):
        vaebench.load_model(tmp_path, "no-such-cell")


NETWORK = """
from torch import nn

def net(image_shape, latent_dim, encoder_width, decoder_width):
    layers = nn.Linear(64, {width}), nn.{activation}(), nn.Linear({width}, encoder_width)
    encoder = nn.Sequential(nn.Flatten(), *layers)
    return encoder, nn.Linear(latent_dim, decoder_width)
"""


@pytest.mark.parametrize(("width", "activation"), [(5, "Tanh"), (6, "ReLU")])
def test_a_network_edited_since_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, activation: str
) -> None:
    module = tmp_path / "edited_network.py"
    module.write_text(NETWORK.format(width=5, activation="ReLU"))
    monkeypatch.syspath_prepend(tmp_path)
    run(grid(architecture=["edited_network:net"]), tmp_path / "store", keep_weights=True)
    (name,) = Store(tmp_path / "store").states()
    model = vaebench.load_model(tmp_path / "store", name)
    assert model.encode(torch.rand(1, 3, 64)).mean.numpy().shape == (1, 3, 2)
    # As long as before, and as new: Python's cache of compiled modules must not hide the edit.
    module.write_text(NETWORK.format(width=width, activation=activation))
    for cached in (tmp_path / "__pycache__").glob("*"):
        cached.unlink()
    monkeypatch.delitem(sys.modules, "edited_network")
    with pytest.raises(ValueError, match="edited_network:net must be the network that was trained"):
        vaebench.load_model(tmp_path / "store", name)


def test_damaged_weights_are_found_and_made_anew(tmp_path: Path) -> None:
    made = grid(seed=[0, 1])
    run(made, tmp_path, keep_weights=True)
    cut = next(tmp_path.glob("cells/*/weights.safetensors"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:500])
    (damage,) = Store(tmp_path).check()
    assert (damage.path, damage.kind) == (cut, "weights")
    again, _ = run(made, tmp_path, keep_weights=True)
    assert [*again.trained] == [cut.parent.name]
    assert cut.read_bytes() == whole
    assert Store(tmp_path).check() == []


@pytest.mark.parametrize("file", ["arrays.npz", "record.json"])
def test_a_cell_that_is_repaired_keeps_its_weights(tmp_path: Path, file: str) -> None:
    run(grid(seed=[0]), tmp_path, keep_weights=True)
    next(tmp_path.glob(f"cells/*/{file}")).write_bytes(b"{")
    repaired, _ = run(grid(seed=[0]), tmp_path)
    assert list(repaired.trained.values()) == ["done"]
    assert vaebench.load_model(tmp_path, *repaired.trained)


def test_a_record_written_again_without_weights_leaves_none_behind(tmp_path: Path) -> None:
    run(grid(seed=[0]), tmp_path, keep_weights=True)
    store = Store(tmp_path)
    record = store.read_all()[0][0]
    with store.writing():
        store.write(record)
        assert store.weights(record.cell_id)
        store.write(record.model_copy(update={"weights_sha256": None}))
    assert not list(tmp_path.glob("cells/*/weights.safetensors"))


def test_weights_stored_by_columns_or_shared_are_packed() -> None:
    cell = grid(seed=[0]).cells[0]
    vae = VAE((cell,), (1, 8, 8), 17, [torch.Generator()], 0.3)
    first = next(vae.parameters())
    rows = load(packed_weights(vae))
    first.data = first.data.mT.contiguous().mT
    columns = load(packed_weights(vae))
    assert rows["initial_scale"] == 0.3
    assert all(torch.equal(columns[name], rows[name]) for name in vae.state_dict())
