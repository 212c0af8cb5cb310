"""Products of our own: the numbers of torch's, and used where they are worth it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import pytest
import torch
import torch._inductor
from tiny_runs import BATCH, LEVELS, SHAPE, Run, cell, generator, made, pixels_of
from torch import Tensor
from torch._inductor.codecache import CppCodeCache
from torch.fx import GraphModule

from vaebench.grid.cell import Cell
from vaebench.training import products
from vaebench.training.kernels import own_products
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


FIRST, LAST = "encoder.layers.0.weight", "decoder.layers.1.weight"


def is_used(run: Run, layer: str = FIRST) -> bool:
    """Whether a layer's weights are stored as the products need them."""
    return bool(run.weights()[layer].mT.is_contiguous())


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


@pytest.mark.parametrize("width", [1, 8, 15, 40, 48, 56, 64, 72, 125, WIDE, 400])
@pytest.mark.parametrize(("images", "size"), [(1, 1), (3, 20), (450, 61), (20, 784)])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_products_that_skip_zeros(images: int, size: int, width: int, share: float) -> None:
    source = torch.Generator().manual_seed(width)
    x = torch.rand(images, size, generator=source)
    x *= torch.rand(images, size, generator=source) < share
    weight = torch.randn(size, width, generator=source)
    gradient = torch.randn(images, width, generator=source)
    layer = torch.ops.vaebench.pixels_times(x, weight)
    of_weight = torch.ops.vaebench.turned_pixels_times(x, gradient)
    assert_product(layer, x, weight)
    assert_product(of_weight, x.mT, gradient)


def test_only_zeros_are_skipped() -> None:
    """Data of a user's own may be negative; what is no number stays none."""
    x = torch.zeros(3, 20)
    x[0, 1], x[1, 9], x[1, 2], x[2, 17] = -2.0, -0.0, torch.nan, torch.inf
    weight = torch.rand(20, 5) + 1
    layer = torch.ops.vaebench.pixels_times(x, weight)
    torch.testing.assert_close(layer, x @ weight, equal_nan=True)
    of_weight = torch.ops.vaebench.turned_pixels_times(x, weight[:3])
    torch.testing.assert_close(of_weight, x.mT @ weight[:3], equal_nan=True)


@pytest.mark.parametrize("name", ["pixels_times", "turned_pixels_times", "dense_times"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.ones(2, 2), torch.ones(3, 2)),
        (torch.ones(2, 2), torch.ones(2, 2, dtype=torch.float64)),
        (torch.ones(0, 0), torch.ones(0, 2)),
    ],
    ids=["shapes", "types", "empty"],
)
def test_matrices_that_can_not_be_multiplied(name: str, first: Tensor, second: Tensor) -> None:
    with pytest.raises(ValueError, match="float32 matrices that fit"):
        getattr(torch.ops.vaebench, name)(first, second)


def test_products_of_matrices_in_another_layout() -> None:
    x = (torch.rand(7, 20) * (torch.rand(7, 20) < 0.3)).mT.contiguous().mT
    weight = torch.randn(8, 20).mT
    torch.testing.assert_close(torch.ops.vaebench.pixels_times(x, weight), x @ weight)


def by_rows(matrix: Tensor) -> Tensor:
    return matrix


def by_columns(matrix: Tensor) -> Tensor:
    return matrix.mT.contiguous().mT


def every_other(matrix: Tensor) -> Tensor:
    """The matrix as a view in which no numbers are neighbours in memory."""
    larger = torch.full((2 * matrix.shape[0], 2 * matrix.shape[1]), torch.nan)
    larger[::2, ::2] = matrix
    return larger[::2, ::2]


LAYOUTS = pytest.mark.parametrize("layout", [by_rows, by_columns, every_other])


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 8, 15, 20])
@pytest.mark.parametrize("width", [1, 7, 8, 16, 17, 32, 33, 48, 49, 96, 100])
def test_the_dense_product_of_all_heights_and_widths(rows: int, width: int) -> None:
    source = torch.Generator().manual_seed(rows)
    first = torch.randn(rows, 37, generator=source)
    second = torch.randn(37, width, generator=source)
    assert_product(torch.ops.vaebench.dense_times(first, second), first, second)


@pytest.mark.parametrize("depth", [1, 2, 300])
@LAYOUTS
@pytest.mark.parametrize("second_layout", [by_rows, by_columns, every_other])
def test_the_dense_product_of_matrices_in_all_layouts(
    depth: int, layout: Callable[[Tensor], Tensor], second_layout: Callable[[Tensor], Tensor]
) -> None:
    source = torch.Generator().manual_seed(depth)
    first = torch.randn(13, depth, generator=source)
    second = torch.randn(depth, 70, generator=source)
    ours = torch.ops.vaebench.dense_times(layout(first), second_layout(second))
    assert ours.is_contiguous()
    assert_product(ours, first, second)


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    """A strip may be wider than what is left of the matrix."""
    first, second = torch.ones(9, 20), torch.ones(20, 35)
    first[4, 3] = torch.inf
    second[5, 30] = torch.nan
    torch.testing.assert_close(
        torch.ops.vaebench.dense_times(first, second), first @ second, equal_nan=True
    )


