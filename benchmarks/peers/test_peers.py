"""The peers reach the same ELBO after the same steps; their times are compared with ours.

Needs the extra `peers`.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from scipy import stats

pytest.importorskip("pythae", reason="pythae is not installed: pip install 'vaebench[peers]'")
pytest.importorskip("jax", reason="JAX is not installed: pip install 'vaebench[peers]'")

from benchmarks.peers.comparison import compare, has_bfloat16, one_core
from benchmarks.peers.jax_scan import train_jax
from benchmarks.peers.plain import train_plain
from benchmarks.peers.pythae_default import HIDDEN, train_pythae
from benchmarks.peers.pytorch_example import train_example
from benchmarks.peers.vaebench_loop import train_pack, train_vaebench
from benchmarks.peers.workload import Images, Peer, Weights, Workload, negative_elbo, workload

_SEEDS = range(5)
_EPOCHS = 5


@cache
def _reached(
    peer: Peer, hidden: int, epochs: int = _EPOCHS, images: Images | None = None
) -> list[float]:
    work = workload(hidden, epochs, images)
    return [negative_elbo(work, peer(work, seed)[1]) for seed in _SEEDS]


def _differ(one: list[float], other: list[float]) -> bool:
    return bool(stats.ttest_ind(one, other, equal_var=False).pvalue < 0.001)


def _compiled(work: Workload, seed: int) -> tuple[float, Weights]:
    return train_vaebench(work, seed, compiled=True)


def _bfloat16(work: Workload, seed: int) -> tuple[float, Weights]:
    return train_vaebench(work, seed, compiled=True, precision="bfloat16")


def _member_of_a_pack(work: Workload, seed: int) -> tuple[float, Weights]:
    seconds, weights = train_pack(work, [seed + 100, seed + 200])
    return seconds, weights[1]


@pytest.mark.parametrize(
    ("peer", "hidden"),
    [
        (_compiled, 400),
        (_bfloat16, 400),
        (_member_of_a_pack, 400),
        (train_plain, 400),
        (train_example, 400),
        (train_jax, 400),
        (train_pythae, HIDDEN),
    ],
)
def test_a_peer_reaches_the_same_bound_after_the_same_steps(peer: Peer, hidden: int) -> None:
    ours, theirs = _reached(train_vaebench, hidden), _reached(peer, hidden)
    assert not _differ(ours, theirs), (statistics.mean(ours), statistics.mean(theirs))


def test_an_epoch_less_would_be_noticed() -> None:
    assert _differ(_reached(train_vaebench, 400), _reached(train_vaebench, 400, _EPOCHS - 1))


def test_the_bound_of_a_peer_is_of_its_own_weights() -> None:
    work = workload(400, 1)
    weights = train_example(work, 0)[1]
    broken = [*weights[:-1], weights[-1] + 1]
    assert negative_elbo(work, broken) > negative_elbo(work, weights) + 10
    with pytest.raises(ValueError, match="gives 8 arrays"):
        negative_elbo(work, weights[:-2])


def test_pythaes_network_is_not_another_one() -> None:
    with pytest.raises(ValueError, match="512 hidden units"):
        train_pythae(replace(workload(), hidden=400), 0)


def test_step_of_each_peer(benchmark: Any) -> None:
    with one_core():
        compared = benchmark.pedantic(compare, args=(7,), rounds=1)
    for row in compared:
        what = f"{row.name} / {row.ours_is}, {row.network}, batch {row.batch_size}"
        benchmark.extra_info[what] = row.__dict__
    assert all(row.ratio > 0 for row in compared)
    assert any("bfloat16" in row.ours_is for row in compared) == has_bfloat16()
