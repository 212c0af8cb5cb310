"""Blocks of training steps recorded once and replayed: CUDA graphs.

On a GPU the hundred or so small kernels of a small VAE's step take less time than their launches
do one by one. A graph launches those of many steps together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.training.batches import Generators

__all__ = ["Record", "ReplayedBlocks", "blocks_before_replay", "can_be_recorded", "cuda_graph"]

_EAGER_STEPS = 3
"""Libraries allocate at their first calls, which a recording may not contain."""


Record = Callable[[Callable[[], None], Sequence[torch.Generator]], Callable[[], None]]
"""Records what a function launches, without running it, and returns what replays it."""


_FAILED: list[str] = []
"""Why a recording of this process failed: torch's allocator is not sound after one, so that there
is no other (pytorch issues 180395 and 190348)."""


def cuda_graph(
    run: Callable[[], None], generators: Sequence[torch.Generator]
) -> Callable[[], None]:
    """Record ``run`` as a CUDA graph whose random numbers come from these generators.

    Raises:
        RuntimeError: it does something that a graph can't hold, such as waiting for the device, or
            an earlier one in this process did.
    """
    if _FAILED:
        raise RuntimeError(f"an earlier recording failed: {_FAILED[0]}")
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    before = torch.cuda.current_stream()
    try:
        # One of this device, and of this graph alone: where graphs share one, the end of one takes
        # the products' workspace from the others (pytorch issue 193402).
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # so in torch
        with torch.cuda.graph(graph, stream=stream):
            run()
    except RuntimeError as error:
        _FAILED.append(_cause(error))
        raise RuntimeError(_FAILED[0]) from error
    finally:
        torch.cuda.set_stream(before)  # which a recording that fails leaves on another
    return graph.replay


def _cause(error: BaseException) -> str:
    """The first line of what went wrong first: a recording's end fails for what failed in it."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).partition("\n")[0]


def can_be_recorded(cells: Sequence[Cell]) -> bool:
    """Whether a step of these cells never waits for the device or copies from the host."""
    design = cells[0]
    return (
        ":" not in design.architecture and design.posterior != "full" and design.sigma != "optimal"
    )


def blocks_before_replay(steps: int) -> int:
    """How many blocks of so many steps are taken before one is nothing but a replay."""
    return -(-_EAGER_STEPS // steps) + 1


class ReplayedBlocks:
    """Blocks of training steps, each shape replayed from its second or third block on.

    A first replay is checked against the steps themselves, from the same weights and random
    numbers; where they differ, or nothing can be recorded, the steps are taken one operation at a
    time from then on.

    Args:
        steps: indices ``(P, K, B)`` of K batches to the numbers of their losses ``(K, 3, P)``; it
            updates ``state``.
        state: every tensor that a step changes.
        generators: of the members; replaced in place if a recording leaves them unusable.
        record: how to record.
        tolerance: by how much, relatively, a first replay may differ.

    Attributes:
        note: why blocks are not replayed; None while they are, or may yet be.
    """

    def __init__(
        self,
        steps: Callable[[Tensor], Tensor],
        state: Sequence[Tensor],
        generators: list[Generators],
        record: Record,
        tolerance: float = 1e-3,
    ) -> None:
        self._steps, self._record, self._tolerance = steps, record, tolerance
        self._state, self._generators = state, generators
        self._replays: dict[torch.Size, Callable[[Tensor], Tensor]] = {}
        self._taken: Counter[torch.Size] = Counter()
        self.note: str | None = None

    def __call__(self, indices: Tensor) -> Tensor:
        """Take the steps of a block; the numbers are overwritten by the next of its shape."""
        shape = indices.shape  # an epoch's last batches may be fewer, or its last one short
        if self.note is None and shape in self._replays:
            return self._replays[shape](indices)
        self._taken[shape] += 1
        if self.note is None and self._taken[shape] >= blocks_before_replay(shape[1]):
            return self._checked(indices)
        return self._steps(indices)

    def forget(self) -> None:
        """Record anew at the next block, because what a step does has changed."""
        self._replays.clear()

    def _checked(self, indices: Tensor) -> Tensor:
        before = [tensor.detach().clone() for tensor in self._state]
        random_states = [source.get_state() for source in self._sources()]
        expected = self._outcome(self._steps(indices), before)
        self._restore(before, random_states)
        try:
            replay = self._recorded(indices)
            numbers = replay(indices)
            found = self._outcome(numbers, before)
            if self._agree(found, expected):
                self._replays[indices.shape] = replay
                return numbers
            self.note = "steps are not replayed as one graph: the first replay gave other numbers"
        except RuntimeError as error:
            self.note = f"steps are not replayed as one graph: {_cause(error)}"
            self._renew_generators()
        self._replays.clear()
        self._restore(before, random_states)
        return self._steps(indices)

    def _recorded(self, indices: Tensor) -> Callable[[Tensor], Tensor]:
        held = indices.clone()
        numbers: list[Tensor] = []

        def run() -> None:
            numbers[:] = [self._steps(held)]

        again = self._record(run, self._sources())

        def replay(indices: Tensor) -> Tensor:
            held.copy_(indices)
            again()
            return numbers[0]

        return replay

    @torch.no_grad()
    def _outcome(self, numbers: Tensor, before: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The numbers and the sizes of how each member's tensors moved; sums, on their scale.

        Numbers in the place of copies, since a large pack may hardly fit once. Each member's own,
        since those of one that diverged are no numbers.
        """
        sizes, sums = [numbers.flatten()], [torch.zeros_like(numbers).flatten()]
        for now, then in zip(self._state, before, strict=True):
            move = (now - then).reshape(now.shape[0] if now.dim() else 1, -1)
            sizes.append(move.norm(dim=1))
            sums.append(move.sum(dim=1) / math.sqrt(move.shape[1]))  # no larger than the size
        return torch.cat(sizes), torch.cat(sums)

    def _agree(self, found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
        """Whether two outcomes are equal but for rounding; what is no number is so in both."""
        room = self._tolerance * expected[0].abs() + 1e-6
        return all(
            bool((((a - b).abs() <= room) | (a == b) | (a.isnan() & b.isnan())).all())
            for a, b in zip(found, expected, strict=True)
        )

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
