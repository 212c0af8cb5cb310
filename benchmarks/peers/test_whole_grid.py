"""The comparison over a grid, at a size of seconds: every tool trains every cell and scores it."""

import math

import pytest

pytest.importorskip("pythae", reason="pythae is not installed: pip install 'vaebench[peers]'")
pytest.importorskip("jax", reason="JAX is not installed: pip install 'vaebench[peers]'")

from benchmarks.peers.whole_grid import TOOLS, Size, Taken, compare, table


@pytest.mark.mnist
@pytest.mark.slow
def test_every_tool_trains_and_scores_the_same_cells() -> None:
    taken = compare(Size(cells=2, epochs=3, train_images=1_000, test_images=200))
    assert [each.tool for each in taken] == list(TOOLS)
    ours, *others = (each.elbo for each in taken)
    assert all(math.isfinite(each) and abs(each - ours) < 0.15 * abs(ours) for each in others)


def test_a_ratio_is_of_the_time_of_vaebench() -> None:
    text = table([Taken("vaebench", 20.0, -105.0), Taken("jax", 30.0, -106.0)])
    assert "| vaebench | 20.0 | 1.00 | -105.00 |" in text
    assert "| jax | 30.0 | 1.50 | -106.00 |" in text
