"""What the tests of the command line share: its answer, a small grid, a record of a store."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SMALL = """
name = "small"
[base]
train_size = 200
test_size = 50
hidden = [8]
latent_dim = 2
epochs = 1
tsne_points = 0
[axes]
likelihood = ["bernoulli", "gaussian"]
sigma = [0.1, 0.3]
seed = [0, 1]
"""
LISTS = ("grids", "axes", "likelihoods", "datasets", "metrics", "findings")


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


Ask = Callable[..., Answer]

RUN = ("run", "small.toml", "-o", "store")


def record_of(store: Path, place: int = 0) -> Path:
    return sorted(store.glob("cells/*/record.json"))[place]
