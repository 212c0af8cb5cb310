"""The JSON schema of a grid file agrees with what the grid accepts."""

import json
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from vaebench.errors import GridError
from vaebench.grid.cell import AXES
from vaebench.grid.spec import Grid, grid_schema, packaged_grids

VALIDATOR = Draft202012Validator(grid_schema())
COMMITTED = Path(__file__).parents[2] / "docs/grid.schema.json"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(grid_schema())
    assert set(grid_schema()["$defs"]["cell"]["properties"]) == set(AXES)


@pytest.mark.parametrize("name", packaged_grids())
def test_packaged_grids_are_valid(name: str) -> None:
    source = resources.files("vaebench.grid").joinpath("library", f"{name}.toml")
    VALIDATOR.validate(tomllib.loads(source.read_text("utf-8")))


@pytest.mark.parametrize("axis", AXES)
def test_every_default_is_valid(axis: str) -> None:
    value = AXES[axis].default
    if value is not None:
        value = list(value) if isinstance(value, tuple) else value
        VALIDATOR.validate({"base": {axis: value}, "axes": {axis: [value]}})


@pytest.mark.parametrize(
    "raw",
    [
        {"axs": {"seed": [0]}},
        {"base": {"latent_dmi": 2}},
        {"base": {"latent_dim": 0}},
        {"base": {"latent_dim": "2"}},
        {"base": {"dequantize": 1}},
        {"axes": {"seed": 3}},
        {"axes": {"seed": []}},
        {"axes": {"hidden": [8]}},
        {"axes": {"sigma": [0.0], "likelihood": ["gaussian"]}},
        {"axes": {"sigma": ["larned"], "likelihood": ["gaussian"]}},
        {"axes": {"likelihood": ["gausian"]}},
        {"axes": [{"seed": [0]}, {"epochs": ["1"]}]},
        {"axes": {"seed": [0]}, "exclude": [{}]},
        {"name": "../x", "axes": {"seed": [0]}},
    ],
)
def test_what_the_schema_refuses_the_grid_refuses(raw: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid(raw)
    with pytest.raises(GridError):
        Grid.from_dict(raw)


def test_the_committed_schema_is_up_to_date() -> None:
    """It is the output of `json.dumps(grid_schema(), indent=1)`, with a newline."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == grid_schema()
