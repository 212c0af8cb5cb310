"""docs/one_cell.py, written in plain PyTorch, gets the numbers that vaebench gets."""

import ast
import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import vaebench

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = DOCS / "one_cell.py"
GRID = DOCS / "one_cell.toml"


@pytest.fixture
def one_cell() -> Iterator[ModuleType]:
    """The file as a module; torch's number of threads is restored afterwards."""
    spec = importlib.util.spec_from_file_location("one_cell", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.mark.parametrize("seed", [0, 1])
def test_its_elbo_is_the_product_s(
    seed: int, one_cell: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_cell, "EPOCHS", 1)
    monkeypatch.setattr(one_cell, "SEED", seed)
    vaebench.run(GRID, tmp_path / "store", overrides={"epochs": [1], "seed": [seed]})
    (row,) = vaebench.load_results(tmp_path / "store").to_dict("records")
    for name, value in one_cell.main().items():
        assert value == pytest.approx(row[name], abs=1e-4, rel=0), name


def test_it_trains_the_cell_of_its_grid_file(one_cell: ModuleType) -> None:
    grid = tomllib.loads(GRID.read_text(encoding="utf-8"))["base"]
    assert grid["seed"] == one_cell.SEED
    assert grid["epochs"] == one_cell.EPOCHS
    assert grid["batch_size"] == one_cell.BATCH_SIZE
    assert grid["learning_rate"] == one_cell.LEARNING_RATE
    assert grid["hidden"] == [one_cell.HIDDEN]
    assert grid["latent_dim"] == one_cell.LATENT_DIM


def test_it_is_short_and_uses_nothing_of_vaebench() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    imported = [
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    ]
    assert imported
    assert not [name for name in imported if name.split(".")[0] == "vaebench"]
