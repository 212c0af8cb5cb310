"""Adam over a pack: torch's own updates, each member by its own numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from tiny_runs import SHAPE, cell, made
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.optimizer import AdamState, PackOptimizer
from vaebench.training.step import training_loss


def gradients_of_a_batch(vae: VAE) -> tuple[Tensor | None, ...]:
    source = torch.Generator().manual_seed(30)
    x = torch.rand(len(vae.cells), 6, math.prod(SHAPE), generator=source)
    noise = torch.randn(len(vae.cells), 4, 6, 3, generator=source)
    return gradients_of(vae, training_loss(vae, vae.cells, torch.ones(1), x, noise).loss)


def gradients_of(vae: VAE, loss: Tensor) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss.sum(), list(vae.parameters()), allow_unused=True)


def stepped(cells: list[Cell], factor: float = 1.0) -> tuple[VAE, dict[str, Tensor]]:
    """A pack after one update, and how each parameter moved."""
    vae = made(cells)
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    optimizer = PackOptimizer(vae, cells)
    optimizer.set_factor(factor)
    optimizer.step(gradients_of_a_batch(vae))
    return vae, {name: (p - before[name]).detach() for name, p in vae.named_parameters()}


def test_the_first_step_of_each_member_is_its_own_learning_rate() -> None:
    rates = (1e-3, 4e-3)
    cells = [cell(learning_rate=rate, sigma="learned") for rate in rates]
    for factor in (1.0, 0.5):
        for name, move in stepped(cells, factor)[1].items():
            # Adam's first step is the rate in size; that of a learned scale ten times as large.
            size = move.abs().flatten(1).max(1).values
            faster = 10.0 if name == "raw_scale" else 1.0
            expected = torch.tensor(rates) * factor * faster
            torch.testing.assert_close(size, expected, rtol=1e-2, atol=0)


def test_weight_decay_pulls_weights_and_leaves_biases_and_scales() -> None:
    plain = [cell(sigma="learned", architecture=a) for a in ("mlp", "linear")]
    for design in plain:
        decayed = design.model_copy(update={"weight_decay": 1e6})
        vae, moves = stepped([decayed])
        for name, move in moves.items():
            if name.endswith("weight"):
                before = vae.get_parameter(name).detach() - move
                # So strong a pull leaves the gradient's sign that of the weight.
                assert (move.sign() == -before.sign()).float().mean() > 0.99, name
            else:
                torch.testing.assert_close(move, stepped([design])[1][name])


def test_a_dropped_member_stays_and_the_others_go_on() -> None:
    cells = [cell(seed=0), cell(seed=1)]
    vae = made(cells)
    optimizer = PackOptimizer(vae, cells)
    optimizer.drop(0)
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    optimizer.step(gradients_of_a_batch(vae))
    for name, parameter in vae.named_parameters():
        assert torch.equal(parameter[0], before[name][0]), name
        assert not torch.equal(parameter[1], before[name][1]), name


def test_the_gradient_norm_is_that_of_one_member() -> None:
    cells = [cell(seed=0), cell(seed=1)]
    vae = made(cells)
    gradients = [g for g in gradients_of_a_batch(vae) if g is not None]
    optimizer = PackOptimizer(vae, cells)
    optimizer.step(gradients)
    squares = [gradient[1].square().sum() for gradient in gradients]
    assert optimizer.gradient_norm(1) == pytest.approx(torch.stack(squares).sum().sqrt().item())


@pytest.mark.parametrize("rates", [(1e-3, 1e-3), (1e-3, 4e-3)])
def test_the_updates_are_those_of_torch_adam(rates: tuple[float, float]) -> None:
    cells = [cell(seed=i, learning_rate=rate, weight_decay=0.1) for i, rate in enumerate(rates)]
    vae, theirs = made(cells), made(cells)
    decayed = [p for name, p in theirs.named_parameters() if name.endswith("weight")]
    others = [p for name, p in theirs.named_parameters() if not name.endswith("weight")]
    ours = PackOptimizer(vae, cells)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others}]
    adam = torch.optim.Adam(groups, lr=rates[1])
    for _ in range(3):
        ours.step(gradients_of_a_batch(vae))
        for p, gradient in zip(theirs.parameters(), gradients_of_a_batch(theirs), strict=True):
            p.grad = gradient
        adam.step()
    for (name, p), q in zip(vae.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p[1], q[1], rtol=1e-4, atol=1e-6, msg=name)
        assert torch.allclose(p[0], q[0], rtol=1e-4, atol=1e-6) == (rates[0] == rates[1]), name


def test_a_drop_in_the_middle_of_an_epoch_leaves_the_schedule_in_force() -> None:
    cells = [cell(seed=0), cell(seed=1)]
    moves = []
    for dropped in (False, True):
        vae = made(cells)
        before = vae.get_parameter("decoder.layers.0.weight").detach().clone()
        optimizer = PackOptimizer(vae, cells)
        optimizer.set_factor(0.25)
        if dropped:
            optimizer.drop(0)
        optimizer.step(gradients_of_a_batch(vae))
        moves.append((vae.get_parameter("decoder.layers.0.weight").detach() - before)[1])
    torch.testing.assert_close(moves[0], moves[1])
    assert moves[0].abs().max() == pytest.approx(0.25 * cells[1].learning_rate, rel=1e-2)


@pytest.mark.parametrize("rates", [(1e-3, 1e-3), (1e-3, 4e-3)])
def test_whole_stacks_are_updated_as_their_members_are(rates: tuple[float, float]) -> None:
    """On a GPU cells of one rate are one tensor, until one of them is dropped."""
    cells = [cell(seed=i, learning_rate=rate, weight_decay=0.1) for i, rate in enumerate(rates)]
    one_by_one, whole = made(cells), made(cells)
    theirs, ours = PackOptimizer(one_by_one, cells), PackOptimizer(whole, cells)
    ours._on_gpu = True
    ours._groups = ours._grouped()
    slots = [slot.member for group in ours._groups.values() for slot in group.slots]
    assert set(slots) == ({None} if rates[0] == rates[1] else {0, 1})
    for step in range(4):
        for vae, optimizer in ((one_by_one, theirs), (whole, ours)):
            optimizer.set_factor(1 / (1 + step))
            optimizer.step(gradients_of_a_batch(vae))
            if step == 1:
                optimizer.drop(0)
    for (name, p), q in zip(one_by_one.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7, msg=name)


def test_a_gradient_of_another_layout_is_still_the_right_one() -> None:
    """Adam's kernel reads memory in order, so a transposed gradient has to be laid out anew."""
    cells = [cell(seed=0)]
    moves = []
    for transpose in (False, True):
        vae = made(cells)
        weight = vae.get_parameter("decoder.layers.0.weight")
        before = weight.detach().clone()
        factor = torch.linspace(-1, 1, weight.numel()).reshape(weight.shape)
        turned = (weight.mT * factor.mT).mT if transpose else weight * factor
        PackOptimizer(vae, cells).step(gradients_of(vae, turned.sum(dim=(1, 2))))
        moves.append(weight.detach() - before)
    torch.testing.assert_close(moves[0], moves[1])


