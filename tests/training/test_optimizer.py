"""The update of a pack: the textbook's Adam for each member, whatever the layout of a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_runs import SHAPE, cell, made
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.training.step import TrainingStep


def batch(members: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(30)
    x = torch.rand(members, 6, math.prod(SHAPE), generator=source)
    return x, torch.randn(members, 4, 6, 3, generator=source)


def stepped(cells: list[Cell], factor: float = 1.0) -> dict[str, tuple[Tensor, Tensor]]:
    """Each parameter before one update of a pack, and its move."""
    vae = made(cells)
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    step = TrainingStep(vae, cells)
    step.set_rate_factor(factor)
    step(*batch(len(cells)))
    moves = {name: (p - before[name]).detach() for name, p in vae.named_parameters()}
    return {name: (before[name], move) for name, move in moves.items()}


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_first_move_is_the_learning_rate_and_ten_times_that_for_a_scale(factor: float) -> None:
    cells = [cell(seed=seed, sigma="learned", learning_rate=2e-3) for seed in (0, 1)]
    for name, (_, move) in stepped(cells, factor).items():
        size = move.abs().flatten(1).max(1).values
        expected = 2e-3 * factor * (10.0 if name == "raw_scale" else 1.0)
        torch.testing.assert_close(size, torch.full((2,), expected), rtol=1e-2, atol=0)


def test_a_factor_is_of_the_initial_rate_and_not_of_the_last() -> None:
    step = TrainingStep(made([cell(sigma="learned")]), [cell(sigma="learned")])
    for factor in (0.5, 0.25):
        step.set_rate_factor(factor)
    rates = sorted(group["lr"] for group in step.optimizer.param_groups)
    assert rates == pytest.approx([0.25 * 3e-3, 0.25 * 3e-2])
    # On a GPU the rates are tensors, which a captured step reads again.
    held = [torch.tensor(1.0) for _ in rates]
    for group, rate in zip(step.optimizer.param_groups, held, strict=True):
        group["lr"] = rate
    for factor in (1.0, 0.5):
        step.set_rate_factor(factor)
    assert sorted(rate.item() for rate in held) == pytest.approx([0.5 * 3e-3, 0.5 * 3e-2])


def test_weight_decay_pulls_weights_and_leaves_biases_and_scales() -> None:
    for architecture in ("mlp", "linear"):
        plain = cell(sigma="learned", architecture=architecture)
        decayed = stepped([plain.model_copy(update={"weight_decay": 1e6})])
        for name, (before, move) in decayed.items():
            if name.endswith("weight"):
                # So strong a pull leaves the gradient's sign that of the weight.
                assert (move.sign() == -before.sign()).float().mean() > 0.99, name
            else:
                torch.testing.assert_close(move, stepped([plain])[name][1])
        design = plain.model_copy(update={"weight_decay": 0.1})
        step = TrainingStep(made([design]), [design])
        for group in step.optimizer.param_groups:
            names = [n for n, p in step.parameters.items() if any(p is q for q in group["params"])]
            expected = 0.1 if all(name.endswith("weight") for name in names) else 0.0
            assert group["weight_decay"] == expected, names
            assert len({name.endswith("weight") for name in names}) == 1, names


@pytest.mark.parametrize("beta1", [0.9, 0.0])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_three_updates_are_those_of_the_textbook_for_each_member(
    optimizer: str, beta1: float
) -> None:
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2; plain descent.

    In float64 from the gradients of the step.
    """
    axes = {"optimizer": optimizer} | ({} if optimizer == "sgd" else {"adam_beta1": beta1})
    cells = [cell(seed=seed, learning_rate=4e-3, weight_decay=0.1, **axes) for seed in (0, 1)]
    step = TrainingStep(made(cells), cells)
    expected = {name: p.detach().double() for name, p in step.parameters.items()}
    first = {name: torch.zeros_like(p) for name, p in expected.items()}
    second = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t in (1, 2, 3):
        gradients = step.gradients(*batch(2))[1]
        step(*batch(2))
        for name, gradient in zip(expected, gradients, strict=True):
            assert gradient is not None
            decay = 0.1 if name.endswith("weight") else 0.0
            g = gradient.double()
            if optimizer == "adamw":
                expected[name] = expected[name] * (1 - 4e-3 * decay)
            else:
                g = g + decay * expected[name]
            first[name] = beta1 * first[name] + (1 - beta1) * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            mean, square = first[name] / (1 - beta1**t), second[name] / (1 - 0.999**t)
            move = g if optimizer == "sgd" else mean / (square.sqrt() + 1e-8)
            expected[name] = expected[name] - 4e-3 * move
    for name, parameter in step.parameters.items():
        torch.testing.assert_close(
            parameter.detach().double(), expected[name], rtol=1e-4, atol=1e-6, msg=name
        )


def test_a_gradient_of_another_memory_layout_is_still_the_right_one() -> None:
    """The fused kernel reads memory in order, whatever the strides."""
    moves = []
    for transposed in (False, True):
        step = TrainingStep(made([cell()]), [cell()])
        numbers, gradients = step.gradients(*batch(1))
        found = [g if g is None or not transposed else g.mT.contiguous().mT for g in gradients]
        assert transposed == any(g is not None and not g.is_contiguous() for g in found)
        before = [p.detach().clone() for p in step.parameters.values()]
        step.compiled, step.batch_size = lambda *_: (numbers, found), 6  # noqa: B023 -- called below
        step(*batch(1))
        now = step.parameters.values()
        moves.append([p.detach() - then for p, then in zip(now, before, strict=True)])
    for one, other in zip(*moves, strict=True):
        assert torch.equal(one, other)


def test_the_gradient_norm_is_that_of_one_member() -> None:
    cells = [cell(seed=0), cell(seed=1)]
    step = TrainingStep(made(cells), cells)
    step(*batch(2))
    squares = [p.grad[1].square().sum() for p in step.parameters.values() if p.grad is not None]
    assert step.gradient_norm(1) == pytest.approx(torch.stack(squares).sum().sqrt().item())
    assert step.gradient_norm(0) != pytest.approx(step.gradient_norm(1), rel=1e-3)


def test_the_state_holds_weights_and_both_moments() -> None:
    step = TrainingStep(made([cell()]), [cell()])
    step(*batch(1))
    assert len(step.state()) == 4 * len(step.parameters)  # weight, two moments, count of steps
    assert all(a is not b for a, b in zip(step.state(), step.state()[1:], strict=False))
