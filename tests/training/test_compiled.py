"""A compiled or captured step is the eager one up to rounding; without it nothing changes.

A GPU is not needed: what records a step is replaced by a function that runs it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pytest
import torch
from tiny_runs import LEVELS, Run, cell, generator, images, made, pixels_of, run

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.runner.machine import absent_device
from vaebench.training.compiled import Capture, NotFaster, compile_gradients
from vaebench.training.loop import Generators, train
from vaebench.training.step import TrainingStep

BERNOULLI: dict[str, object] = {
    "likelihood": "bernoulli",
    "sigma": None,
    "binarization": "dynamic",
}


def trained(*cells: Cell, compiled: bool = False, capture: Capture | None = None) -> Run:
    pixels = pixels_of(cells[0])
    vae = made(cells, pixels.levels)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    return Run(vae, train(vae, cells, pixels, sources, compiled=compiled, capture=capture))


def assert_equal(one: Run, other: Run, members: Sequence[int]) -> None:
    for member in members:
        for name, value in one.weights(member).items():
            assert torch.equal(other.weights(member)[name], value), name
        assert other.training.series[member] == one.training.series[member]


PACK = (
    cell(seed=5, beta=0.5, weight_decay=0.1, **BERNOULLI),
    cell(seed=6, weight_decay=0.1, **BERNOULLI),
)


@pytest.mark.parametrize(
    "cells",
    [PACK, (cell(seed=5, sigma="learned", objective="iwae", importance_samples=3),)],
    ids=["pack", "iwae"],
)
def test_compiled_steps_train_as_eager_ones(cells: tuple[Cell, ...]) -> None:
    eager, compiled = trained(*cells), trained(*cells, compiled=True)
    assert compiled.training.note is None
    assert (eager.training.step_kind, compiled.training.step_kind) == ("eager", "compiled")
    assert compiled.training.compile_seconds > 0 == eager.training.compile_seconds
    for member in range(len(cells)):
        for name, value in eager.weights(member).items():
            torch.testing.assert_close(
                compiled.weights(member)[name], value, rtol=1e-3, atol=1e-5, msg=name
            )
        expected = eager.training.series[member]["train_loss"]
        assert compiled.training.series[member]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_every_family_can_be_compiled(likelihood: str) -> None:
    """What the compiler cannot read in a family's code would silently cost its speed."""
    counts = LIKELIHOODS[likelihood].support == "counts"
    kind = {"kind": "counts", "dataset": "./counts.npz"} if counts else {}
    design = cell(seed=5, likelihood=likelihood, sigma=None, epochs=1, **kind)
    grey = images().float() if counts else None
    training = run(design, grey=grey, compiled=True).training
    assert training.note is None
    assert training.step_kind == "compiled"


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


