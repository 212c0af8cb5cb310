"""Grids whose cells train in a moment."""

from vaebench.grid.spec import Grid

BASE: dict[str, object] = {
    "train_size": 200,
    "test_size": 50,
    "batch_size": 20,
    "hidden": [8],
    "latent_dim": 2,
    "epochs": 2,
    "tsne_points": 0,
}


def grid(**axes: list[object]) -> Grid:
    return Grid.from_dict({"name": "small", "base": BASE, "axes": axes})
