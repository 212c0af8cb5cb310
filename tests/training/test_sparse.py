"""Products that skip pixels of zero: the dense products' numbers, where they are worth it."""

from __future__ import annotations

from typing import NoReturn

import pytest
import torch
import torch._inductor
from tiny_runs import LEVELS, SHAPE, Run, cell, generator, made, pixels_of
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.training import sparse
from vaebench.training.loop import Generators, train

WIDE = 200


def mostly_zero(share: float) -> Tensor:
    """Images of which about this share of pixels isn't zero."""
    source = torch.Generator().manual_seed(8)
    grey = torch.randint(1, LEVELS, (100, *SHAPE), generator=source)
    seen = torch.rand(grey.shape, generator=source) < share
    return (grey * seen).to(torch.uint8)


def trained(*cells: Cell, share: float, compiled: bool) -> Run:
    pixels = pixels_of(cells[0], mostly_zero(share))
    vae = made(cells, pixels.levels)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    return Run(vae, train(vae, cells, pixels, sources, compiled=compiled))


def is_used(run: Run) -> bool:
    """Whether the first layer's weights are stored as the products need them."""
    return bool(run.weights()["encoder.layers.0.weight"].mT.is_contiguous())


def assert_product(ours: Tensor, left: Tensor, right: Tensor) -> None:
    """A sum of n products in float32 is off by up to n 2^-24 times the sum of their sizes."""
    left, right = left.double(), right.double()
    bound = left.shape[1] * 2.0**-24 * (left.abs() @ right.abs())
    assert ((ours.double() - left @ right).abs() <= bound).all()


@pytest.fixture
def _compiler_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is decided before it is, which these tests need not wait for."""

    def unable(*_: object, **__: object) -> NoReturn:
        raise OSError("not today")

    monkeypatch.setattr(torch._inductor, "compile", unable)


@pytest.mark.parametrize("width", [8, 40, 48, 56, 64, 72, WIDE, 400])
@pytest.mark.parametrize(("images", "size"), [(1, 1), (3, 20), (450, 61), (20, 784)])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_products_are_the_dense_ones(images: int, size: int, width: int, share: float) -> None:
    source = torch.Generator().manual_seed(width)
    x = torch.rand(images, size, generator=source)
    x *= torch.rand(images, size, generator=source) < share
    weight = torch.randn(size, width, generator=source)
    gradient = torch.randn(images, width, generator=source)
    layer = torch.ops.vaebench.pixels_times(x, weight)
    of_weight = torch.ops.vaebench.turned_pixels_times(x, gradient)
    assert_product(layer, x, weight)
    assert_product(of_weight, x.mT, gradient)


def test_products_of_matrices_in_another_layout() -> None:
    x = (torch.rand(7, 20) * (torch.rand(7, 20) < 0.3)).mT.contiguous().mT
    weight = torch.randn(8, 20).mT
    torch.testing.assert_close(torch.ops.vaebench.pixels_times(x, weight), x @ weight)


def test_training_with_them_is_training() -> None:
    """100 images in batches of 32: the last batch is taken without them."""
    wide = cell(
        hidden=(WIDE,), likelihood="bernoulli", sigma=None, binarization="dynamic", weight_decay=0.1
    )
    eager, fast = (trained(wide, share=0.2, compiled=each) for each in (False, True))
    assert fast.training.note is None
    assert not is_used(eager)
    assert is_used(fast)
    for name, value in eager.weights().items():
        torch.testing.assert_close(fast.weights()[name], value, rtol=1e-3, atol=1e-5, msg=name)
    expected = eager.training.series[0]["train_loss"]
    assert fast.training.series[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("cells", "share"),
    [
        ([cell(hidden=(WIDE,))], 0.5),
        ([cell(hidden=(WIDE - 8,))], 0.2),
        ([cell(hidden=(WIDE + 1,))], 0.2),
        ([cell(hidden=(WIDE,), precision="bfloat16")], 0.2),
        ([cell(hidden=(WIDE,), seed=1), cell(hidden=(WIDE,), seed=2)], 0.2),
    ],
    ids=["dense images", "narrow", "odd width", "bfloat16", "pack"],
)
@pytest.mark.usefixtures("_compiler_without_time")
def test_where_they_do_not_pay_products_are_dense(cells: list[Cell], share: float) -> None:
    assert not is_used(trained(*cells, share=share, compiled=True))


@pytest.mark.usefixtures("_compiler_without_time")
def test_without_a_compiler_for_them_products_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = cell(hidden=(WIDE,))
    assert is_used(trained(wide, share=0.2, compiled=True))
    monkeypatch.setattr(sparse, "_kernels", lambda: None)
    assert not is_used(trained(wide, share=0.2, compiled=True))
