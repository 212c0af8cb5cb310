"""Time the training step in this process: runs `train` on random images on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.timed_step import IMAGE_SHAPE, LEVELS, TimedStep
from vaebench.model.vae import VAE
from vaebench.records.timing import Timing
from vaebench.runner.machine import absent_device, available_devices, environment, settle
from vaebench.runner.memory import PeakMemory, is_out_of_memory
from vaebench.runner.messages import DeviceInfo, TimingBudget
from vaebench.runner.seeding import generator, training_generators
from vaebench.system.processes import serve_the_parent
from vaebench.training.loop import Training, train

_IMAGES = 16_384
"""Number of images on the device, unless a batch is larger: 50 MB, more than a CPU cache."""

_WARM_UP_STEPS = 8
_SETTLING_STEPS = 5
"""Number of first steps that are not timed: the optimizer has no state yet, and on a GPU the step
is captured only after a few steps."""


def send_places(connection: Connection, threads: int, devices: Sequence[str]) -> None:
    """Send a description of each device; `available` stands for each kind on this machine."""
    serve_the_parent()
    settle(threads)
    named = [
        d for word in devices for d in (available_devices() if word == "available" else [word])
    ]
    connection.send([_place(device) for device in dict.fromkeys(named)])


def _place(device: str) -> DeviceInfo:
    absent = absent_device(device)
    return DeviceInfo(device, environment("cpu" if absent else device), absent)


def send_timing(connection: Connection, threads: int, step: TimedStep, bound: TimingBudget) -> None:
    """Send a timing; if the step raises an exception, send a failed timing with the reason."""
    serve_the_parent()
    settle(threads)
    try:
        timing = time_step(step, bound)
    except Exception as error:  # noqa: BLE001 -- a device may raise anything; others are timed
        what = "out of memory" if is_out_of_memory(error) else type(error).__name__
        timing = Timing.absent(step, "failed", f"{what}: {error}"[:500])
    connection.send(timing)


def time_step(step: TimedStep, bound: TimingBudget) -> Timing:
    """Time the training step; call it in a new process, because it measures peak memory.

    The time of a step includes all work on the device, because the loop reads every loss.

    Raises:
        ArithmeticError: the loss was not finite.
        torch.OutOfMemoryError: the step does not fit into the memory of the device.
    """
    _first_use(step)
    images = _made_up_images(max(step.batch_size, _IMAGES))
    warm_up = _Work(step, images, _WARM_UP_STEPS)
    memory = PeakMemory(step.device)
    vae = _model(step)
    first = warm_up.done_by(vae)
    peak = memory.peak()
    compiled = step.kind == "compiled"
    if compiled:
        first = warm_up.done_by(vae, compiled=True)
    steps = bound.steps_of(min(first.step_seconds[1:]))
    work = _Work(step, images, _SETTLING_STEPS + steps)
    wall, own = time.perf_counter(), time.thread_time()
    # The program was compiled in the warm-up.
    timed = work.done_by(vae, compiled=compiled)
    wall, own = time.perf_counter() - wall, time.thread_time() - own
    unsettled = len(timed.step_seconds) - steps
    return Timing.measured(
        step,
        timed.step_seconds[unsettled:],
        warm_up_steps=len(first.step_seconds) + unsettled,
        note=timed.note,
        step_kind=timed.step_kind,
        compile_seconds=first.compile_seconds if compiled else None,
        # On other devices the thread waits for the device.
        waited=max(0.0, 1 - own / wall) if step.device == "cpu" else None,
        threads=torch.get_num_threads(),
        peak_memory_mib=peak.value,
        peak_memory_reason=peak.reason,
    )


def _epochs(step: TimedStep, images: int, steps: int) -> tuple[int, int]:
    """Return the epochs and the images that give at least ``steps`` full batches."""
    epochs = -(-steps // (images // step.batch_size))
    return epochs, -(-steps // epochs) * step.batch_size


class _Work:
    """A training of at least ``steps`` steps on full batches."""

    def __init__(self, step: TimedStep, images: torch.Tensor, steps: int) -> None:
        epochs, taken = _epochs(step, len(images), steps)
        self._cells = step.cells(epochs)
        design = self._cells[0]
        self._pixels = TrainingPixels(
            images[:taken], LEVELS, design.binarization, design.dequantize, device=step.device
        )

    def done_by(self, vae: VAE, *, compiled: bool = False) -> Training:
        """Train; raises ArithmeticError if a member's loss is not finite."""
        sources = [training_generators(cell) for cell in self._cells]
        training = train(vae, self._cells, self._pixels, sources, compiled=compiled)
        if any(training.divergence):
            raise ArithmeticError("the loss was not finite: the training diverged")
        return training


def _model(step: TimedStep) -> VAE:
    cells = step.cells()
    weights = [generator(cell.seed, "weights") for cell in cells]
    # Binarised images have two levels; a likelihood without a scale ignores `initial_scale`.
    return VAE(cells, IMAGE_SHAPE, 2, weights, initial_scale=0.3).to(step.device)


def _made_up_images(count: int) -> torch.Tensor:
    """Return random grey levels from a fixed seed, `(N, C, H, W)` uint8."""
    source = generator(0, "made-up images")
    return torch.randint(LEVELS, (count, *IMAGE_SHAPE), dtype=torch.uint8, generator=source)


def _first_use(step: TimedStep) -> None:
    """Run a tiny step, so that torch and the device load their libraries before the timing."""
    tiny = replace(step, latent_dim=2, batch_size=2, width=2, pack_size=1)
    _Work(tiny, _made_up_images(4), 2).done_by(_model(tiny))
