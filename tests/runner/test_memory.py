"""Peak memory of a cell does not depend on what its process did before."""

import sys

import pytest
import torch

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
