"""Replayed blocks of steps against the steps themselves; a stand-in records without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from tiny_runs import LEVELS, Run, cell, generator, images, made, pixels_of

from vaebench.data.pixels import TrainingPixels
from vaebench.grid.cell import Cell
from vaebench.runner.machine import absent_device
from vaebench.runner.plan import _VARIES_IN_A_PACK
from vaebench.training.loop import Generators, train
from vaebench.training.replay import Record, ReplayedBlocks, can_be_recorded

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
    # An epoch is a block of 3 full batches, replayed in all epochs but the first, and one of a
    # short batch, replayed after three of its kind.
    assert (recorder.recorded, recorder.replayed) == (2, 6)


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


def test_each_shape_of_a_block_is_recorded_once_and_not_at_first() -> None:
    state = torch.zeros(2)

    def steps(indices: torch.Tensor) -> torch.Tensor:
        state.add_(indices.float().sum())
        return state.expand(indices.shape[1], 3, 2).clone()

    recorder = Recorder()
    replayed = ReplayedBlocks(steps, [state], [], recorder)
    counts, last = [], 0.0
    for count in (2, 2, 2, 2, 4, 2, 4, 4):
        numbers = replayed(torch.ones(2, count, 5, dtype=torch.long))
        last += 10 * count
        assert numbers.shape == (count, 3, 2)
        assert numbers.unique().tolist() == [last]
        counts.append((recorder.recorded, recorder.replayed))
    # Of two steps each two blocks are taken first, of four one.
    expected = [(0, 0), (0, 0), (1, 1), (1, 2), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert counts == expected


def test_a_member_that_diverges_is_recorded_out() -> None:
    cells = [cell(seed=5), cell(seed=6)]
    vae, pixels = made(cells), pixels_of(cells[0])

    def break_the_second() -> None:
        if recorder.replayed == 2:
            with torch.no_grad():
                vae.get_parameter("decoder.layers.0.weight")[1] = float("nan")

    recorder = Recorder(after=break_the_second)
    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    run = Run(vae, train(vae, cells, pixels, sources, record=recorder))
    assert_equal(trained(cells, None), run, 1)
    # The block of the third epoch broke it, and the short batch after that shows it.
    assert run.training.divergence[1] is not None
    assert run.training.divergence[1].step == 3 * 4
    assert len(run.training.series[1]["train_loss"]) == 3
    assert recorder.recorded == 3


def test_beside_a_member_that_diverged_a_wrong_replay_is_still_found() -> None:
    """Its numbers are none, and equal to any."""
    cells = [cell(seed=5), cell(seed=6, learning_rate=1e18)]
    vae, pixels = made(cells), pixels_of(cells[0])

    def spoil() -> None:
        with torch.no_grad():
            vae.get_parameter("decoder.layers.0.weight")[0, 0, 0] += 1e-3

    sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
    run = Run(vae, train(vae, cells, pixels, sources, record=Recorder(after=spoil)))
    assert run.training.divergence[1] is not None
    assert (run.training.note or "").endswith("other numbers")
    assert_equal(trained(cells, None), run, 1)


def test_cells_that_may_share_a_pack_are_all_recorded_or_none() -> None:
    """Else a cell's random numbers, which are a block's, would depend on its company."""
    numbers = {"beta": 2.0, "learning_rate": 1e-4, "weight_decay": 0.1, "sparsity": 0.3, "seed": 9}
    assert set(numbers) | {"prior_scale"} == _VARIES_IN_A_PACK
    for design in ({}, {"posterior": "delta"}, {"sigma": "optimal"}, {"posterior": "full"}):
        plain = cell(**design)
        other = plain.model_copy(update=numbers)
        assert (
            can_be_recorded([plain]) == can_be_recorded([other]) == can_be_recorded([plain, other])
        )


def test_a_divergence_in_the_middle_of_a_block_has_its_step() -> None:
    cells = [cell(seed=5), cell(seed=6, learning_rate=1e18)]
    one_by_one, blocks = trained(cells, None), trained(cells, Recorder())
    assert_equal(one_by_one, blocks, 1)
    ends = [run.training.divergence[1] for run in (one_by_one, blocks)]
    assert ends[0] is not None
    assert ends[1] == replace(ends[0], gradient_norm=None)
    assert ends[1].step % 4 == 2
    assert blocks.training.series[1] == one_by_one.training.series[1]


@pytest.mark.parametrize(
    ("axes", "can"),
    [
        ({}, True),
        ({"sigma": "optimal"}, False),
        ({"posterior": "full"}, False),
        ({"posterior": "delta"}, True),
        ({"posterior": "delta", "sparsity": 0.1}, True),
        ({"architecture": "some.module:factory"}, False),
    ],
)
def test_what_waits_for_the_device_is_not_recorded(axes: dict[str, object], can: bool) -> None:
    assert can_be_recorded([cell(**axes)]) is can


@pytest.mark.cuda
@pytest.mark.skipif(
    absent_device("cuda") is not None, reason=f"needs a GPU: {absent_device('cuda')}"
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "axes",
    [
        [{}, {}],
        [{"latent_dim": 2}, {"latent_dim": 5}],
        [{"learning_rate": 1e-3}, {"learning_rate": 4e-3}],
        [{"architecture": "linear"}],
        [{"objective": "iwae", "importance_samples": 3}],
    ],
    ids=str,
)
def test_a_cuda_graph_trains_as_the_step_itself_does(
    axes: list[dict[str, object]], compiled: bool
) -> None:
    cells = [cell(seed=5 + i, device="cuda", **DYNAMIC, **own) for i, own in enumerate(axes)]
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
        compile_it = compiled and record is None
        runs.append(
            Run(vae, train(vae, cells, pixels, sources, record=record, compiled=compile_it))
        )
    assert runs[0].training.note is None
    for name, value in runs[1].vae.state_dict().items():
        torch.testing.assert_close(runs[0].vae.state_dict()[name], value, rtol=1e-3, atol=1e-5)
