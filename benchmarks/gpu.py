"""Time and kernels of a training step on a GPU: `python -m benchmarks.gpu`.

For three designs, each with captured steps and with compiled and captured steps: the
time of a step, and the kernels that the GPU runs in it. The data are artificial, because only the
time matters.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.models import training_pixels, vae_of
from benchmarks.peers.workload import as_cell, workload
from vaebench.findings.registry import FINDINGS
from vaebench.grid.cell import Cell
from vaebench.runner.machine import absent_device
from vaebench.runner.seeding import training_generators
from vaebench.training.loop import train

__all__ = ["Cost", "cost", "designs", "table"]

_EPOCHS, _STEPS = 8, 60
"""Epochs of one training and steps of an epoch; most of the steps are captured."""


@dataclass(frozen=True)
class Cost:
    """Cost of a training step of a pack.

    Attributes:
        name: the design's.
        compiled: whether its steps were compiled.
        step_us: median time of a step, microseconds.
        kernels: kernels and copies that the GPU runs in a step; None on a CPU.
        busy_us: how long it is busy with them, microseconds; None on a CPU.
        compile_seconds: seconds of compiling.
        note: why steps were not captured or not compiled; None if they were.
    """

    name: str
    compiled: bool
    step_us: float
    kernels: float | None
    busy_us: float | None
    compile_seconds: float
    note: str | None


def designs() -> dict[str, tuple[Cell, ...]]:
    """The packs: IWAE's network, and that of the peers alone and as 64 seeds."""
    (iwae,) = FINDINGS["iwae-whole-schedule"].cells("full")
    peer = as_cell(workload(images="digits"), 0)
    return {
        "784-200-200-50, batch 20": (iwae,),
        "784-400-20, batch 128": (peer,),
        "784-400-20, batch 128, pack of 64": tuple(
            peer.model_copy(update={"seed": seed}) for seed in range(64)
        ),
    }


def cost(name: str, cells: Sequence[Cell], device: str, *, compiled: bool) -> Cost:
    """Train for a few hundred steps and profile those of one epoch."""
    update = {"device": device, "epochs": _EPOCHS, "learning_rate_schedule": "constant"}
    cells = [cell.model_copy(update=update) for cell in cells]
    pixels = training_pixels(cells[0], _STEPS * cells[0].batch_size)
    vae = vae_of(*cells)
    profiler = profile(activities=[ProfilerActivity.CUDA])

    def watch_one_epoch(epoch: int, *_: object) -> None:
        if epoch == _EPOCHS - 2:
            profiler.start()
        elif epoch == _EPOCHS - 1:
            profiler.stop()

    watched = device != "cpu"
    training = train(
        vae,
        cells,
        pixels,
        [training_generators(cell) for cell in cells],
        watch_one_epoch if watched else None,
        compiled=compiled,
    )
    events = [e for e in profiler.events() if e.device_type.name == "CUDA"] if watched else []
    return Cost(
        name,
        compiled,
        statistics.median(training.step_seconds) * 1e6,
        len(events) / _STEPS if watched else None,
        sum(event.time_range.elapsed_us() for event in events) / _STEPS if watched else None,
        training.compile_seconds,
        training.note,
    )


def table(costs: Sequence[Cost]) -> str:
    """The costs as Markdown."""
    lines = [
        "| design | steps | µs a step | kernels a step | µs busy a step | s to compile | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in costs:
        how = "compiled" if each.compiled else "as they are"
        seen = ["-" if each.kernels is None else f"{each.kernels:.0f}"]
        seen.append("-" if each.busy_us is None else f"{each.busy_us:.1f}")
        lines.append(
            f"| {each.name} | {how} | {each.step_us:.1f} | {' | '.join(seen)} "
            f"| {each.compile_seconds:.1f} | {each.note or '-'} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; return 1 if the device is absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    why = absent_device(device)
    if why is not None:
        print(f"device {device}: {why}", file=sys.stderr)
        return 1
    print(torch.cuda.get_device_name(device) if device != "cpu" else "CPU", torch.__version__)
    costs = []
    for name, cells in designs().items():
        for compiled in (False, True):
            costs.append(cost(name, cells, device, compiled=compiled))
            print(table(costs[-1:]).splitlines()[-1], flush=True)
    print(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
