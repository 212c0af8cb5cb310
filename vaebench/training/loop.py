"""The training loop of a pack: data order, noise, time, and the books."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch import Tensor

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.batches import Batches, Generators, blocks, steps_of_a_block
from vaebench.training.checkpoint import Checkpoint
from vaebench.training.compiled import (
    TOLERANCE,
    NotCompiled,
    compiled_step,
    worth_compiling,
)
from vaebench.training.optimizer import PackOptimizer
from vaebench.training.replay import Record, ReplayedBlocks, can_be_recorded, cuda_graph
from vaebench.training.step import Step, eager_step, learning_rate_factor, second_weights

__all__ = ["Divergence", "Generators", "Progress", "Stopped", "Training", "train"]


@dataclass(frozen=True)
class Divergence:
    """Where a member's loss stopped being finite.

    ``step`` counts from 1; ``loss`` is the last finite loss in nats per image, None if there was
    none; ``gradient_norm`` is that step's, None if not finite, or where steps are compiled or
    replayed; ``sigma`` is the scale in force at its end, or at that of its block.
    """

    step: int
    loss: float | None
    gradient_norm: float | None
    sigma: float | None


@dataclass
class Training:
    """What training a pack leaves behind, apart from the weights.

    Attributes:
        step_seconds: duration of each step of the pack, in order; of steps taken as one block,
            the block's mean.
        images: images each member has seen.
        series: for each member, name -> one number an epoch (nats per image; sigma in pixels).
        divergence: for each member, where it diverged, or None.
        note: why steps on a GPU were not replayed as one graph, or steps not compiled where it
            were worth it; None if all is as it should be.
        compile_seconds: what compiling the step took, before the first.
        resumed_after: the epochs that an earlier process had done; 0 if there was none.
    """

    step_seconds: array[float]
    images: int
    series: list[dict[str, list[float | None]]]
    divergence: list[Divergence | None]
    note: str | None = None
    compile_seconds: float = 0.0
    resumed_after: int = 0


class Stopped(Exception):
    """A training was asked to stop and is kept in its checkpoint."""


AfterEpoch = Callable[[int, Callable[[], Training]], None]

Progress = Callable[[int, int, Sequence[float]], None]
"""Called after each epoch with its number, their count, and the members' mean losses."""


def train(
    vae: VAE,
    cells: Sequence[Cell],
    pixels: TrainingPixels,
    generators: Sequence[Generators],
    progress: Progress | None = None,
    record: Record | None = None,
    compiled: bool | None = None,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    after_epoch: AfterEpoch | None = None,
) -> Training:
    """Train a pack in place.

    Args:
        vae: on the device of ``pixels``.
        cells: one a member; epochs, batch size, schedule and precision are the first's.
        pixels: the training split, shared by the members.
        generators: one a member.
        progress: called after each epoch.
        record: how a step is recorded to be replayed; by default as a CUDA graph on a GPU, and not
            at all elsewhere.
        compiled: whether the step is compiled; by default where its steps repay that.
        checkpoint: where the training is kept after an epoch from time to time; what is there
            already is gone on from, with the same result as without a stop.
        stop: asked after each epoch but the last, where there is a checkpoint, whether to stop.
        after_epoch: called after each epoch, before a checkpoint, with its number and a function
            that gives the training as if it ended there, for use before the next epoch.

    Raises:
        Stopped: ``stop`` said so.
    """
    if record is None and vae.prior_scale.is_cuda:
        record = cuda_graph
    # Streams, and kernels that the compiler wrote, are those of the current device.
    with torch.cuda.device_of(vae.prior_scale):  # type: ignore[no-untyped-call]  # so in torch
        loop = _Loop(
            vae, cells, pixels, list(generators), record, compiled, checkpoint, stop, after_epoch
        )
        return loop.run(progress)


class _EpochSums:
    """Sums over an epoch's images, a member each; the last batch may be short.

    In Python's own numbers: a step's are read at its end anyhow, and a tensor's operation costs as
    much as one on a small layer.
    """

    def __init__(self, members: int) -> None:
        self._sums = [[0.0] * members for _ in range(3)]
        self._images = [0] * members

    def add(self, numbers: Sequence[Sequence[float]], images: int, members: Sequence[int]) -> None:
        """Add a batch's means, three a member, each times its images, for these members."""
        for member in members:
            self._images[member] += images
            for sums, means in zip(self._sums, numbers, strict=True):
                sums[member] += images * means[member]

    def means(self) -> list[list[float]]:
        """Loss, reconstruction error and KL: a number a member, nats per image; NaN of none."""
        return [
            [total / n if n else math.nan for total, n in zip(sums, self._images, strict=True)]
            for sums in self._sums
        ]


