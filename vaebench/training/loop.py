"""The training loop of a pack: epochs, timing, divergence, series per epoch, and checkpoints."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.batches import Generators, draw_batch, epoch_order
from vaebench.training.checkpoint import Checkpoint, Saved
from vaebench.training.compiled import (
    Capture,
    NotFaster,
    captured_step,
    compile_gradients,
    cuda_graph,
)
from vaebench.training.step import TrainingStep, learning_rate_factor

__all__ = ["Divergence", "Generators", "Progress", "Stopped", "Training", "train"]

_EAGER_STEPS = 3
"""Number of steps before a capture, in which libraries allocate their memory."""


@dataclass(frozen=True)
class Divergence:
    """The step at which the loss of a member was not finite.

    ``step`` counts from 1; ``loss`` is the last finite loss in nats per image, or None;
    ``gradient_norm`` is the norm at this step, None if not finite or captured; ``sigma`` is the
    scale at this step.
    """

    step: int
    loss: float | None
    gradient_norm: float | None
    sigma: float | None


@dataclass
class Training:
    """The result of training a pack, apart from the weights.

    Attributes:
        step_seconds: duration of each step of the pack, in order. Ten million steps are 80 MB.
        images: number of images on which each member was trained.
        series: for each member, maps a name to one number per epoch (nats per image; sigma in
            pixels).
        divergence: for each member, the step at which it diverged, or None.
        step_kind: ``eager``, ``compiled``, ``captured`` or ``compiled and captured``.
        note: the reason if steps could not be compiled or captured; else None.
        compile_seconds: the time to compile the step.
        resumed_after: epochs done by an earlier process; 0 if there was none.
    """

    series: list[dict[str, list[float | None]]]
    divergence: list[Divergence | None]
    step_seconds: array[float] = field(default_factory=lambda: array("d"))
    images: int = 0
    step_kind: str = "eager"
    note: str | None = None
    compile_seconds: float = 0.0
    resumed_after: int = 0


class Stopped(Exception):
    """Training was stopped on request and is saved in its checkpoint."""


AfterEpoch = Callable[[int, Callable[[], Training]], bool]
"""Called after each epoch with its number and a function that returns the result so far; returns
whether to end the training."""

Progress = Callable[[int, int, Sequence[float]], None]
"""Called after each epoch with its number, the number of epochs, and the mean losses."""


def train(
    vae: VAE,
    cells: Sequence[Cell],
    pixels: TrainingPixels,
    generators: Sequence[Generators],
    progress: Progress | None = None,
    *,
    compiled: bool = False,
    capture: Capture | None = None,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    after_epoch: AfterEpoch | None = None,
    kept: dict[str, Tensor] | None = None,
) -> Training:
    """Train a pack in place.

    Args:
        vae: the pack, on the device of ``pixels``.
        cells: one for each member, as for `TrainingStep`.
        pixels: the training split, shared by the members.
        generators: one for each member.
        progress: called after each epoch.
        compiled: whether to compile the step, which takes seconds; a training resumed from a
            checkpoint keeps its kind of step.
        capture: the function that captures a step; by default, a CUDA graph is captured on a GPU.
        checkpoint: the checkpoint in which the training is saved regularly. If it already holds the
            training, that is continued, with the same result as without interruption.
        stop: called after each epoch except the last, if there is a checkpoint; returns whether to
            stop.
        after_epoch: called after each epoch, before a checkpoint. The result of the function that
            it receives is valid until the next epoch.
        kept: tensors of ``after_epoch`` that are saved in checkpoints and restored from them.

    Raises:
        Stopped: ``stop`` returned true.
    """
    if capture is None and vae.prior_scale.is_cuda:
        capture = cuda_graph
    # Streams and compiled kernels belong to the current device.
    with torch.cuda.device_of(vae.prior_scale):  # type: ignore[no-untyped-call]  # so in torch
        held = {} if kept is None else kept
        loop = _Loop(vae, cells, pixels, generators, capture, checkpoint, stop, held)
        return loop.run(compiled, progress, after_epoch)


@dataclass
class _Loop:
    vae: VAE
    cells: Sequence[Cell]
    pixels: TrainingPixels
    generators: Sequence[Generators]
    capture: Capture | None
    checkpoint: Checkpoint | None
    stop: Callable[[], bool]
    kept: dict[str, Tensor]

    def __post_init__(self) -> None:
        self.design = self.cells[0]
        self.step = TrainingStep(self.vae, self.cells)
        self.training = Training([{} for _ in self.cells], [None for _ in self.cells])
        self._capture = self.capture if _is_fixed_program(self.design) else None
        self._captured: Callable[[Tensor, Tensor], Tensor] | None = None
        self._full_steps = 0  # since the start of this process
        self._last_loss: list[float | None] = [None for _ in self.cells]

    def run(
        self, compiled: bool, progress: Progress | None, after_epoch: AfterEpoch | None
    ) -> Training:
        training, epochs = self.training, self.design.epochs
        self.vae.train()
        compiled = self._resume(compiled)
        if compiled and _is_fixed_program(self.design):
            self._compile()
        for epoch in range(training.resumed_after, epochs):
            factor = learning_rate_factor(self.design.learning_rate_schedule, epoch / epochs)
            self.step.set_rate_factor(factor)
            losses = self._epoch(epoch, factor)
            if progress is not None:
                progress(epoch + 1, epochs, losses)
            ended = after_epoch is not None and after_epoch(epoch + 1, self._so_far)
            if ended or all(training.divergence):
                break
            if self.checkpoint is not None:
                stopped = epoch + 1 < epochs and self.stop()
                if stopped or self.checkpoint.is_due():
                    self.checkpoint.save(self._state(epoch + 1, compiled))
                if stopped:
                    raise Stopped
        self.vae.eval()
        result = self._so_far()
        self._captured = None  # frees the memory of the graph
        return result

    def _so_far(self) -> Training:
        """Return the result of the training so far."""
        # The last update may have made weights non-finite, which no later loss would show.
        divergence = [
            self._divergence(member) if each is None and not self.step.is_finite(member) else each
            for member, each in enumerate(self.training.divergence)
        ]
        kinds = {"compiled": self.step.compiled, "captured": self._captured}
        kind = " and ".join(name for name, used in kinds.items() if used) or "eager"
        return replace(self.training, divergence=divergence, step_kind=kind)

    def _epoch(self, epoch: int, factor: float) -> list[float]:
        """Train on each image once; returns the members' mean losses."""
        annealed = self.design.beta_schedule != "constant"
        training, size = self.training, self.design.batch_size
        # Python floats, because a tensor operation takes as long as one on a small layer.
        sums = [[0.0, 0.0, 0.0, 0.0] for _ in self.cells]
        trained = self._members()
        batches = torch.split(epoch_order(self.pixels, self.generators), size, dim=1)
        for batch, indices in enumerate(batches):
            begin = time.perf_counter()
            if annealed:
                self.step.set_penalties(epoch + batch / len(batches))
            numbers = self._take_step(indices).tolist()
            training.step_seconds.append(time.perf_counter() - begin)
            members = self._still_finite(numbers[0])
            if not members:
                break
            images = indices.shape[1]
            training.images += images
            for member in members:
                means = (1.0, *(term[member] for term in numbers))
                sums[member] = [s + images * m for s, m in zip(sums[member], means, strict=True)]
        means_of = [[s / n if n else math.nan for s in terms] for n, *terms in sums]
        for member in trained:
            self._append_epoch(member, factor, *means_of[member])
        return [terms[0] for terms in means_of]

    def _take_step(self, indices: Tensor) -> Tensor:
        """Update the weights on the images ``(P, B)``; returns the loss terms ``(3, P)``."""
        x, noise = draw_batch(self.design, self.pixels, self.generators, indices)
        if indices.shape[1] < self.design.batch_size:
            return self.step(x, noise)
        if self._captured is not None:
            return self._captured(x, noise)
        self._full_steps += 1
        if self._capture is not None and self._full_steps > _EAGER_STEPS:
            try:
                self._captured, numbers = captured_step(self.step, x, noise, self._capture)
            except NotFaster as error:
                self._capture = None
                self._note(error)
            else:
                return numbers
        return self.step(x, noise)

    def _compile(self) -> None:
        """Compile the step if possible, and record the time."""
        begin = time.perf_counter()
        # The generators of the cells are not used, so that their random numbers do not change.
        device = self.pixels.device
        sources = [Generators(*(torch.Generator(device) for _ in range(3))) for _ in self.cells]
        rows = torch.arange(self.design.batch_size, device=device).expand(len(self.cells), -1)
        try:
            self.step.compiled = compile_gradients(
                self.step, *draw_batch(self.design, self.pixels, sources, rows)
            )
        except NotFaster as error:
            self._note(error)
        self.training.compile_seconds += time.perf_counter() - begin

    def _note(self, error: NotFaster) -> None:
        notes = (self.training.note, f"the training step was {error}")
        self.training.note = "; ".join(note for note in notes if note)

    def _members(self) -> list[int]:
        """Return the members that have not diverged."""
        return [i for i, divergence in enumerate(self.training.divergence) if divergence is None]

    def _still_finite(self, losses: Sequence[float]) -> list[int]:
        """Note which members' losses are no longer finite, and return the others.

        A member that diverged stays in the program; it does not affect the others.
        """
        for member in self._members():
            if math.isfinite(losses[member]):
                self._last_loss[member] = losses[member]
            else:
                self.training.divergence[member] = self._divergence(member)
        return self._members()

    def _divergence(self, member: int) -> Divergence:
        # The gradient of a captured step is overwritten by that of a short batch after it.
        norm = math.nan if self._captured else self.step.gradient_norm(member)
        return Divergence(
            step=len(self.training.step_seconds),
            loss=self._last_loss[member],
            gradient_norm=norm if math.isfinite(norm) else None,
            sigma=self._sigma(member),
        )

    def _sigma(self, member: int) -> float | None:
        """Return the root mean square of the current scale; None for a family without one."""
        scale = self.vae.scale()
        if scale is None:
            return None
        value = float(scale[member].detach().square().mean().sqrt())
        return value if math.isfinite(value) else None

    def _append_epoch(
        self, member: int, factor: float, loss: float, error: float, kl: float
    ) -> None:
        """Append the means of an epoch to a member's series, without steps after divergence."""
        cell, divergence = self.cells[member], self.training.divergence[member]
        numbers: dict[str, float | None] = {
            "train_loss": loss,
            "train_reconstruction_error": error,
            "learning_rate": cell.learning_rate * factor,
            "sigma": self._sigma(member) if divergence is None else divergence.sigma,
        }
        if cell.posterior != "delta":
            numbers |= {"train_kl": kl, "train_elbo": -(error + kl)}
        for name, value in numbers.items():
            finite = value is not None and math.isfinite(value)
            self.training.series[member].setdefault(name, []).append(value if finite else None)

    def _model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and tensor of everything that training changes in the model."""
        for name, parameter in self.step.parameters.items():
            yield f"weights.{name}", parameter.detach()
        for name, buffer in self.vae.named_buffers():
            yield f"buffer.{name}", buffer

    def _generators(self) -> Iterator[tuple[str, torch.Generator]]:
        for member, sources in enumerate(self.generators):
            for name, source in vars(sources).items():
                yield f"generator.{member}.{name}", source
        # A user's network may draw from these, for example for dropout.
        yield "generator", torch.default_generator
        if self.pixels.device.type == "cuda":
            place = self.pixels.device.index or 0
            yield "generator.cuda", torch.cuda.default_generators[place]

    def _state(self, epochs: int, compiled: bool) -> Saved:
        """Return the complete state of training for a checkpoint."""
        training = self.training
        tensors = dict(self._model_tensors())
        for name, parameter in self.step.parameters.items():
            for key, value in self.step.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        tensors |= {name: source.get_state() for name, source in self._generators()}
        tensors |= {f"kept.{name}": value for name, value in self.kept.items()}
        tensors["step_seconds"] = torch.tensor(training.step_seconds, dtype=torch.float64)
        books = {
            "epochs": epochs,
            "compiled": compiled,
            "images": training.images,
            "series": training.series,
            "divergence": [each and asdict(each) for each in training.divergence],
            "last_loss": self._last_loss,
            "compile_seconds": training.compile_seconds,
        }
        return Saved(tensors, books)

    def _resume(self, compiled: bool) -> bool:
        """Continue the training in the checkpoint; return whether its step is compiled."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return compiled
        state = self._state(0, compiled)
        start = replace(state, tensors={name: t.clone() for name, t in state.tensors.items()})
        saved = self.checkpoint.load(self._restore)
        if saved is None:
            self._restore(start)
            return compiled
        return bool(saved.books["compiled"])

    def _restore(self, saved: Saved) -> None:
        """Restore a saved state; for a malformed one, raise an error as `Checkpoint.load` needs."""
        tensors, books, training = saved.tensors, saved.books, self.training
        for name, tensor in self._model_tensors():
            tensor.copy_(tensors[name])
        for name, parameter in self.step.parameters.items():
            start = f"optimizer.{name}."
            state = {
                key.removeprefix(start): value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(start)
            }
            if any(value.ndim > 0 and value.shape != parameter.shape for value in state.values()):
                raise ValueError(f"the optimizer's state of {name} has another shape")
            self.step.optimizer.state[parameter] = state
        for name, source in self._generators():
            source.set_state(tensors[name])
        for name, value in tensors.items():
            if name.startswith("kept."):
                self.kept[name.removeprefix("kept.")] = value
        training.step_seconds = array("d", tensors["step_seconds"].tolist())
        training.images, training.series = int(books["images"]), books["series"]
        training.divergence = [each and Divergence(**each) for each in books["divergence"]]
        self._last_loss = books["last_loss"]
        training.compile_seconds = float(books["compile_seconds"])
        training.resumed_after = int(books["epochs"])
        counts = {len(training.series), len(training.divergence), len(self._last_loss)}
        if counts != {len(self.generators)}:
            raise ValueError("it has another number of cells")


def _is_fixed_program(design: Cell) -> bool:
    """Return whether a step can be compiled or captured: no branches on data, constant buffers."""
    own_network = ":" in design.architecture
    return not own_network and design.posterior != "full" and design.sigma != "optimal"