def traced_optimizer(vae: VAE, cells: list[Cell], *, on_gpu: bool) -> PackOptimizer:
    """One for `traced_update`; ``on_gpu``: that leaves the strides to the program, as there."""
    optimizer = PackOptimizer(vae, cells)
    if on_gpu:
        optimizer._numbers = None
    return optimizer


def update(optimizer: PackOptimizer, gradients: Sequence[Tensor | None]) -> None:
    strides = optimizer.traced_strides(optimizer.next_pace())
    optimizer.traced_update(optimizer.state, gradients, strides)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_update_that_is_compiled_is_the_kernel_s(on_gpu: bool) -> None:
    """The same arithmetic written twice: by torch's kernel and in operations of its own."""
    numbers = ((1e-3, 0.1), (4e-3, 0.0), (2e-3, 0.3))
    cells = [
        cell(seed=i, sigma="learned", learning_rate=rate, weight_decay=decay)
        for i, (rate, decay) in enumerate(numbers)
    ]
    theirs, ours = made(cells), made(cells)
    kernel, traced = PackOptimizer(theirs, cells), traced_optimizer(ours, cells, on_gpu=on_gpu)
    for factor in (1.0, 0.5, 0.5, 0.25):
        for vae, optimizer in ((theirs, kernel), (ours, traced)):
            optimizer.set_factor(factor)
            gradients = gradients_of_a_batch(vae)
            if optimizer is kernel:
                optimizer.step(gradients)
            else:
                update(optimizer, gradients)
        for optimizer in (kernel, traced):
            optimizer.drop(1)
    for one, other in zip(kernel.state.weights, traced.state.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    # The two may take turns: they keep the same books.
    assert kernel.steps == traced.steps == 4
    for member in (0, 2):
        for one, other in zip(kernel.state.tensors(), traced.state.tensors(), strict=True):
            torch.testing.assert_close(one[member], other[member], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_dropped_member_s_gradient_may_be_anything(on_gpu: bool) -> None:
    cells = [cell(seed=0), cell(seed=1)]
    vae = made(cells)
    optimizer = traced_optimizer(vae, cells, on_gpu=on_gpu)
    optimizer.drop(0)
    before = [weight.clone() for weight in optimizer.state.weights]
    gradients = [torch.full_like(w, torch.nan) for w in before]
    for gradient in gradients:
        gradient[1] = 1
    update(optimizer, gradients)
    for weight, old in zip(optimizer.state.weights, before, strict=True):
        assert torch.equal(weight[0], old[0])
        assert not torch.equal(weight[1], old[1])


def test_the_strides_keep_their_digits() -> None:
    """Of 1 - 0.999^t in float32 four digits would be left; and a count of ten million counts."""
    designs = [cell(learning_rate=1e-3), cell(learning_rate=4e-3)]
    for steps in (0, 1, 999, 9_840_000):
        strides = []
        for on_gpu in (False, True):
            optimizer = traced_optimizer(made(designs), designs, on_gpu=on_gpu)
            optimizer.set_factor(0.5)
            optimizer.steps.fill_(steps)
            strides.append(optimizer.traced_strides(optimizer.next_pace()))
            assert optimizer.steps == steps + 1
        torch.testing.assert_close(strides[0], strides[1], rtol=1e-6, atol=0)


def test_a_state_is_its_tensors() -> None:
    state = PackOptimizer(made([cell()]), [cell()]).state
    again = AdamState.of(state.tensors())
    assert [len(part) for part in (again.weights, again.first_moments)] == [8, 8]
    assert all(a is b for a, b in zip(state.tensors(), again.tensors(), strict=True))
