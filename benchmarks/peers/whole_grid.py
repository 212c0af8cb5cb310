"""A grid of 24 cells by `vaebench run` and by scripts that loop over the same cells.

`python -m benchmarks.peers.whole_grid` trains MNIST's 784-400-20 VAE at batch size 128 for 5 epochs
with four betas, two learning rates and three seeds, and scores each cell by its ELBO on the test
images. Each tool runs in a fresh process on the same two cores; the time is that of the whole
process: imports, data, compiling, training and scores. `vaebench run` also writes its records and
computes the metrics that it always has.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["TOOLS", "Size", "Taken", "compare", "table"]

TOOLS = ("vaebench", "pytorch-example", "pythae", "jax")
_BETAS, _RATES, _SEEDS = (0.5, 1.0, 2.0, 4.0), (1e-3, 3e-4), (0, 1, 2)


@dataclass(frozen=True)
class Size:
    """How much is trained; the defaults are the whole benchmark.

    Attributes:
        cells: the number of cells, counted from the first of the 24.
        epochs: passes over the training images.
        train_images, test_images: the numbers of images.
    """

    cells: int = 24
    epochs: int = 5
    train_images: int = 60_000
    test_images: int = 10_000


@dataclass(frozen=True)
class Taken:
    """The seconds of a tool's process for the grid, and the mean ELBO of its cells."""

    tool: str
    seconds: float
    elbo: float


def _cells(size: Size) -> Iterator[tuple[float, float, int]]:
    """Beta, learning rate and seed of each cell."""
    return itertools.islice(itertools.product(_BETAS, _RATES, _SEEDS), size.cells)


def compare(size: Size, tools: Sequence[str] = TOOLS) -> list[Taken]:
    """Run the grid by each tool, one after the other; each time is printed when it is known."""
    found = []
    for tool in tools:
        found.append(_taken(tool, size))
        print(f"{tool}: {found[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def _taken(tool: str, size: Size) -> Taken:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m"]
        if tool == "vaebench":
            grid = Path(folder) / "grid.toml"
            grid.write_text(_grid(size), encoding="utf-8")
            store = Path(folder) / "store"
            command += ["vaebench", "run", str(grid), "-o", str(store), "--no-report"]
        else:
            sizes = (size.cells, size.epochs, size.train_images, size.test_images)
            command += [__spec__.name, "--script", tool, *map(str, sizes)]
        # A script has all cores for its threads, as it has by default.
        environment = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
        begin = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"{tool} left with {done.returncode}: {done.stderr[-2000:]}")
        if tool == "vaebench":
            return Taken(tool, seconds, _recorded_elbo(store, size.cells))
    return Taken(tool, seconds, float(done.stdout.split()[-1]))


def _grid(size: Size) -> str:
    """The grid file; a list of single cells, so that a part of the 24 can be taken."""
    blocks = [
        f"[[axes]]\nbeta = [{beta}]\nlearning_rate = [{rate}]\nseed = [{seed}]\n"
        for beta, rate, seed in _cells(size)
    ]
    base = (
        f"dataset = 'mnist'\nhidden = [400]\nlatent_dim = 20\nbatch_size = 128\n"
        f"epochs = {size.epochs}\ntrain_size = {size.train_images}\n"
        f"test_size = {size.test_images}\ntsne_points = 0\n"
    )
    return "\n".join([f"name = 'whole-grid'\n\n[base]\n{base}", *blocks])


def _recorded_elbo(store: Path, cells: int) -> float:
    from vaebench import load_results

    elbos = load_results(store)["elbo"]
    if len(elbos) != cells or elbos.isna().any():
        raise RuntimeError(f"{cells} cells were to be trained; the store has {len(elbos)}")
    return float(elbos.mean())


def _script(tool: str, size: Size) -> float:
    """Train all cells in a loop in this process; returns their mean ELBO."""
    from benchmarks.peers.workload import Workload
    from vaebench.data.sources import load

    data = load("mnist", None, size.train_images, 0, size.test_images)
    train, test = (split.images.squeeze(1).numpy() for split in (data.train, data.test))
    hidden, trained_by = _PEERS[tool]
    elbos = []
    for beta, rate, seed in _cells(size):
        work = Workload(train, test, hidden, 20, 128, size.epochs, rate, beta)
        elbos.append(_elbo(work, trained_by(work, seed)))
    return float(np.mean(elbos))


def _example(work, seed):
    from benchmarks.peers.pytorch_example import train_example

    return train_example(work, seed)[1]


def _pythae(work, seed):
    from benchmarks.peers.pythae_default import train_pythae

    return train_pythae(work, seed)[1]


def _jax(work, seed):
    from benchmarks.peers.jax_scan import train_jax

    return train_jax(work, seed, warm_up=False)[1]


_PEERS: dict[str, tuple[int, Callable]] = {
    "pytorch-example": (400, _example),
    "pythae": (512, _pythae),
    "jax": (400, _jax),
}
"""Width of the hidden layers and training of each script; pythae's default network has 512."""


def _elbo(work, weights) -> float:
    """The ELBO on the test images by one draw of each code, nats per image."""
    import torch
    from torch.nn import functional as F

    w1, b1, w2, b2, w3, b3, w4, b4 = map(torch.from_numpy, weights)
    x = torch.from_numpy(work.test).flatten(1).float() / 255
    hidden = F.relu(F.linear(x, w1, b1))
    mean, log_variance = F.linear(hidden, w2, b2).chunk(2, dim=-1)
    z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
    logits = F.linear(F.relu(F.linear(z, w3, b3)), w4, b4)
    error = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return -float(error + kl) / len(x)


def table(taken: Sequence[Taken]) -> str:
    """The times as Markdown; a ratio above 1 means that `vaebench run` is faster."""
    ours = next((each.seconds for each in taken if each.tool == "vaebench"), float("nan"))
    lines = ["| tool | seconds | / vaebench | mean ELBO, nats/image |", "|---|---|---|---|"]
    lines += [
        f"| {each.tool} | {each.seconds:.1f} | {each.seconds / ours:.2f} | {each.elbo:.2f} |"
        for each in taken
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table; on two cores, if the system supports that."""
    whole = Size()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--cells", type=int, default=whole.cells)
    parser.add_argument("--epochs", type=int, default=whole.epochs)
    parser.add_argument("--train-images", type=int, default=whole.train_images)
    parser.add_argument("--test-images", type=int, default=whole.test_images)
    parser.add_argument("--script", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.script:
        tool, *sizes = given.script
        print(_script(tool, Size(*map(int, sizes))))
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-2:])
    size = Size(given.cells, given.epochs, given.train_images, given.test_images)
    print(table(compare(size, given.tools)))


if __name__ == "__main__":
    main()
