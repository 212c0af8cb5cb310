"""Products with a batch of images that skip the pixels of zero.

Four of five pixels of MNIST are zero, and two of the five large products of a step multiply by
them: the first layer's, and its weight's gradient. In a compiled step both are replaced by products
of our own (``sparse_products.cpp``) that take about half the time; they differ by rounding.
`benchmarks/README.md` has the figures.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from vaebench.training.optimizer import PackOptimizer

if TYPE_CHECKING:
    from torch.fx import Graph, Node
    from torch.fx.node import Argument

__all__ = ["use_sparse_products"]

_DENSEST = 0.25
"""The share of pixels that aren't zero up to which they are used; MNIST has a fifth."""

_NARROWEST = 200
"""The least width of a layer; below it, finding those pixels costs what skipping zeros saves."""

_LANES = 8
"""Columns that are summed at once: the width is a multiple of it."""

_LIBRARY = torch.library.Library("vaebench", "DEF")  # type: ignore[no-untyped-call]  # so in torch
for _name in ("pixels_times", "turned_pixels_times"):
    _LIBRARY.define(f"{_name}(Tensor x, Tensor dense) -> Tensor")  # type: ignore[no-untyped-call]  # so in torch


def use_sparse_products(graph: Graph, pixels: Tensor, index: int, optimizer: PackOptimizer) -> None:
    """Replace the products with a batch in a step's graph, where that makes it faster.

    The weight of a replaced product is stored by columns from then on, since a pixel needs all
    weights that leave it.

    Args:
        graph: of a step of one member; its first arguments are the state's tensors.
        pixels: a batch ``(1, B, D)`` as the step will see it.
        index: which argument of the graph is the batch.
        optimizer: its state is what the graph updates.
    """
    if len(pixels) > 1 or pixels.dtype != torch.float32 or _density(pixels) > _DENSEST:
        return
    arguments = [node for node in graph.nodes if node.op == "placeholder"]
    for batch in arguments[index].users:
        if batch.target is not torch.ops.aten.squeeze.dim:
            continue
        products = [user for user in batch.users if _is_of_a_layer(user, batch)]
        weights = {arguments.index(_source(product.args[2])) for product in products}
        if len(weights) != 1 or not _is_wide_enough(optimizer, *weights) or _kernels() is None:
            continue
        optimizer.store_by_columns(*weights)
        for user in list(batch.users):
            if user in products:
                _replace_layer(graph, user, batch)
            elif _is_of_a_gradient(user, batch):
                _replace_gradient(graph, user, batch)


def _density(pixels: Tensor) -> float:
    return float(pixels.count_nonzero()) / pixels.numel()


def _is_wide_enough(optimizer: PackOptimizer, index: int) -> bool:
    width = optimizer.state.weights[index].shape[-2]
    return width >= _NARROWEST and width % _LANES == 0


def _is_of_a_layer(node: Node, batch: Node) -> bool:
    """``bias + batch @ weight.T``"""
    return node.target is torch.ops.aten.addmm.default and node.args[1] is batch


def _is_of_a_gradient(node: Node, batch: Node) -> bool:
    """``gradient.T @ batch``"""
    return node.target is torch.ops.aten.mm.default and node.args[1] is batch


def _source(view: Argument) -> Node:
    """The argument of the graph that this is a view of."""
    node = cast("Node", view)
    while node.op != "placeholder":
        node = cast("Node", node.args[0])
    return node


def _replace_layer(graph: Graph, node: Node, batch: Node) -> None:
    bias, _, weight = node.args
    with graph.inserting_before(node):
        product = graph.call_function(torch.ops.vaebench.pixels_times.default, (batch, weight))
        outcome = graph.call_function(torch.ops.aten.add.Tensor, (product, bias))
    node.replace_all_uses_with(outcome)
    graph.erase_node(node)


def _replace_gradient(graph: Graph, node: Node, batch: Node) -> None:
    with graph.inserting_before(node):
        gradient = graph.call_function(torch.ops.aten.t.default, (node.args[0],))
        product = graph.call_function(
            torch.ops.vaebench.turned_pixels_times.default, (batch, gradient)
        )
        outcome = graph.call_function(torch.ops.aten.t.default, (product,))
    node.replace_all_uses_with(outcome)
    graph.erase_node(node)


@cache
def _kernels() -> ctypes.CDLL | None:
    """The products, compiled for this processor; None where its compiler can't do them."""
    # Imported late for its two seconds, which a step that is compiled has spent anyhow.
    from torch._inductor.codecache import CppCodeCache

    source = Path(__file__).with_name("sparse_products.cpp").read_text(encoding="utf-8")
    try:
        # The flags that torch compiles by forbid to melt a multiplication and an addition.
        library: ctypes.CDLL = CppCodeCache.load(source, extra_flags=("-ffp-contract=fast",))
    except (RuntimeError, OSError):  # no compiler, or one that lacks vectors: dense products do
        return None
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    for function in (library.pixels_times, library.turned_pixels_times):
        function.argtypes = [pointer, size, size, pointer, size, pointer]
        function.restype = None
    return library


@torch.library.impl(_LIBRARY, "pixels_times", "CPU")
def _pixels_times(x: Tensor, dense: Tensor) -> Tensor:
    """``x (B, D)`` times ``dense (D, width)``."""
    return _by_kernel("pixels_times", x, dense, _shape_of_layer(x, dense))


@torch.library.register_fake("vaebench::pixels_times", lib=_LIBRARY)  # type: ignore[untyped-decorator]  # so in torch
def _shape_of_layer(x: Tensor, dense: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], dense.shape[1])


@torch.library.impl(_LIBRARY, "turned_pixels_times", "CPU")
def _turned_pixels_times(x: Tensor, dense: Tensor) -> Tensor:
    """The transpose of ``x (B, D)`` times ``dense (B, width)``."""
    return _by_kernel("turned_pixels_times", x, dense, _shape_of_gradient(x, dense))


@torch.library.register_fake("vaebench::turned_pixels_times", lib=_LIBRARY)  # type: ignore[untyped-decorator]  # so in torch
def _shape_of_gradient(x: Tensor, dense: Tensor) -> Tensor:
    return x.new_empty(x.shape[1], dense.shape[1])


def _by_kernel(name: str, x: Tensor, dense: Tensor, outcome: Tensor) -> Tensor:
    # Both are contiguous as a rule; a compiler that lays them out otherwise costs a copy.
    x, dense = x.contiguous(), dense.contiguous()
    getattr(_kernels(), name)(
        x.data_ptr(), *x.shape, dense.data_ptr(), dense.shape[1], outcome.data_ptr()
    )
    return outcome
