"""Which products of a compiled step are replaced by those of `kernels`.

Four of five pixels of MNIST are zero, and two of the five large products of a step multiply by
them: the first layer's, and its weight's gradient. They are replaced by products that skip zeros.
What is left and large is replaced by one that copies less, on processors where that is faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch._ops import OpOverload

from vaebench.training.kernels import own_products
from vaebench.training.optimizer import PackOptimizer

if TYPE_CHECKING:
    from torch.fx import Graph, Node
    from torch.fx.node import Argument

__all__ = ["use_own_products"]

_DENSEST = 0.25
"""The share of pixels that aren't zero up to which zeros are skipped; MNIST has a fifth."""

_NARROWEST = 200
"""The least width of a layer; below it, finding those pixels costs what skipping zeros saves."""

_SMALLEST = 2**24
"""Multiplications of a product below which calling one of our own costs what it saves."""

_DEEPEST = 2048
"""Numbers that a sum of a weight's gradient has at most: images, times samples of each. Above that
it needs blocks, which a library's product has."""

_VIEWS = {
    torch.ops.aten.detach.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.t.default,
}


def use_own_products(graph: Graph, pixels: Tensor, index: int, optimizer: PackOptimizer) -> None:
    """Replace products in a step's graph where that makes it faster.

    The weight of a replaced layer is stored by columns from then on: a pixel needs all weights
    that leave it.

    Args:
        graph: of a step of one member, with what tracing noted of shapes; its first arguments are
            the state's tensors.
        pixels: a batch ``(1, B, D)`` as the step will see it.
        index: which argument of the graph is the batch.
        optimizer: its state is what the graph updates.
    """
    if len(pixels) > 1 or pixels.dtype != torch.float32:
        return
    arguments = [node for node in graph.nodes if node.op == "placeholder"]
    stored = {node: i for i, node in enumerate(arguments[: len(optimizer.weights)])}
    if float(pixels.count_nonzero()) <= _DENSEST * pixels.numel():
        _skip_zeros(graph, arguments[index], stored, optimizer)
    _copy_less(graph, stored, optimizer)


def _skip_zeros(
    graph: Graph, pixels: Node, stored: dict[Node, int], optimizer: PackOptimizer
) -> None:
    """Replace the products with a batch whose weight is an argument of the graph, and wide."""
    for batch in pixels.users:
        if batch.target is not torch.ops.aten.squeeze.dim:
            continue
        products = [user for user in batch.users if _is_of_a_layer(user, batch)]
        weight = _only_weight(products, stored)
        if weight is None or optimizer.weights[weight].shape[-2] < _NARROWEST:
            continue
        # Compiled where there is use for it only.
        if own_products() is None:
            return
        optimizer.store_by_columns(weight)
        for user in list(batch.users):
            if user in products:
                _replace_layer(graph, user, torch.ops.vaebench.pixels_times.default)
            elif _is_of_a_gradient(user, batch):
                _replace_gradient(graph, user, batch)


def _copy_less(graph: Graph, stored: dict[Node, int], optimizer: PackOptimizer) -> None:
    """Replace all large products that are left, where that is faster."""
    products = [node for node in graph.nodes if _is_worth_replacing(node, stored)]
    library = own_products() if products else None
    if library is None or not library.dense_product_pays():
        return
    for node in products:
        if node.target is torch.ops.aten.mm.default:
            _replace_turned(graph, node)
            continue
        weight = stored.get(_source(node.args[2]))
        if weight is not None:
            optimizer.store_by_columns(weight)
        _replace_layer(graph, node, torch.ops.vaebench.dense_times.default)


def _is_worth_replacing(node: Node, stored: dict[Node, int]) -> bool:
    """Whether it is a matrix product in float32, large and not too deep."""
    is_of_a_layer = node.target is torch.ops.aten.addmm.default
    if (not is_of_a_layer and node.target is not torch.ops.aten.mm.default) or node.kwargs:
        return False
    first, second = (cast("Node", each).meta["val"] for each in node.args[-2:])
    rows, depth = first.shape
    if first.dtype != torch.float32 or rows * depth * second.shape[1] < _SMALLEST:
        return False
    return is_of_a_layer or _source(node.args[1]) in stored or depth <= _DEEPEST


def _is_of_a_layer(node: Node, batch: Node) -> bool:
    """``bias + batch @ weight.T``"""
    is_one = node.target is torch.ops.aten.addmm.default and not node.kwargs
    return is_one and node.args[1] is batch


def _is_of_a_gradient(node: Node, batch: Node) -> bool:
    """``gradient.T @ batch``"""
    return node.target is torch.ops.aten.mm.default and node.args[1] is batch


def _only_weight(layers: list[Node], stored: dict[Node, int]) -> int | None:
    """Which of the state's tensors is the weight of all these layers; None if none is."""
    weights = {stored.get(_source(layer.args[2])) for layer in layers}
    return weights.pop() if len(weights) == 1 else None


def _source(view: Argument) -> Node:
    """What this is a view of."""
    node = cast("Node", view)
    while node.target in _VIEWS:
        node = cast("Node", node.args[0])
    return node


def _replace_layer(graph: Graph, node: Node, product: OpOverload[..., Tensor]) -> None:
    """``bias + first @ second`` by this product."""
    bias, first, second = node.args
    with graph.inserting_before(node):
        outcome = graph.call_function(product, (first, second))
        _replace(graph, node, graph.call_function(torch.ops.aten.add.Tensor, (outcome, bias)))


def _replace_gradient(graph: Graph, node: Node, batch: Node) -> None:
    """``gradient.T @ batch`` by the product that skips zeros."""
    with graph.inserting_before(node):
        gradient = graph.call_function(torch.ops.aten.t.default, (node.args[0],))
        outcome = graph.call_function(
            torch.ops.vaebench.turned_pixels_times.default, (batch, gradient)
        )
        _replace(graph, node, graph.call_function(torch.ops.aten.t.default, (outcome,)))


def _replace_turned(graph: Graph, node: Node) -> None:
    """``first @ second`` by ``(second.T @ first.T).T``.

    So the gradient of a weight is stored by columns, as the weight is; and to that of a layer's
    input the weight is the first matrix, which isn't copied.
    """
    first, second = node.args
    with graph.inserting_before(node):
        turned = [
            graph.call_function(torch.ops.aten.t.default, (each,)) for each in (second, first)
        ]
        outcome = graph.call_function(torch.ops.vaebench.dense_times.default, tuple(turned))
        _replace(graph, node, graph.call_function(torch.ops.aten.t.default, (outcome,)))


def _replace(graph: Graph, node: Node, by: Node) -> None:
    node.replace_all_uses_with(by)
    graph.erase_node(node)
