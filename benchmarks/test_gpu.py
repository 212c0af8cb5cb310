"""On a GPU: a captured step and a pack of 64 cells against eager PyTorch."""

from __future__ import annotations

import re
import statistics
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.peers.plain import train_plain
from benchmarks.peers.vaebench_loop import train_pack
from benchmarks.peers.workload import Workload, workload
from vaebench.runner.machine import absent_device

_ROUNDS = 3
_PLAIN_EPOCHS, _PACK_EPOCHS = 100, 400
"""A pack captures its steps once; a training must be long enough for that to pay. 400 epochs of the
workload are 4,800 steps, as ten epochs of MNIST. The plain loop's steps all cost the same."""


def _ratio(plain: Workload, packed: Workload, members: int, device: str) -> float:
    """How many times as fast cells train in one pack as one by one in a plain loop, for each step.

    The plain loop trains one of them, because the others would take as long. The runs alternate;
    the result is the median ratio.
    """
    ratios = []
    for _ in range(_ROUNDS + 1):
        one, _ = train_plain(plain, 0, device)
        pack, _ = train_pack(packed, list(range(members)), device)
        ratios.append(members * (one / plain.steps) / (pack / packed.steps))
    return statistics.median(ratios[1:])


@pytest.mark.cuda
@pytest.mark.skipif(
    absent_device("cuda") is not None, reason=f"needs a GPU: {absent_device('cuda')}"
)
@pytest.mark.parametrize(("members", "target"), [(1, 4.0), (64, 20.0)])
def test_against_eager_pytorch_on_the_same_gpu(benchmark: Any, members: int, target: float) -> None:
    work = [workload(400, epochs=epochs) for epochs in (_PLAIN_EPOCHS, _PACK_EPOCHS)]
    ratio = benchmark.pedantic(_ratio, args=(*work, members, "cuda"), rounds=1)
    benchmark.extra_info["ratio"] = ratio
    assert ratio >= target


def test_the_ratio_counts_every_cell_and_not_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, pack = iter([100.0, 1.0, 1.0, 6.0]), iter([1.0, 2.0, 4.0, 2.0])
    monkeypatch.setitem(globals(), "train_plain", lambda *_: (next(plain), []))
    monkeypatch.setitem(globals(), "train_pack", lambda *_: (next(pack), []))
    assert _ratio(workload(400, epochs=1), workload(400, epochs=2), 8, "cpu") == 8.0


def test_a_design_s_row_has_its_numbers() -> None:
    name, cells = next(iter(gpu.designs().items()))
    assert cells[0].hidden == (200, 200)
    small = [cell.model_copy(update={"hidden": (8,), "latent_dim": 2}) for cell in cells]
    found = gpu.cost(name, small, "cpu", compiled=False)
    assert 0 < found.step_us < 1e6
    assert (found.kernels, found.compile_seconds, found.note) == (None, 0.0, None)
    row = gpu.table([found]).splitlines()[-1]
    assert re.fullmatch(
        r"\| 784-200-200-50, batch 20 \| as they are \| [\d.]+ \| - \| - \| 0\.0 \| - \|", row
    )


def test_the_pack_of_64_differs_in_its_seeds_alone() -> None:
    pack = gpu.designs()["784-400-20, batch 128, pack of 64"]
    assert [cell.seed for cell in pack] == list(range(64))
    assert len({cell.model_copy(update={"seed": 0}).model_dump_json() for cell in pack}) == 1
