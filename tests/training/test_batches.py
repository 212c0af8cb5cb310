"""Batches: every image once in an epoch, and each cell's draws its own whoever shares its pack."""

import torch
from tiny_runs import cell, generator, images

from vaebench.data.pixels import TrainingPixels
from vaebench.training.batches import Generators, draw_batch, epoch_order


def sources(*seeds: int) -> list[Generators]:
    return [Generators(*(generator(seed, i) for i in (1, 2, 3))) for seed in seeds]


def pixels() -> TrainingPixels:
    return TrainingPixels(images(), 17, "dynamic", dequantize=False)


def test_an_epoch_s_order_holds_each_image_once_for_each_member() -> None:
    order = epoch_order(pixels(), sources(5, 6))
    assert order.shape == (2, 100)
    assert all(row.sort().values.tolist() == list(range(100)) for row in order)
    assert not torch.equal(order[0], order[1])
    assert torch.equal(order[1:], epoch_order(pixels(), sources(6)))


def test_a_member_draws_what_it_draws_alone() -> None:
    design = cell(importance_samples=3)
    rows = torch.arange(8).view(2, 4)
    x, noise = draw_batch(design, pixels(), sources(5, 6), rows)
    assert x.shape == (2, 4, 20)
    assert noise.shape == (2, 3, 4, 3)
    for member, seed in enumerate((5, 6)):
        own_x, own_noise = draw_batch(design, pixels(), sources(seed), rows[member : member + 1])
        assert torch.equal(x[member], own_x[0])
        assert torch.equal(noise[member], own_noise[0])
    assert not torch.equal(noise[0], noise[1])
