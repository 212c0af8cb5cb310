"""The plan of a run: each cell once, and a price that follows from the sizes of its networks."""

from collections.abc import Mapping

import pytest
import torch
from small_grids import grid

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.runner.plan import _sizes, estimate, make_plan


def test_a_device_that_is_named_and_there_is_planned_once() -> None:
    plan = make_plan(grid(device=["cpu", "available"], seed=[0, 1]), {}, ["cpu", "cuda"])
    assert [each.cell.device for each in plan.todo] == ["cpu", "cpu", "cuda", "cuda"]
    assert len({each.cell_id for each in plan.todo}) == 4
    assert plan.repeated == 2


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"hidden": (30, 20), "likelihood": "categorical"},
        {"posterior": "full", "latent_dim": 50},
        {"architecture": "conv"},
        {"architecture": "conv", "hidden": (3,), "likelihood": "categorical"},
        {"architecture": "conv", "hidden": (4, 5, 6), "posterior": "full"},
    ],
)
def test_the_weights_that_a_price_is_of_are_those_of_the_networks(
    axes: Mapping[str, object],
) -> None:
    cell = Cell(dataset="mnist", **axes)
    model = VAE([cell], (1, 28, 28), 256, [torch.Generator()], 0.3)
    # Biases apart: weights are matrices or kernels, with the pack's axis before them.
    weights = sum(each.numel() for each in model.parameters() if each.ndim > 2)
    told, uses = _sizes(cell, (1, 28, 28), 256 if cell.likelihood == "categorical" else 1)
    assert told == weights
    assert uses == weights if cell.architecture == "mlp" else uses > weights


@pytest.mark.parametrize(
    "axes",
    [
        {"posterior": "full"},
        {"iw_samples": 50_000},
        {"architecture": "conv"},
        {"eval_samples": 200},
        {"epochs": 200},
    ],
)
def test_what_costs_more_is_said_to_cost_more(axes: Mapping[str, object]) -> None:
    plain = {"dataset": "mnist", "latent_dim": 500, "hidden": (64,)}
    dear = {**plain, **axes}
    assert estimate(Cell(**dear)).seconds > 1.2 * estimate(Cell(**plain)).seconds
