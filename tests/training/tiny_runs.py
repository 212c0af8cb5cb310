"""Short trainings of small models on made-up images."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.loop import Generators, Progress, Training, train

WEIGHTS = {"rtol": 1e-3, "atol": 1e-4}
LOSSES = 1e-4
"""How far a short float32 training in a pack may differ from the same training alone, or in another
pack: the weights, and relatively the numbers of each epoch.

Libraries choose another algorithm for another shape, and the choice depends on the processor.
Equal bits are expected only where the same program runs on the same shapes.
"""

SHAPE = (1, 4, 5)
IMAGES, BATCH = 100, 32
LEVELS = 17


@dataclass(frozen=True)
class Run:
    """A trained pack and what training told."""

    vae: VAE
    training: Training

    def weights(self, member: int = 0) -> dict[str, Tensor]:
        return {name: value[member] for name, value in self.vae.state_dict().items()}


Series = dict[str, list[float | None]]


def assert_close_weights(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, **WEIGHTS, msg=name)


def assert_close_series(got: Series, expected: Series) -> None:
    assert got.keys() == expected.keys()
    for name, numbers in expected.items():
        # A predicted sigma, or none, has no number of its own.
        assert [value is None for value in got[name]] == [value is None for value in numbers], name
        assert [value for value in got[name] if value is not None] == pytest.approx(
            [value for value in numbers if value is not None], rel=LOSSES
        ), name


def cell(**axes: object) -> Cell:
    base = {
        "hidden": (9,),
        "latent_dim": 3,
        "likelihood": "gaussian",
        "sigma": 0.2,
        "batch_size": BATCH,
        "epochs": 5,
        "learning_rate": 3e-3,
    }
    return Cell.model_validate(base | axes)


def images() -> Tensor:
    """Grey levels of a few blurred blobs, ``(N, C, H, W)``."""
    source = torch.Generator().manual_seed(20)
    low = torch.rand(IMAGES, 1, 2, 2, generator=source)
    smooth = torch.nn.functional.interpolate(low, size=SHAPE[1:], mode="bilinear")
    return (smooth * (LEVELS - 1)).round().to(torch.uint8)


def generator(seed: int, purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(10 * seed + purpose)


def made(cells: Sequence[Cell], levels: int | None = LEVELS) -> VAE:
    return VAE(cells, SHAPE, levels, [generator(c.seed, 0) for c in cells], 0.3)


def pixels_of(design: Cell, grey: Tensor | None = None) -> TrainingPixels:
    grey = images() if grey is None else grey
    levels = LEVELS if grey.dtype == torch.uint8 else None
    return TrainingPixels(grey, levels, design.binarization, design.dequantize)


def run(
    *cells: Cell,
    grey: Tensor | None = None,
    progress: Progress | None = None,
    compiled: bool = False,
) -> Run:
    """Train a pack, each member from the generators of its own seed."""
    pixels = pixels_of(cells[0], grey)
    vae = made(cells, pixels.levels)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    return Run(vae, train(vae, cells, pixels, sources, progress, compiled=compiled))
