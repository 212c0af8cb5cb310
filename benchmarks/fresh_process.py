"""Measures a command in a fresh process: wall time, CPU time and peak memory."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Cost", "cost_of", "vaebench"]

# A process inherits the peak memory of its parent, so a small process starts the command.
_LAUNCHER = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[2:]).returncode
wall = time.perf_counter() - begin
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1 if sys.platform == "darwin" else 1024
cost = [code, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit]
open(sys.argv[1], "w").write(json.dumps(cost))
"""


@dataclass(frozen=True)
class Cost:
    """Exit code, output and cost of a command: wall and CPU time in s, peak resident bytes.

    CPU time includes the command's children; the peak is that of the largest process.
    """

    code: int
    output: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def cost_of(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder, with one thread for each process, and return its cost."""
    with TemporaryDirectory() as aside:
        told = Path(aside) / "cost.json"
        done = subprocess.run(
            [sys.executable, "-S", "-c", _LAUNCHER, str(told), *command],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        code, wall, cpu, peak = json.loads(told.read_text(encoding="ascii"))
    return Cost(code, done.stdout, wall, cpu, peak)


def vaebench(*words: str) -> list[str]:
    """The command line of vaebench."""
    return [sys.executable, "-m", "vaebench", *words]