@dataclass
class _Loop:
    vae: VAE
    cells: Sequence[Cell]
    pixels: TrainingPixels
    generators: list[Generators]
    record: Record | None
    compiled: bool | None = None
    checkpoint: Checkpoint | None = None
    stop: Callable[[], bool] = lambda: False
    after_epoch: AfterEpoch | None = None
    # Ten million steps are 80 MB of numbers; as Python's own objects they would be four times that.
    step_seconds: array[float] = field(default_factory=lambda: array("d"))
    images: int = 0

    def __post_init__(self) -> None:
        self.device = self.vae.prior_scale.device
        self.weights = second_weights(self.cells, self.device)
        self.optimizer = PackOptimizer(self.vae, self.cells)
        self.note: str | None = None
        self._eager: Step = partial(eager_step, self.vae, self.cells, self.weights, self.optimizer)
        self._compiled: Step | None = None
        self._replayed: ReplayedBlocks | None = None
        self._block = 1
        if self.record is not None and can_be_recorded(self.cells):
            # Buffers change in no step that can be recorded.
            state = [*self.optimizer.state.tensors(), self.optimizer.steps]
            self._replayed = ReplayedBlocks(
                self._steps,
                state,
                self.generators,
                self.record,
                TOLERANCE[self.cells[0].precision],
            )
            self._block = steps_of_a_block(self.cells[0], self.pixels.dimensions)
        self._batches = Batches(self.cells, self.pixels, self.generators)
        self.series: list[dict[str, list[float | None]]] = [{} for _ in self.cells]
        self.divergence: list[Divergence | None] = [None for _ in self.cells]
        self._last_loss: list[float | None] = [None for _ in self.cells]
        self.compile_seconds = 0.0
        self.resumed_after = 0

    def run(self, progress: Progress | None) -> Training:
        design = self.cells[0]
        self.vae.train()
        self.compile_seconds = self._compile()
        self.resumed_after = self._resume()
        for epoch in range(self.resumed_after, design.epochs):
            factor = learning_rate_factor(design.learning_rate_schedule, epoch / design.epochs)
            self.optimizer.set_factor(factor)
            losses = self._epoch(factor)
            if progress is not None:
                progress(epoch + 1, design.epochs, losses)
            if self.after_epoch is not None:
                self.after_epoch(epoch + 1, self._so_far)
            if all(self.divergence):
                break
            if self.checkpoint is not None:
                self._keep(self.checkpoint, epoch + 1)
        self.vae.eval()
        if self._replayed is not None:
            self.note = "; ".join(filter(None, (self.note, self._replayed.note))) or None
            self._replayed.forget()  # a graph holds the memory of a block of steps
        return self._so_far()

    def _so_far(self) -> Training:
        """The training as if it ended here."""
        return Training(
            self.step_seconds,
            self.images,
            self.series,
            self._checked_weights(),
            self.note,
            self.compile_seconds,
            self.resumed_after,
        )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What training changes, but for the generators, by name."""
        for index, tensor in enumerate(self.optimizer.state.tensors()):
            yield f"state.{index}", tensor
        yield "steps", self.optimizer.steps
        for name, buffer in self.vae.named_buffers():
            yield f"buffer.{name}", buffer

    def _sources(self) -> Iterator[tuple[str, torch.Generator]]:
        for member, sources in enumerate(self.generators):
            for name, source in vars(sources).items():
                yield f"generator.{member}.{name}", source
        # A user's own network may draw from these, as dropout does.
        yield "generator", torch.default_generator
        if self.device.type == "cuda":
            place = self.device.index or 0
            yield "generator.cuda", torch.cuda.default_generators[place]

    def _keep(self, checkpoint: Checkpoint, epochs: int) -> None:
        """Save what is trained so far, where it is time for it or the last chance."""
        stopped = epochs < self.cells[0].epochs and self.stop()
        if stopped or checkpoint.is_due():
            self._save(checkpoint, epochs)
        if stopped:
            raise Stopped

    def _save(self, checkpoint: Checkpoint, epochs: int) -> None:
        tensors = dict(self._tensors())
        tensors |= {name: source.get_state() for name, source in self._sources()}
        tensors["step_seconds"] = torch.tensor(self.step_seconds, dtype=torch.float64)
        books = {
            "epochs": epochs,
            "images": self.images,
            "series": self.series,
            "divergence": [each and asdict(each) for each in self.divergence],
            "last_loss": self._last_loss,
            "compile_seconds": self.compile_seconds,
        }
        checkpoint.save(tensors, books)

    def _resume(self) -> int:
        """Go on where an earlier process was; the epochs that it had done."""
        saved = None if self.checkpoint is None else self.checkpoint.load()
        if saved is None:
            return 0
        tensors, books = saved.tensors, saved.books
        for name, tensor in self._tensors():
            tensor.copy_(tensors[name])
        for name, source in self._sources():
            source.set_state(tensors[name])
        self.step_seconds = array("d", tensors["step_seconds"].tolist())
        self.images, self.series = books["images"], books["series"]
        self.divergence = [each and Divergence(**each) for each in books["divergence"]]
        self._last_loss = books["last_loss"]
        self.compile_seconds += books["compile_seconds"]
        for member, divergence in enumerate(self.divergence):
            if divergence is not None:
                self.optimizer.drop(member)
        return int(books["epochs"])

    def _epoch(self, factor: float) -> list[float]:
        sums = _EpochSums(len(self.cells))
        size = self.cells[0].batch_size
        count = len(self.pixels)
        order = torch.stack([torch.randperm(count, generator=g.order) for g in self.generators])
        order = order.to(self.device)
        take_steps = self._replayed or self._steps
        booked = members = self._members()
        for indices in blocks(order, size, self._block):
            begin = time.perf_counter()
            taken = take_steps(indices).tolist()
            seconds = (time.perf_counter() - begin) / len(taken)
            for numbers in taken:
                if not self._check(numbers[0]):
                    members = self._members()
                self.step_seconds.append(seconds)
                if not members:
                    return self._book(sums, factor, booked)
                images = indices.shape[-1]
                sums.add(numbers, images, members)
                self.images += images
        return self._book(sums, factor, booked)

    def _steps(self, indices: Tensor) -> Tensor:
        """Take the steps of a block ``(P, K, B)``; their numbers ``(K, 3, P)``."""
        x, noise = self._batches.draw(indices)
        step = self._step_for(x)
        numbers = [step(*drawn) for drawn in zip(x, noise, strict=True)]
        return numbers[0].unsqueeze(0) if len(numbers) == 1 else torch.stack(numbers)

    def _step_for(self, x: Tensor) -> Step:
        """The compiled step is for full batches."""
        full = x.shape[2] == self.cells[0].batch_size
        return self._eager if self._compiled is None or not full else self._compiled

    def _worth_compiling(self) -> bool:
        design = self.cells[0]
        steps = design.epochs * math.ceil(len(self.pixels) / design.batch_size)
        return worth_compiling(steps, self.device.type) and can_be_recorded(self.cells)

    def _compile(self) -> float:
        """Compile the step where that is repaid; returns the seconds it took."""
        design = self.cells[0]
        if not (self._worth_compiling() if self.compiled is None else self.compiled):
            return 0.0
        begin = time.perf_counter()
        # With generators of their own: what the cells draw in training stays what it is.
        sources = [Generators(*(torch.Generator(self.device) for _ in range(3)))] * len(self.cells)
        rows = torch.arange(design.batch_size, device=self.device)
        batches = Batches(self.cells, self.pixels, sources)
        x, noise = batches.draw(rows.expand(len(self.cells), 1, -1))
        try:
            self._compiled = compiled_step(
                self.vae, self.cells, self.weights, self.optimizer, x[0], noise[0]
            )
        except NotCompiled as error:
            self.note = f"the training step was not compiled: {error}"
        return time.perf_counter() - begin

    def _members(self) -> list[int]:
        """Those that are still trained."""
        return [member for member, ended in enumerate(self.divergence) if ended is None]

    def _check(self, losses: Sequence[float]) -> bool:
        """Drop the members whose loss is not finite; false when there was one."""
        all_finite = True
        for member, value in enumerate(losses):
            if self.divergence[member] is not None:
                continue
            if abs(value) < float("inf"):
                self._last_loss[member] = value
                continue
            all_finite = False
            self.divergence[member] = self._divergence(member, len(self.step_seconds) + 1)
            self.optimizer.drop(member)
            if self._replayed is not None:
                self._replayed.forget()
        return all_finite

    def _checked_weights(self) -> list[Divergence | None]:
        """Where members diverged, by the last update too: no loss follows that would show it."""
        return [
            earlier
            if earlier is not None or self.optimizer.is_finite(member)
            else self._divergence(member, len(self.step_seconds))
            for member, earlier in enumerate(self.divergence)
        ]

    def _divergence(self, member: int, step: int) -> Divergence:
        # No Python sees the gradient of a step that is replayed.
        norm = None if self._replayed is not None else self.optimizer.gradient_norm(member)
        return Divergence(
            step=step,
            loss=self._last_loss[member],
            gradient_norm=norm if norm is not None and abs(norm) < float("inf") else None,
            sigma=self._sigma(member),
        )

    def _sigma(self, member: int) -> float | None:
        scale = self.vae.scale()
        if scale is None:
            return None
        value = float(scale[member].detach().square().mean().sqrt())
        return value if abs(value) < float("inf") else None

    def _book(self, sums: _EpochSums, factor: float, members: Sequence[int]) -> list[float]:
        """Write an epoch's means into these members' series; returns all losses.

        One that diverged has what came before it in its last epoch, and no epoch after it.
        """
        losses, error, kl = sums.means()
        for member in members:
            cell = self.cells[member]
            numbers: dict[str, float | None] = {
                "train_loss": losses[member],
                "train_reconstruction_error": error[member],
                "learning_rate": cell.learning_rate * factor,
                "sigma": self._sigma(member),
            }
            if cell.posterior != "delta":
                numbers["train_kl"] = kl[member]
                numbers["train_elbo"] = -(error[member] + kl[member])
            for name, value in numbers.items():
                finite = value is not None and abs(value) < float("inf")
                self.series[member].setdefault(name, []).append(value if finite else None)
        return losses
