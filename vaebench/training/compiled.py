"""Faster ways to run the same training step: `torch.compile` and CUDA graphs.

On a CPU the loss and its gradient are compiled as one program; the update stays torch's Adam. On a
GPU the whole step is captured as a CUDA graph, since its many small kernels take less time than
their launches. Both differ from the eager step by rounding only, which is checked before use.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from vaebench.grid.cell import program_key
from vaebench.model.loss import training_loss
from vaebench.model.vae import VAE
from vaebench.training.step import Gradients, TrainingStep

__all__ = ["Capture", "NotFaster", "captured_step", "compile_gradients", "cuda_graph"]

_TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2}
"""The largest relative difference from the eager step, in the Euclidean norm of each tensor;
bfloat16 rounds a number by up to 0.004 of itself."""

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Captures the GPU work of a function without running it, and returns a function to replay it."""


class NotFaster(Exception):
    """A step cannot be compiled or captured, or its results differ from those of eager steps."""


class _Loss(nn.Module):
    """The loss as a module, so that `functional_call` can exchange its parameters and buffers."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, penalties: Tensor, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        terms = training_loss(self.vae, penalties, x, noise)
        return terms.loss.sum(), terms.stacked()


_Program = Callable[..., tuple[dict[str, Tensor], tuple[Tensor, Tensor]]]
_programs: dict[Hashable, _Program] = {}
"""The last compiled program, kept because the next cell often needs the same program."""


def _program(vae: VAE) -> _Program:
    """Return the compiled gradient and value of the loss for packs of these shapes."""
    # The program depends on shapes, and on constants that are not parameters or buffers.
    data = (vae.image_shape, vae.levels, vae.initial_scale, vae.units is None)
    key = (program_key(vae.cells[0]), len(vae.cells), data)
    if key not in _programs:
        loss = _Loss(vae)

        def value(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], *batch: Tensor
        ) -> tuple[Tensor, Tensor]:
            return functional_call(loss, {**parameters, **buffers}, batch)  # type: ignore[no-any-return]  # of _Loss

        # The compiler stops compiling a function after a number of versions, unless it is reset.
        torch.compiler.reset()
        _programs.clear()
        options: dict[str, str | int | bool | Callable[..., object]] = {"compile_threads": 1}
        if vae.prior_scale.device.type == "cpu":
            options["cpp_wrapper"] = True
        _programs[key] = torch.compile(
            grad_and_value(value, has_aux=True), fullgraph=True, dynamic=False, options=options
        )
    return _programs[key]


def compile_gradients(step: TrainingStep, x: Tensor, noise: Tensor) -> Gradients:
    """Compile a replacement of `TrainingStep.gradients` for batches shaped like these.

    Raises:
        NotFaster: there is no compiler, it fails for this design, or the results differ.
    """
    names = {f"vae.{name}": p.detach() for name, p in step.parameters.items()}
    buffers = {f"vae.{name}": buffer for name, buffer in step.vae.named_buffers()}

    def gradients(x: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        found, (_, numbers) = program(names, buffers, step.penalties, x, noise)
        return numbers, list(found.values())

    try:
        program = _program(step.vae)
        with warnings.catch_warnings():
            # The compiler uses what torch itself has deprecated.
            warnings.simplefilter("ignore")
            numbers, found = gradients(x, noise)
    except Exception as error:  # training continues without the compiler after any error
        first_line = str(error).partition("\n")[0]
        raise NotFaster(f"not compiled: {type(error).__name__}: {first_line}") from error
    expected, eager = step.gradients(x, noise)
    theirs = [0 * a if b is None else b for a, b in zip(found, eager, strict=True)]
    if not _agree([numbers, *found], [expected, *theirs], step.vae.cells[0].precision):
        raise NotFaster("not compiled: the results differ from those of the eager step")
    return gradients


def _agree(ours: Sequence[Tensor], theirs: Sequence[Tensor], precision: str) -> bool:
    """Return whether tensors are equal up to rounding, ignoring members that diverged."""
    pairs = list(zip(ours, theirs, strict=True))
    if any(not a.isfinite().equal(b.isfinite()) for a, b in pairs):
        return False
    pairs = [(a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)) for a, b in pairs]
    # A tensor that is zero up to rounding is compared on the scale of all tensors.
    total = float(nn.utils.get_total_norm([b for _, b in pairs]))
    return all(
        float((a - b).norm()) <= _TOLERANCE[precision] * (float(b.norm()) + 1e-2 * total)
        for a, b in pairs
    )


_capture_failure: list[str] = []
"""The reason why a capture failed in this process. No other capture is then tried, because torch's
allocator is not reliable after a failed one (pytorch issues 180395 and 190348)."""


def cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """Capture ``run`` as a CUDA graph and return its replay.

    Raises:
        RuntimeError: ``run`` has an operation that cannot be captured, such as waiting for the
            device, or an earlier capture in this process failed.
    """
    if _capture_failure:
        raise RuntimeError(f"an earlier capture failed: {_capture_failure[0]}")
    graph = torch.cuda.CUDAGraph()
    before = torch.cuda.current_stream()
    try:
        # torch's default stream for captures is one for all devices.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # so in torch
        with torch.cuda.graph(graph, stream=stream):
            run()
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # find the first error, which made the capture fail
            cause = cause.__context__
        _capture_failure.append(str(cause).partition("\n")[0])
        raise RuntimeError(_capture_failure[0]) from error
    finally:
        torch.cuda.set_stream(before)  # a failed capture does not restore the stream
    return graph.replay


def captured_step(
    step: TrainingStep, x: Tensor, noise: Tensor, capture: Capture
) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """Take one step on a batch and capture it for batches of the same shape.

    The first replay is compared with an eager step from the same weights. Call it after some eager
    steps: libraries allocate memory at their first calls, which a capture may not contain.

    Returns:
        The captured step, which overwrites its result at each call, and the result of this step.

    Raises:
        NotFaster: the step cannot be captured, or the results differ; the weights are unchanged.
    """
    before = [tensor.clone() for tensor in step.state()]
    expected = [step(x, noise), *_moves(step, before)]
    held_x, held_noise, held_numbers = x.clone(), noise.clone(), torch.empty_like(expected[0])

    def run() -> None:
        held_numbers.copy_(step(held_x, held_noise))

    def replayed(x: Tensor, noise: Tensor) -> Tensor:
        held_x.copy_(x)
        held_noise.copy_(noise)
        replay()
        return held_numbers

    _restore(step, before)
    try:
        replay = capture(run)
        numbers = replayed(x, noise)
    except RuntimeError as error:
        _restore(step, before)
        raise NotFaster(f"not captured as a CUDA graph: {error}") from error
    if not _agree([numbers, *_moves(step, before)], expected, step.vae.cells[0].precision):
        _restore(step, before)
        raise NotFaster("not captured as a CUDA graph: the first replay gave other numbers")
    return replayed, numbers


def _moves(step: TrainingStep, before: Sequence[Tensor]) -> list[Tensor]:
    return [now - then for now, then in zip(step.state(), before, strict=True)]


@torch.no_grad()
def _restore(step: TrainingStep, before: Sequence[Tensor]) -> None:
    for tensor, copy in zip(step.state(), before, strict=True):
        tensor.copy_(copy)
