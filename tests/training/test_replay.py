"""A replayed step against the step itself; a stand-in records where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from tiny_runs import LEVELS, Run, cell, generator, images, made, pixels_of

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell
from vaebench.runner.machine import absent_device
from vaebench.training.loop import Generators, train
from vaebench.training.replay import Record, ReplayedStep, can_be_recorded

DYNAMIC = {"likelihood": "bernoulli", "sigma": None, "binarization": "dynamic"}


class Recorder:
    """Replays by running the step again, and counts; it may fail, or break what it replays."""

    def __init__(self, fails: bool = False, after: Callable[[], None] = lambda: None) -> None:
        self.recorded = self.replayed = 0
        self._fails, self._after = fails, after

    def __call__(
        self, run: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        self.recorded += 1
        if self._fails:
            for each in generators:
                each.manual_seed(0)
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        def replay() -> None:
            self.replayed += 1
            run()
            self._after()

        return replay


def trained(cells: Sequence[Cell], record: Record | None) -> Run:
    vae, pixels = made(cells, pixels_of(cells[0]).levels), pixels_of(cells[0])
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    return Run(vae, train(vae, cells, pixels, sources, record=record))


def assert_equal(one: Run, other: Run, members: int) -> None:
    for member in range(members):
        for name, value in one.weights(member).items():
            assert torch.equal(other.weights(member)[name], value), name
        assert other.training.series[member] == one.training.series[member]


@pytest.mark.parametrize("axes", [DYNAMIC, {"sigma": "learned"}, {"posterior": "delta"}])
def test_replayed_steps_train_as_the_step_itself_does(axes: dict[str, object]) -> None:
    cells = [cell(seed=seed, **axes) for seed in (5, 6)]
    recorder = Recorder()
    replayed = trained(cells, recorder)
    assert_equal(trained(cells, None), replayed, 2)
    assert replayed.training.note is None
    # The last of each epoch's 4 batches is short, and the first three steps are not replayed.
    assert (recorder.recorded, recorder.replayed) == (1, 12)


def test_a_schedule_is_followed() -> None:
    cells = [cell(learning_rate_schedule="cosine")]
    assert_equal(trained(cells, None), trained(cells, Recorder()), 1)


def test_a_recording_that_fails_changes_nothing_but_the_note() -> None:
    cells = [cell(seed=seed, **DYNAMIC) for seed in (5, 6)]
    recorder = Recorder(fails=True)
    run = trained(cells, recorder)
    assert_equal(trained(cells, None), run, 2)
    assert recorder.recorded == 1
    assert run.training.note == (
        "steps are not replayed as one graph: operation not permitted when stream is capturing"
    )


@pytest.mark.parametrize("by", [1e-3, float("nan")])
def test_a_replay_that_gives_other_numbers_is_not_used(by: float) -> None:
    cells = [cell(seed=5)]
    vae, pixels = made(cells), pixels_of(cells[0])

    def spoil() -> None:
        with torch.no_grad():
            vae.get_parameter("decoder.layers.0.weight")[0, 0, 0] += by

    sources = [Generators(*(generator(5, i) for i in (1, 2, 3)))]
    recorder = Recorder(after=spoil)
    run = Run(vae, train(vae, cells, pixels, sources, record=recorder))
    assert recorder.replayed == 1
    assert run.training.note is not None
    assert run.training.note.endswith("other numbers")
    assert_equal(trained(cells, None), run, 1)


def test_it_tells_which_steps_were_replayed() -> None:
    """Of a replayed step the gradient is not seen, so a diverging one may not report it."""
    state = torch.zeros(2)

    def step(indices: torch.Tensor) -> torch.Tensor:
        state.add_(indices.float().mean())
        return torch.zeros(3, 2)

    replayed = ReplayedStep(step, [state], [], Recorder())
    told = []
    for size in (4, 4, 4, 4, 4, 2, 4):
        replayed(torch.ones(2, size, dtype=torch.long))
        told.append(replayed.was_replayed)
    assert told == [False, False, False, True, True, False, True]
    assert state.tolist() == [7.0, 7.0]


def test_a_member_that_diverges_is_recorded_out() -> None:
    cells = [cell(seed=5), cell(seed=6)]
    vae, pixels = made(cells), pixels_of(cells[0])

    def break_the_second() -> None:
        if recorder.replayed == 4:
            with torch.no_grad():
                vae.get_parameter("decoder.layers.0.weight")[1] = float("nan")

    recorder = Recorder(after=break_the_second)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    run = Run(vae, train(vae, cells, pixels, sources, record=recorder))
    assert_equal(trained(cells, None), run, 1)
    assert run.training.divergence[1] is not None
    assert recorder.recorded == 2


@pytest.mark.parametrize(
    ("axes", "can"),
    [
        ({}, True),
        ({"sigma": "optimal"}, False),
        ({"posterior": "full"}, False),
        ({"posterior": "delta"}, True),
        ({"posterior": "delta", "sparsity": 0.1}, False),
        ({"architecture": "some.module:factory"}, False),
    ],
)
def test_what_waits_for_the_device_is_not_recorded(axes: dict[str, object], can: bool) -> None:
    assert can_be_recorded([cell(**axes)]) is can


@pytest.mark.cuda
@pytest.mark.skipif(
    absent_device("cuda") is not None, reason=f"needs a GPU: {absent_device('cuda')}"
)
def test_a_cuda_graph_trains_as_the_step_itself_does() -> None:
    cells = [cell(seed=seed, device="cuda", **DYNAMIC) for seed in (5, 6)]
    runs = []
    for record in (None, lambda run, _: run):
        vae = made(cells).to("cuda")
        pixels = TrainingPixels(images(), LEVELS, "dynamic", False, device="cuda")
        sources = [
            Generators(
                generator(c.seed, 1),
                *(torch.Generator("cuda").manual_seed(10 * c.seed + i) for i in (2, 3)),
            )
            for c in cells
        ]
        runs.append(Run(vae, train(vae, cells, pixels, sources, record=record)))
    assert runs[0].training.note is None
    for name, value in runs[1].vae.state_dict().items():
        torch.testing.assert_close(runs[0].vae.state_dict()[name], value, rtol=1e-3, atol=1e-5)
