"""Compares the training steps of the peers with ours: alternating, in one process, on one core."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import torch

from benchmarks.peers.jax_scan import train_jax
from benchmarks.peers.plain import train_plain
from benchmarks.peers.products import time_products
from benchmarks.peers.pythae_default import HIDDEN, PYTHAE_BATCH, train_pythae
from benchmarks.peers.pytorch_example import train_example
from benchmarks.peers.vaebench_loop import train_vaebench
from benchmarks.peers.workload import BATCH, Images, Workload, workload

__all__ = ["Compared", "compare", "has_bfloat16", "one_core", "table"]


_Seconds = dict[tuple[str, tuple[int, int]], list[float]]
"""Seconds of each run by its name and sizes, one number for each round."""


@dataclass(frozen=True)
class _Row:
    """A comparison: the names of two runs on one network, and the aim."""

    theirs: str
    ours: str
    hidden: int
    target: float | None = None
    batch_size: int = BATCH

    @property
    def size(self) -> tuple[int, int]:
        """Hidden units and batch size of both runs."""
        return self.hidden, self.batch_size


_OURS, _HALF = "vaebench", "vaebench, bfloat16"

_ROWS = (
    _Row("vaebench, not compiled", _OURS, 400),
    _Row("PyTorch example's loop", _OURS, 400, 3.0),
    _Row("plain PyTorch, data in memory", _OURS, 400),
    _Row("JAX, jit and scan", _OURS, 400, 1.0),
    _Row("matrix products alone", _OURS, 400, 0.85),
    _Row("pythae, its own network", _OURS, HIDDEN, 2.5),
    _Row("pythae, its own network", _OURS, HIDDEN, 2.5, PYTHAE_BATCH),
    _Row("matrix products alone", _OURS, HIDDEN, 0.85),
    _Row(_OURS, _HALF, 400),
    _Row("JAX, jit and scan", _HALF, 400, 1.2),
    _Row("pythae, its own network", _HALF, HIDDEN),
)
"""The aim is how many times as fast our step is; for the products alone, the share reached."""


@dataclass(frozen=True)
class Compared:
    """One peer against vaebench on the same network.

    Attributes:
        name: the peer's.
        ours_is: which of our steps it is compared with; float32 unless its name says bfloat16.
        theirs, ours: milliseconds for each step, the median over rounds.
        ratio: theirs / ours, the median over rounds of the ratio within a round.
        low, high: quartiles of that ratio.
        target: the aim, if there is one.
    """

    name: str
    ours_is: str
    network: str
    batch_size: int
    theirs: float
    ours: float
    ratio: float
    low: float
    high: float
    target: float | None


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 numbers."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def one_core() -> Iterator[None]:
    """Use one core and one thread for every library in this process, if the system allows it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def compare(rounds: int, epochs: int = 20, images: Images | None = None) -> list[Compared]:
    """Train each peer once in each round; the first round is a warm-up and is discarded.

    Rows in bfloat16 are left out where the processor has no instructions for it.
    """
    rows = [row for row in _ROWS if row.ours != _HALF or has_bfloat16()]
    work = {row.size: workload(row.hidden, epochs, images, row.batch_size) for row in rows}
    keys = dict.fromkeys((name, row.size) for row in rows for name in (row.theirs, row.ours))
    seconds: _Seconds = {key: [] for key in keys}
    for turn in range(rounds + 1):
        for name, size in keys:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                taken = _RUNS[name](work[size])
            if turn:
                seconds[name, size].append(taken)
    return [_compared(row, work[row.size], seconds) for row in rows]


_RUNS: Mapping[str, Callable[[Workload], float]] = {
    _OURS: lambda work: train_vaebench(work, 0, compiled=True)[0],
    _HALF: lambda work: train_vaebench(work, 0, compiled=True, precision="bfloat16")[0],
    "vaebench, not compiled": lambda work: train_vaebench(work, 0)[0],
    "PyTorch example's loop": lambda work: train_example(work, 0)[0],
    "plain PyTorch, data in memory": lambda work: train_plain(work, 0)[0],
    "JAX, jit and scan": lambda work: train_jax(work, 0)[0],
    "matrix products alone": time_products,
    "pythae, its own network": lambda work: train_pythae(work, 0)[0],
}


def _compared(row: _Row, work: Workload, seconds: _Seconds) -> Compared:
    theirs, ours = seconds[row.theirs, row.size], seconds[row.ours, row.size]
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Compared(
        name=row.theirs,
        ours_is=row.ours,
        network=f"{work.pixels}-{work.hidden}-{work.latent_dim}",
        batch_size=work.batch_size,
        theirs=statistics.median(theirs) / work.steps * 1e3,
        ours=statistics.median(ours) / work.steps * 1e3,
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        target=row.target,
    )


def table(compared: list[Compared]) -> str:
    """The comparison as Markdown; a ratio above 1 means that vaebench is faster."""
    lines = [
        "| peer | against | network | batch | its step, ms | ours, ms | theirs / ours "
        "| quartiles | aimed at |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.ours_is} | {row.network} | {row.batch_size} | {row.theirs:.2f} "
        f"| {row.ours:.2f} | {row.ratio:.2f} | {row.low:.2f} to {row.high:.2f} "
        f"| {row.target or '-'} |"
        for row in compared
    ]
    return "\n".join(lines)