def test_the_next_cell_of_a_design_uses_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that differ in numbers only: their values are arguments, not constants."""
    one = cell(seed=5, sigma=0.2, hidden=(11,))
    other = cell(seed=6, sigma=0.4, hidden=(11,), beta=3.0, learning_rate=1e-3, prior_scale=2.0)
    trained(one, compiled=True)
    monkeypatch.setattr(torch, "compile", unable)
    again = trained(other, compiled=True)
    assert again.training.note is None
    expected = trained(other).training.series[0]["train_loss"]
    assert again.training.series[0]["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert "not compiled" in str(trained(cell(hidden=(12,)), compiled=True).training.note)


def unable(*_: object, **__: object) -> NoReturn:
    raise OSError("no C++ compiler was found\nand more")


def silent(*_: object, **__: object) -> NoReturn:
    raise AssertionError


@pytest.mark.parametrize(
    ("fails", "why"), [(unable, "OSError: no C++"), (silent, "AssertionError")]
)
def test_without_a_compiler_training_is_the_same_and_says_so(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[..., NoReturn], why: str
) -> None:
    design = cell(seed=5, hidden=(13,))
    eager = trained(design)
    monkeypatch.setattr(torch, "compile", fails)
    run = trained(design, compiled=True)
    note = str(run.training.note)
    assert f"not compiled: {why}" in note
    assert "more" not in note
    assert run.training.step_kind == "eager"
    assert_equal(eager, run, [0])


@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
def test_other_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, spoilt: str) -> None:
    """A gradient or a term of the loss that is a percent off."""

    def compiled(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def wrong(parameters: dict[str, torch.Tensor], *rest: Any) -> Any:
            found, (loss, numbers) = function(parameters, *rest)
            if spoilt == "gradient":
                name = next(iter(found))
                return {**found, name: 1.01 * found[name]}, (loss, numbers)
            return found, (loss, 1.01 * numbers)

        return wrong

    monkeypatch.setattr(torch, "compile", compiled)
    # torch.func runs only what is traced, not our own autograd functions: none is used here.
    cells = [cell(seed=5, hidden=(14,), posterior="delta")]
    step = TrainingStep(made(cells), cells)
    with pytest.raises(NotFaster, match="results differ from those"):
        compile_gradients(step, torch.rand(1, 7, 20), torch.randn(1, 1, 7, 3))


def test_what_branches_on_data_is_neither_compiled_nor_captured() -> None:
    recorder = Recorder()
    for axes in ({"sigma": "optimal"}, {"posterior": "full"}):
        run = trained(cell(epochs=2, **axes), compiled=True, capture=recorder)
        assert run.training.compile_seconds == 0
        assert run.training.note is None
        assert run.training.step_kind == "eager"
    assert recorder.recorded == 0


class Recorder:
    """Replays by running the step again, and counts; it may fail, or break what it replays."""

    def __init__(self, fails: bool = False, after: Callable[[], None] = lambda: None) -> None:
        self.recorded = self.replayed = 0
        self._fails, self._after = fails, after

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        if self._fails:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> None:
            self.replayed += 1
            run()
            self._after()

        return replay


@pytest.mark.parametrize("axes", [BERNOULLI, {"sigma": "learned"}, {"posterior": "delta"}], ids=str)
def test_captured_steps_train_as_eager_ones(axes: dict[str, object]) -> None:
    cells = [cell(seed=seed, learning_rate_schedule="cosine", **axes) for seed in (5, 6)]
    recorder = Recorder()
    captured = trained(*cells, capture=recorder)
    assert_equal(trained(*cells), captured, [0, 1])
    assert captured.training.note is None
    assert captured.training.step_kind == "captured"
    # Five epochs of three full batches and a short one; the first three steps are eager.
    assert (recorder.recorded, recorder.replayed) == (1, 12)


def test_a_capture_that_fails_changes_nothing_but_the_note() -> None:
    cells = [cell(seed=seed, **BERNOULLI) for seed in (5, 6)]
    recorder = Recorder(fails=True)
    run = trained(*cells, capture=recorder)
    assert_equal(trained(*cells), run, [0, 1])
    assert recorder.recorded == 1
    assert "not captured as a CUDA graph: operation not permitted" in str(run.training.note)
    assert run.training.step_kind == "eager"


@pytest.mark.parametrize("by", [1e-2, float("nan")])
@pytest.mark.parametrize("prior_scale", [1.0, 1e-25], ids=["both fine", "one diverged"])
def test_a_replay_that_gives_other_numbers_is_not_used(by: float, prior_scale: float) -> None:
    """Also beside a member that diverged, whose numbers are equal to none."""
    cells = [cell(seed=5), cell(seed=6, prior_scale=prior_scale)]
    vae, pixels = made(cells), pixels_of(cells[0])

    def spoil() -> None:
        with torch.no_grad():
            vae.get_parameter("decoder.layers.0.weight")[0, 0, 0] += by

    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    recorder = Recorder(after=spoil)
    run = Run(vae, train(vae, cells, pixels, sources, capture=recorder))
    assert recorder.replayed == 1
    assert "other numbers" in str(run.training.note)
    assert_equal(trained(*cells), run, [0])
    assert (run.training.divergence[1] is None) == (prior_scale == 1)


@pytest.mark.cuda
@pytest.mark.skipif(
    absent_device("cuda") is not None, reason=f"needs a GPU: {absent_device('cuda')}"
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "axes",
    [
        [{}, {}],
        [{"architecture": "linear"}],
        [{"objective": "iwae", "importance_samples": 3}],
    ],
    ids=str,
)
def test_a_cuda_graph_trains_as_the_step_itself_does(
    axes: list[dict[str, object]], compiled: bool
) -> None:
    cells = [cell(seed=5 + i, device="cuda", **BERNOULLI, **own) for i, own in enumerate(axes)]
    runs = []
    captures: list[Capture | None] = [None, Recorder(fails=True)]
    for capture in captures:
        vae = made(cells).to("cuda")
        pixels = TrainingPixels(images(), LEVELS, "dynamic", False, device="cuda")
        sources = [
            Generators(
                generator(c.seed, 1),
                *(torch.Generator("cuda").manual_seed(10 * c.seed + i) for i in (2, 3)),
            )
            for c in cells
        ]
        compile_it = compiled and capture is None
        runs.append(
            Run(vae, train(vae, cells, pixels, sources, compiled=compile_it, capture=capture))
        )
    assert runs[0].training.note is None
    assert "captured" in runs[0].training.step_kind
    for name, value in runs[1].vae.state_dict().items():
        torch.testing.assert_close(runs[0].vae.state_dict()[name], value, rtol=1e-3, atol=1e-5)
