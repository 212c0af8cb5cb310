"""A compiled step is the eager one up to rounding, and its absence changes nothing."""

from __future__ import annotations

import functools
import sys
from typing import NoReturn

import pytest
import torch
import torch._inductor
from tiny_runs import Run, cell, generator, made, pixels_of
from torch.fx.experimental.proxy_tensor import make_fx

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training import compiled as module
from vaebench.training.compiled import NotCompiled, compiled_step
from vaebench.training.loop import Generators, train
from vaebench.training.optimizer import PackOptimizer
from vaebench.training.step import Step, eager_step


def trained(*cells: Cell, compiled: bool | None = None) -> Run:
    pixels = pixels_of(cells[0])
    vae = made(cells, pixels.levels)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    return Run(vae, train(vae, cells, pixels, sources, compiled=compiled))


BERNOULLI: dict[str, object] = {
    "likelihood": "bernoulli",
    "sigma": None,
    "binarization": "dynamic",
}
PACK = (
    cell(seed=5, learning_rate=2e-3, weight_decay=0.1, **BERNOULLI),
    cell(seed=6, **BERNOULLI),
)


@pytest.mark.parametrize(
    "cells",
    [PACK, (cell(seed=5, sigma="learned", objective="iwae", importance_samples=3),)],
    ids=["pack", "iwae"],
)
def test_compiled_steps_train_as_the_operations_one_by_one(cells: tuple[Cell, ...]) -> None:
    eager, compiled = trained(*cells, compiled=False), trained(*cells, compiled=True)
    assert compiled.training.note is None
    assert compiled.training.compile_seconds > 0 == eager.training.compile_seconds
    for member in range(len(cells)):
        for name, value in eager.weights(member).items():
            torch.testing.assert_close(
                compiled.weights(member)[name], value, rtol=1e-3, atol=1e-5, msg=name
            )
        expected = eager.training.series[member]["train_loss"]
        assert compiled.training.series[member]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "axes", [{"sigma": "learned"}, {"likelihood": "bernoulli", "sigma": None}], ids=str
)
def test_a_compiled_step_in_bfloat16_is_in_bfloat16(axes: dict[str, object]) -> None:
    """Rounding to bfloat16 moves weights a hundred times as far as compiling that does."""

    def weights(precision: str, *, compiled: bool) -> torch.Tensor:
        result = trained(cell(seed=5, precision=precision, **axes), compiled=compiled)
        assert result.training.note is None
        return torch.cat([value.flatten() for value in result.weights().values()])

    single, half = (weights(each, compiled=False) for each in ("float32", "bfloat16"))
    moved = (half - single).norm()
    assert moved > 0
    assert (weights("bfloat16", compiled=True) - half).norm() < 0.01 * moved


def unable(*_: object, **__: object) -> NoReturn:
    raise OSError("no C++ compiler was found\nand more")


def test_without_a_compiler_training_is_the_same_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eager = trained(cell(seed=5), compiled=False)
    monkeypatch.setattr(torch._inductor, "compile", unable)
    run = trained(cell(seed=5), compiled=True)
    assert run.training.note == (
        "the training step was not compiled: OSError: no C++ compiler was found"
    )
    for name, value in eager.weights().items():
        assert torch.equal(run.weights()[name], value), name


def test_without_what_a_compiler_needs_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.proxy_tensor", None)
    run = trained(cell(seed=5), compiled=True)
    assert (run.training.note or "").startswith("the training step was not compiled: ")
    assert run.training.divergence == [None]


def test_a_compiler_that_fails_without_a_word_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(torch._inductor, "compile", silent)
    run = trained(cell(seed=5), compiled=True)
    assert run.training.note == "the training step was not compiled: AssertionError: "


@pytest.mark.parametrize("spoilt", [0, -1])
def test_other_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, spoilt: int) -> None:
    """A weight or a term of the loss that comes out a percent off."""

    def wrong(graph: torch.fx.GraphModule, *_: object, **__: object) -> object:
        def run(*tensors: torch.Tensor) -> list[torch.Tensor]:
            before = tensors[0].clone()
            (numbers,) = graph(*tensors)
            if spoilt == 0:
                tensors[0].add_(tensors[0] - before, alpha=0.01)
                return [numbers]
            return [numbers * 1.01]

        return run

    monkeypatch.setattr(torch._inductor, "compile", wrong)
    cells = [cell(seed=5)]
    vae, x, noise = made(cells), torch.rand(1, 7, 20), torch.randn(1, 1, 7, 3)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    optimizer = PackOptimizer(vae, cells)
    with pytest.raises(NotCompiled, match="not those of the same operations"):
        compiled_step(vae, cells, torch.ones(1), optimizer, x, noise)
    for name, value in vae.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert optimizer.steps == 0


