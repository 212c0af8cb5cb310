"""Peak memory of a cell does not depend on what its process did before."""

import sys
from pathlib import Path

import pytest
import torch
from test_runs import grid, run

from vaebench.records.store import Store
from vaebench.runner.memory import PeakMemory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own books")

_MIB = 2**20


def _use(mebibytes: int) -> None:
    """Take memory in pieces that the C library keeps for itself when they are freed."""
    pieces = [torch.ones(_MIB // 64) for _ in range(16 * mebibytes)]
    assert len(pieces) == 16 * mebibytes


def _measured(mebibytes: int) -> float:
    memory = PeakMemory("cpu")
    _use(mebibytes)
    peak = memory.peak()
    if peak.value is None:
        pytest.skip(str(peak.reason))
    return peak.value


def test_memory_that_an_earlier_cell_freed_counts_when_it_is_used_again() -> None:
    before = _measured(40)
    _use(200)
    after = _measured(40)
    assert before == pytest.approx(40, abs=6)
    assert after == pytest.approx(before, abs=6)


def test_memory_of_before_is_not_counted() -> None:
    held = torch.ones(50 * _MIB // 4)
    assert _measured(20) == pytest.approx(20, abs=6)
    assert held.sum() > 0


def test_the_first_cell_of_a_worker_needs_what_the_others_do(tmp_path: Path) -> None:
    made = grid(seed=[0, 1, 2], hidden=[[64]])
    run(made, tmp_path)
    found = [each.metrics["peak_memory_mib"] for each in Store(tmp_path).read_all()[0]]
    peaks = [metric.value for metric in found if metric.value is not None]
    if len(peaks) < 3:
        pytest.skip(str(found[0].reason))
    assert max(peaks) < min(peaks) + 3
