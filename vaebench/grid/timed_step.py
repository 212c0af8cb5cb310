"""The training step that `vaebench time` times: a fixed model of varying size and device.

The model is the Bernoulli VAE on dynamically binarised images of MNIST's shape, with one hidden
layer. The images are random, so no data set is needed.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from vaebench.errors import WrongStep
from vaebench.grid.axes import DATASETS
from vaebench.grid.cell import Cell

IMAGE_SHAPE = DATASETS["mnist"].shape
LEVELS = 256
"""Number of grey levels of the random images, before they are binarised."""

_SWEPT: dict[str, tuple[int, ...]] = {
    "latent_dim": (2, 8, 32, 128, 512, 2048, 10_000),
    "batch_size": (20, 128, 512, 2048, 8192),
    "width": (100, 400, 1600),
}
_LARGEST_PACK = 1_000
_CENTRE = {"latent_dim": 32, "batch_size": 128, "width": 400}


@dataclass(frozen=True)
class TimedStep:
    """A training step to time: its device, sizes, precision and number of packed cells.

    A pack is a number of cells that are trained as one batched program.

    With ``eager`` the step runs as in a short training; without, it is compiled or captured as in
    a long one (see `kind`).

    Raises:
        WrongStep: a value is not valid for a cell, or the pack size is out of range.
    """

    device: str
    latent_dim: int
    batch_size: int
    width: int
    precision: str = "float32"
    pack_size: int = 1
    eager: bool = False

    @property
    def kind(self) -> str:
        """How the step is computed: ``compiled`` on a CPU, ``captured`` on a GPU, or ``eager``."""
        long = {"cpu": "compiled", "cuda": "captured"}.get(self.device.partition(":")[0], "eager")
        return "eager" if self.eager else long

    def __post_init__(self) -> None:
        if not 1 <= self.pack_size <= _LARGEST_PACK:
            why = f"pack_size must be between 1 and {_LARGEST_PACK} cells; got {self.pack_size}"
            raise WrongStep("pack_size", why)
        try:
            self.cells()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            axis = str(first["loc"][0]).replace("hidden", "width")
            raise WrongStep(axis, first["msg"].removeprefix("Value error, ")) from error

    def cells(self, epochs: int = 1) -> tuple[Cell, ...]:
        """Return the cells of the pack; they differ only in their seeds."""
        return tuple(
            Cell(
                dataset="mnist",
                binarization="dynamic",
                device=self.device,
                latent_dim=self.latent_dim,
                batch_size=self.batch_size,
                hidden=(self.width,),
                precision=self.precision,
                epochs=epochs,
                seed=seed,
            )
            for seed in range(self.pack_size)
        )


def sweep(
    devices: Sequence[str],
    latent_dims: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    precisions: Sequence[str] = ("float32",),
    pack_sizes: Sequence[int] = (1,),
    *,
    eager: bool = False,
) -> tuple[TimedStep, ...]:
    """Return the steps of one-dimensional sweeps of the three sizes, without duplicates.

    The sweeps share a centre: latent dimension 32, batch size 128 and width 400. If sizes are
    given, the one nearest to the centre by ratio replaces it, and sizes that are not given stay at
    the centre; if none is given, all three are swept. Every step is repeated for each precision,
    pack size and device; the devices of one design follow each other.

    Raises:
        WrongStep: a value is not valid for a cell.
    """
    given = dict(zip(_SWEPT, (latent_dims, batch_sizes, widths), strict=True))
    none = not any(given.values())
    axes = {
        axis: tuple(values or (_SWEPT[axis] if none else (_CENTRE[axis],)))
        for axis, values in given.items()
    }
    # The size nearest to the centre by ratio; sizes below 1 are rejected later by `TimedStep`.
    centre = {
        axis: min(values, key=lambda value: abs(math.log(max(value, 1) / _CENTRE[axis])))
        for axis, values in axes.items()
    }
    designs = [
        tuple((centre | {axis: value}).values())
        for axis, values in axes.items()
        for value in values
    ]
    steps = (
        TimedStep(device, latent_dim, batch_size, width, precision, pack_size, eager)
        for precision, pack_size, (latent_dim, batch_size, width), device in itertools.product(
            precisions, pack_sizes, designs, devices
        )
    )
    return tuple(dict.fromkeys(steps))