def step_of(
    cells: list[Cell], x: torch.Tensor, noise: torch.Tensor, *, compiled: bool, on_gpu: bool = False
) -> tuple[VAE, PackOptimizer, Step]:
    """A new pack with its step, the eager one or a compiled one; ``on_gpu``: as it is there."""
    vae, weights = made(cells), torch.ones(len(cells))
    optimizer = PackOptimizer(vae, cells)
    if not compiled:
        return vae, optimizer, functools.partial(eager_step, vae, cells, weights, optimizer)
    if on_gpu:
        optimizer._numbers = None
    return vae, optimizer, compiled_step(vae, cells, weights, optimizer, x, noise)


def test_a_traced_step_follows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are arguments: what is traced once holds for weights that training moved."""
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, *_, **__: graph)
    cells = [cell(seed=5, posterior="delta", architecture="linear")]
    x, noise = torch.rand(1, 7, 20), torch.randn(1, 1, 7, 3)
    outcomes = []
    for compiled in (False, True):
        vae, _, step = step_of(cells, x, noise, compiled=compiled)
        with torch.no_grad():
            for parameter in vae.parameters():
                parameter.mul_(1.5)
        outcomes.append([*(step(x, noise) for _ in range(3)), *vae.state_dict().values()])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other)
    # A point has no KL, and its encoder's spread is never asked.
    assert outcomes[1][0][2] == 0


def test_the_step_that_counts_for_itself_trains_as_the_eager_one() -> None:
    """What is compiled on a GPU: it raises the count of steps and works out the strides."""
    cells = [cell(seed=seed, learning_rate=rate) for seed, rate in ((5, 1e-3), (6, 4e-3))]
    x, noise = torch.rand(2, 7, 20), torch.randn(2, 1, 7, 3)
    outcomes = []
    for compiled in (False, True):
        vae, optimizer, step = step_of(cells, x, noise, compiled=compiled, on_gpu=True)
        for factor in (1.0, 0.5, 0.25):
            optimizer.set_factor(factor)
            step(x, noise)
        assert optimizer.steps == 3
        outcomes.append(list(vae.state_dict().values()))
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_diverging_member_of_a_compiled_pack_does_not_touch_the_others() -> None:
    wild = [PACK[0].model_copy(update={"learning_rate": 1e30}), PACK[1]]
    before, after = trained(*PACK, compiled=False), trained(*wild, compiled=True)
    divergence = after.training.divergence
    assert divergence[0] is not None
    assert divergence[0].step == 2
    assert divergence[0].gradient_norm is None
    assert divergence[1] is None
    for name, value in before.weights(1).items():
        torch.testing.assert_close(after.weights(1)[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_compiling_is_for_long_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(cell()).training.note is None
    monkeypatch.setattr(torch._inductor, "compile", unable)
    monkeypatch.setattr(module, "_FEWEST_STEPS", {"cpu": 20})
    # 5 epochs of 4 batches; a fitted scale writes to the model in each step, which stays eager.
    assert trained(cell()).training.note is not None
    assert trained(cell(sigma="optimal")).training.note is None
    assert trained(cell(epochs=4)).training.note is None


@pytest.mark.parametrize("size", [4, 400])
def test_small_products_are_traced_as_sums_and_large_ones_as_they_are(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """What is compiled on a GPU, which has the same numbers."""
    monkeypatch.setattr(module, "_SMALL_PRODUCT", 5 * 30 * 4)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 30, generator=generator), torch.randn(30, size, generator=generator)
    bias = torch.randn(size, generator=generator)

    def products(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.addmm(bias, a, b) * torch.mm(a, b)

    graph = make_fx(products, decomposition_table=module._AS_SUMS)(bias, a, b)
    targets = {node.target for node in graph.graph.nodes if node.op == "call_function"}
    assert (torch.ops.aten.mm.default in targets) == (size == 400)
    assert (torch.ops.aten.addmm.default in targets) == (size == 400)
    torch.testing.assert_close(graph(bias, a, b), products(bias, a, b), rtol=1e-5, atol=1e-4)
