"""A compiled gradient is the eager one up to rounding, and its absence changes nothing."""

from __future__ import annotations

from typing import NoReturn

import pytest
import torch
from tiny_runs import Run, cell, generator, made, pixels_of

from vaebench.grid.cell import Cell
from vaebench.training import gradient as module
from vaebench.training.gradient import NotCompiled, compiled_gradient, eager_gradient
from vaebench.training.loop import Generators, train


def trained(*cells: Cell, compiled: bool | None = None) -> Run:
    pixels = pixels_of(cells[0])
    vae = made(cells, pixels.levels)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    return Run(vae, train(vae, cells, pixels, sources, compiled=compiled))


@pytest.mark.parametrize(
    "axes",
    [
        {"likelihood": "bernoulli", "sigma": None, "binarization": "dynamic"},
        {"sigma": "learned", "objective": "iwae", "importance_samples": 3},
    ],
    ids=lambda axes: str(axes["sigma"]),
)
def test_compiled_steps_train_as_the_operations_one_by_one(axes: dict[str, object]) -> None:
    cells = [cell(seed=seed, **axes) for seed in (5, 6)]
    eager, compiled = trained(*cells, compiled=False), trained(*cells, compiled=True)
    assert compiled.training.note is None
    assert compiled.training.compile_seconds > 0 == eager.training.compile_seconds
    for member in range(2):
        for name, value in eager.weights(member).items():
            torch.testing.assert_close(
                compiled.weights(member)[name], value, rtol=1e-3, atol=1e-5, msg=name
            )
        expected = eager.training.series[member]["train_loss"]
        assert compiled.training.series[member]["train_loss"] == pytest.approx(expected, rel=1e-5)


def unable(*_: object, **__: object) -> NoReturn:
    raise OSError("no C++ compiler was found\nand more")


def test_without_a_compiler_training_is_the_same_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eager = trained(cell(seed=5), compiled=False)
    monkeypatch.setattr(torch, "compile", unable)
    run = trained(cell(seed=5), compiled=True)
    assert run.training.note == (
        "the training step was not compiled: OSError: no C++ compiler was found"
    )
    for name, value in eager.weights().items():
        assert torch.equal(run.weights()[name], value), name


def test_other_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(program: object, **_: object) -> object:
        def run(*arguments: object) -> list[torch.Tensor]:
            *numbers, last = program(*arguments)  # type: ignore[operator]
            return [*numbers, last * 1.01]

        return run

    monkeypatch.setattr(torch, "compile", wrong)
    cells = [cell(seed=5)]
    vae, x, noise = made(cells), torch.rand(1, 7, 20), torch.randn(1, 1, 7, 3)
    with pytest.raises(NotCompiled, match="not those of the same operations"):
        compiled_gradient(vae, cells, torch.ones(1), x, noise)


def test_a_traced_gradient_follows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are arguments: what is traced once holds for weights that training moved."""
    monkeypatch.setattr(torch, "compile", lambda program, **_: program)
    cells = [cell(seed=5, posterior="delta", architecture="linear")]
    vae, x, noise = made(cells), torch.rand(1, 7, 20), torch.randn(1, 1, 7, 3)
    traced = compiled_gradient(vae, cells, torch.ones(1), x, noise)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(1.5)
    terms, gradients = eager_gradient(vae, cells, torch.ones(1))(x, noise)
    others, theirs = traced(x, noise)
    torch.testing.assert_close(others.loss, terms.loss.detach())
    assert others.kl is None
    # A point has no spread, so the encoder's second half is never asked.
    assert [g is None for g in theirs] == [g is None for g in gradients]
    for one, other in zip(gradients, theirs, strict=True):
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


def test_compiling_is_for_long_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(cell()).training.note is None
    monkeypatch.setattr(module.torch, "compile", unable)
    monkeypatch.setattr(module, "_FEWEST_STEPS", 20)
    # 5 epochs of 4 batches; a fitted scale writes to the model in each step, which stays eager.
    assert trained(cell()).training.note is not None
    assert trained(cell(sigma="optimal")).training.note is None
    assert trained(cell(epochs=4)).training.note is None
