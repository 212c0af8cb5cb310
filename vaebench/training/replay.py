"""A training step recorded once and replayed: a CUDA graph.

On a GPU the hundred or so small kernels of a small VAE's step take less time than their launches
do one by one. A graph launches them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.grid.cell import Cell

__all__ = ["Generators", "Record", "ReplayedStep", "can_be_recorded", "cuda_graph"]

_EAGER_STEPS = 3
"""Libraries allocate at their first calls, which a recording may not contain."""


@dataclass(frozen=True)
class Generators:
    """One cell's sources of randomness: the order of the images, their pixels, the codes' noise."""

    order: torch.Generator
    pixels: torch.Generator
    noise: torch.Generator


Record = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]
"""Records what a function launches, without running it, and returns what replays it."""


def cuda_graph(
    run: Callable[[], None], generators: Sequence[torch.Generator]
) -> Callable[[], None]:
    """Record ``run`` as a CUDA graph whose random numbers come from these generators.

    Raises:
        RuntimeError: it does something that a graph can't hold, such as waiting for the device.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def can_be_recorded(cells: Sequence[Cell]) -> bool:
    """Whether a step of these cells never waits for the device or copies from the host."""
    design = cells[0]
    return (
        ":" not in design.architecture
        and design.posterior != "full"
        and design.sigma != "optimal"
        and not any(cell.sparsity for cell in cells)
    )


class ReplayedStep:
    """A training step that is replayed from its fourth call on.

    The first replay is checked against the step itself, from the same weights and random numbers;
    where they differ, or nothing can be recorded, the step itself is used from then on.

    Args:
        step: indices ``(P, B)`` of a batch to the numbers of its loss; it updates ``state``.
        state: every tensor that a step changes.
        generators: of the members; replaced in place if a recording leaves them unusable.
        record: how to record.

    Attributes:
        note: why the step is not replayed; None while it is, or may yet be.
        was_replayed: whether the last step was: no Python saw its gradient.
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        state: Sequence[Tensor],
        generators: list[Generators],
        record: Record,
    ) -> None:
        self._step, self._record = step, record
        self._state, self._generators = state, generators
        self._replay: Callable[[], None] | None = None
        self._calls = 0
        self.note: str | None = None
        self.was_replayed = False

    def __call__(self, indices: Tensor) -> Tensor:
        """Take a step; the numbers are overwritten by the next one."""
        if self._calls == 0:
            self._indices = indices.clone()
        self._calls += 1
        usual = indices.shape == self._indices.shape  # an epoch's last batch may be short
        self.was_replayed = False
        if self.note is not None or self._calls <= _EAGER_STEPS or not usual:
            return self._step(indices)
        if self._replay is None:
            return self._checked(indices)
        self._indices.copy_(indices)
        self._replay()
        self.was_replayed = True
        return self._numbers

    def forget(self) -> None:
        """Record anew at the next step, because what a step does has changed."""
        self._replay = None

    def _checked(self, indices: Tensor) -> Tensor:
        before = [tensor.detach().clone() for tensor in self._state]
        random_states = [source.get_state() for source in self._sources()]
        expected = self._outcome(self._step(indices), before)
        self._restore(before, random_states)
        self._indices.copy_(indices)
        try:
            self._replay = self._record(self._run, self._sources())
            self._replay()
            if torch.allclose(self._outcome(self._numbers, before), expected, 1e-3, 1e-6, True):
                self.was_replayed = True
                return self._numbers
            self.note = "steps are not replayed as one graph: the first replay gave other numbers"
        except RuntimeError as error:
            first_line = str(error).partition("\n")[0]
            self.note = f"steps are not replayed as one graph: {first_line}"
            self._renew_generators()
        self._restore(before, random_states)
        return self._step(indices)

    def _run(self) -> None:
        self._numbers = self._step(self._indices)

    @torch.no_grad()
    def _outcome(self, numbers: Tensor, before: Sequence[Tensor]) -> Tensor:
        """The numbers, and size and sum of how each tensor moved: equal but for rounding.

        Numbers in the place of copies, since a large pack may hardly fit once.
        """
        moves = (now - then for now, then in zip(self._state, before, strict=True))
        sizes = [each for move in moves for each in (move.norm(), move.mean())]
        return torch.cat((numbers.flatten(), torch.stack(sizes)))

    def _sources(self) -> list[torch.Generator]:
        return [each for g in self._generators for each in (g.pixels, g.noise)]

    @torch.no_grad()
    def _restore(self, copies: Sequence[Tensor], random_states: Sequence[Tensor]) -> None:
        for tensor, copy in zip(self._state, copies, strict=True):
            tensor.copy_(copy)
        for source, random_state in zip(self._sources(), random_states, strict=True):
            source.set_state(random_state)

    def _renew_generators(self) -> None:
        """A recording that failed leaves its generators in a state that only it can end."""
        self._generators[:] = [
            Generators(g.order, torch.Generator(g.pixels.device), torch.Generator(g.noise.device))
            for g in self._generators
        ]
