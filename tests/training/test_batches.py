"""Blocks of batches: every image once, each cell's draws its own whoever shares its pack."""

import pytest
import torch
from tiny_runs import cell, generator, images

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell
from vaebench.training.batches import Batches, Generators, blocks, steps_of_a_block


@pytest.mark.parametrize(("count", "size", "steps"), [(100, 32, 1), (100, 10, 3), (7, 7, 64)])
def test_an_epoch_s_blocks_hold_each_image_once_in_order(count: int, size: int, steps: int) -> None:
    order = torch.stack([torch.randperm(count), torch.randperm(count)])
    parts = list(blocks(order, size, steps))
    assert all(part.shape[1] <= steps for part in parts)
    assert torch.equal(torch.cat([part.flatten(1) for part in parts], dim=1), order)
    # Only the last batch of an epoch is short.
    assert [part.shape[2] for part in parts[:-1]] == [size] * (len(parts) - 1)


def drawn(*cells: Cell, steps: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = TrainingPixels(images(), 17, "dynamic", dequantize=False)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    rows = torch.arange(steps * 4).view(steps, 4).expand(len(cells), -1, -1)
    return Batches(cells, pixels, sources).draw(rows)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_member_draws_what_it_draws_alone(samples: int) -> None:
    cells = [
        cell(seed=seed, latent_dim=size, importance_samples=samples)
        for seed, size in ((5, 2), (6, 4), (7, 4))
    ]
    x, noise = drawn(*cells)
    assert x.shape == (3, 3, 4, 20)
    assert noise.shape == (3, 3, samples, 4, 4)
    assert x.is_contiguous()
    for member, each in enumerate(cells):
        own_x, own_noise = drawn(each)
        assert torch.equal(x[:, member], own_x[:, 0])
        assert torch.equal(noise[:, member, ..., : each.latent_dim], own_noise[:, 0])
    # The codes that the first member lacks have no noise.
    assert noise[:, 0, ..., 2:].abs().sum() == 0
    assert not torch.equal(noise[:, 1], noise[:, 2])


def test_a_block_depends_on_nothing_that_a_pack_may_mix() -> None:
    sizes = [
        cell(latent_dim=size, seed=size, learning_rate=1e-4 * size, beta=size)
        for size in (5, 6, 7, 8)
    ]
    assert len({steps_of_a_block(each, 784) for each in sizes}) == 1
    small, wide = cell(batch_size=20), cell(batch_size=20, latent_dim=10_000)
    assert steps_of_a_block(small, 784) == 64
    assert 1 <= steps_of_a_block(wide, 784) < 10
    assert steps_of_a_block(cell(batch_size=100_000), 784) == 1