@pytest.fixture
def _every_product_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the tests' networks, too, and on any processor that can."""
    library = own_products()
    if library is None:
        pytest.skip("no compiler for products of our own")
    monkeypatch.setattr(library, "dense_product_pays", lambda: 1)
    monkeypatch.setattr(products, "_SMALLEST", 1)


@pytest.mark.parametrize("share", [0.2, 0.9], ids=["many zeros", "few zeros"])
@pytest.mark.usefixtures("_every_product_is_large")
def test_training_with_them_is_training(share: float) -> None:
    """100 images in batches of 32: the last batch is taken without them."""
    wide = cell(
        hidden=(WIDE,), likelihood="bernoulli", sigma=None, binarization="dynamic", weight_decay=0.1
    )
    eager, fast = (trained(wide, share=share, compiled=each) for each in (False, True))
    assert fast.training.note is None
    assert not any(is_used(eager, layer) for layer in (FIRST, LAST))
    assert all(is_used(fast, layer) for layer in (FIRST, LAST))
    for name, value in eager.weights().items():
        torch.testing.assert_close(fast.weights()[name], value, rtol=1e-3, atol=1e-5, msg=name)
    expected = eager.training.series[0]["train_loss"]
    assert fast.training.series[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("_every_product_is_large")
def test_large_products_are_our_own_and_small_ones_the_librarys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """11 products of a step: five of the widest layers, of which two sum over the images."""
    found: list[object] = []

    def unable(graph: GraphModule, *_: object, **__: object) -> NoReturn:
        found[:] = [node.target for node in graph.graph.nodes if node.op == "call_function"]
        raise OSError("not today")

    def counts(share: float, **axes: object) -> list[int]:
        trained(cell(hidden=(WIDE,), latent_dim=2, **axes), share=share, compiled=True)
        ours = torch.ops.vaebench
        products = [
            [ours.pixels_times.default],
            [ours.turned_pixels_times.default],
            [ours.dense_times.default],
            [torch.ops.aten.mm.default, torch.ops.aten.addmm.default],
        ]
        return [sum(found.count(each) for each in kind) for kind in products]

    monkeypatch.setattr(torch._inductor, "compile", unable)
    assert counts(0.2) == [1, 1, 9, 0]
    assert counts(0.9) == [0, 0, 11, 0]
    assert counts(0.2, precision="bfloat16")[:3] == [0, 0, 0]
    monkeypatch.setattr(products, "_SMALLEST", BATCH * WIDE * math.prod(SHAPE))
    assert counts(0.9) == [0, 0, 5, 6]
    monkeypatch.setattr(products, "_DEEPEST", BATCH - 1)
    assert counts(0.9) == [0, 0, 3, 8]
    monkeypatch.setattr(products, "_DEEPEST", BATCH)
    monkeypatch.setattr(own_products(), "dense_product_pays", lambda: 0)
    assert counts(0.9) == [0, 0, 0, 11]
    assert counts(0.2) == [1, 1, 0, 9]


@pytest.mark.parametrize(
    ("cells", "share"),
    [
        ([cell(hidden=(WIDE,))], 0.5),
        ([cell(hidden=(WIDE - 8,))], 0.2),
        ([cell(hidden=(WIDE,), precision="bfloat16")], 0.2),
        ([cell(hidden=(WIDE,), seed=1), cell(hidden=(WIDE,), seed=2)], 0.2),
    ],
    ids=["dense images", "narrow", "bfloat16", "pack"],
)
@pytest.mark.usefixtures("_compiler_without_time")
def test_where_they_do_not_pay_products_are_dense(cells: list[Cell], share: float) -> None:
    assert not is_used(trained(*cells, share=share, compiled=True))


@pytest.mark.usefixtures("_compiler_without_time")
def test_without_a_compiler_for_them_products_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = cell(hidden=(WIDE,))
    assert is_used(trained(wide, share=0.2, compiled=True))
    monkeypatch.setattr(products, "own_products", lambda: None)
    assert not is_used(trained(wide, share=0.2, compiled=True))


def test_a_compiler_that_fails_leaves_no_products(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("vectors? what vectors?")

    monkeypatch.setattr(CppCodeCache, "load", unable)
    own_products.cache_clear()
    try:
        assert own_products() is None
        with pytest.raises(RuntimeError, match="can't be compiled here"):
            torch.ops.vaebench.dense_times(torch.ones(2, 2), torch.ones(2, 2))
    finally:
        own_products.cache_clear()
