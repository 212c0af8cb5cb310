"""The peers by turns in one process on one core: what their steps cost against ours."""

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
from benchmarks.peers.pythae_default import HIDDEN, train_pythae
from benchmarks.peers.pytorch_example import train_example
from benchmarks.peers.vaebench_loop import train_vaebench
from benchmarks.peers.workload import Workload, workload

__all__ = ["TARGETS", "Compared", "compare", "one_core", "table"]

TARGETS: Mapping[str, float] = {
    "PyTorch example's loop": 3.0,
    "pythae, its own network": 2.5,
    "JAX, jit and scan": 1.0,
    "matrix products alone": 0.85,
    "products of pythae's network": 0.85,
}
"""How many times as fast vaebench's step should be; of the products it is the share reached."""


@dataclass(frozen=True)
class Compared:
    """One peer against vaebench on the same network.

    Attributes:
        name: the peer's.
        theirs, ours: milliseconds a step, the median over rounds.
        ratio: theirs / ours, the median over rounds of the ratio within a round.
        low, high: quartiles of that ratio.
        target: what was aimed at.
    """

    name: str
    network: str
    theirs: float
    ours: float
    ratio: float
    low: float
    high: float
    target: float | None


@contextmanager
def one_core() -> Iterator[None]:
    """One core and one thread for every library in this process, where the system can do that."""
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


def compare(rounds: int, epochs: int = 20) -> list[Compared]:
    """Train each peer once a round, in turns, after one round that is thrown away."""
    small, large = workload(400, epochs), workload(HIDDEN, epochs)
    runs: dict[tuple[str, int], Callable[[], float]] = {
        ("vaebench", 400): lambda: train_vaebench(small, 0, compiled=True)[0],
        ("vaebench, not compiled", 400): lambda: train_vaebench(small, 0)[0],
        ("PyTorch example's loop", 400): lambda: train_example(small, 0)[0],
        ("plain PyTorch, data in memory", 400): lambda: train_plain(small, 0)[0],
        ("JAX, jit and scan", 400): lambda: train_jax(small, 0)[0],
        ("matrix products alone", 400): lambda: time_products(small),
        ("vaebench", HIDDEN): lambda: train_vaebench(large, 0, compiled=True)[0],
        ("pythae, its own network", HIDDEN): lambda: train_pythae(large, 0)[0],
        ("products of pythae's network", HIDDEN): lambda: time_products(large),
    }
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for turn in range(rounds + 1):
        for key, run in runs.items():
            taken = _quietly(run)
            if turn:
                seconds[key].append(taken)
    return [
        _compared(name, small if hidden == 400 else large, seconds)
        for name, hidden in runs
        if name != "vaebench"
    ]


def _quietly(run: Callable[[], float]) -> float:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return run()


def _compared(
    name: str, work: Workload, seconds: Mapping[tuple[str, int], list[float]]
) -> Compared:
    theirs, ours = seconds[name, work.hidden], seconds["vaebench", work.hidden]
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Compared(
        name=name,
        network=f"{work.pixels}-{work.hidden}-{work.latent_dim}",
        theirs=statistics.median(theirs) / work.steps * 1e3,
        ours=statistics.median(ours) / work.steps * 1e3,
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        target=TARGETS.get(name),
    )


def table(compared: list[Compared]) -> str:
    """The comparison as Markdown; a ratio above 1 means that vaebench is faster."""
    lines = [
        "| peer | network | its step, ms | ours, ms | theirs / ours | quartiles | aimed at |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.network} | {row.theirs:.2f} | {row.ours:.2f} | {row.ratio:.2f} "
        f"| {row.low:.2f} to {row.high:.2f} | {row.target or '-'} |"
        for row in compared
    ]
    return "\n".join(lines)
