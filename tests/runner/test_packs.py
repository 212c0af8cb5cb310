"""Which cells are trained as one program."""

from collections.abc import Sequence

import pytest

from vaebench.grid.cell import Cell, program_key
from vaebench.grid.spec import Grid
from vaebench.runner.plan import Planned, make_plan, packs, programs_worth_compiling


def planned(cells: Sequence[Cell], steps: int = 0) -> list[Planned]:
    return [Planned(cell, str(number), steps) for number, cell in enumerate(cells)]


def sizes(cells: Sequence[Cell], largest: int | None = None) -> list[list[int]]:
    """The latent sizes of each pack, in no order."""
    made = packs(planned(cells), largest)
    assert sorted(each.cell_id for pack in made for each in pack) == sorted(
        each.cell_id for each in planned(cells)
    )
    return sorted(sorted(each.cell.latent_dim for each in pack) for pack in made)


def small(**axes: object) -> Cell:
    return Cell.model_validate({"hidden": (16,), "batch_size": 16, **axes})


def test_a_cpu_packs_small_cells_of_the_same_shape_six_at_a_time() -> None:
    cells = [small(seed=seed, latent_dim=2) for seed in range(8)]
    assert sizes(cells) == [[2, 2], [2] * 6]
    assert sizes(cells, 3) == [[2, 2], [2] * 3, [2] * 3]
    assert sizes([small(latent_dim=2), small(latent_dim=3)]) == [[2], [3]]
    large = [small(seed=seed, hidden=(2000,), batch_size=1000) for seed in range(2)]
    assert sizes(large) == [[8], [8]]


def test_a_gpu_packs_large_cells_too_but_not_of_several_latent_sizes() -> None:
    large = {"device": "cuda", "hidden": (2000,), "batch_size": 1000}
    assert sizes([small(**large, latent_dim=size) for size in (3, 3, 4)]) == [[3, 3], [4]]
    assert sizes([small(device="cuda", seed=seed) for seed in range(70)]) == [[8] * 6, [8] * 64]
    assert sizes([small(device="cuda", seed=seed) for seed in range(3)], 1) == [[8]] * 3


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_members_share_what_the_optimizer_has_once(device: str) -> None:
    together = [small(device=device, **a) for a in ({}, {"seed": 1}, {"beta": 2.0})]
    assert len(packs(planned(together))) == 1
    for axes in ({"learning_rate": 1e-2}, {"weight_decay": 0.1}, {"epochs": 7}):
        assert len(packs(planned([small(device=device), small(device=device, **axes)]))) == 2


def test_compiling_is_decided_by_the_steps_of_all_cells_that_share_a_program() -> None:
    def compiled(cells: Sequence[Cell], steps: int, largest: int | None = None) -> set[Cell]:
        worth = programs_worth_compiling(planned(cells, steps), largest)
        return {cell for cell in cells if program_key(cell) in worth}

    big = {"hidden": (2000,), "batch_size": 1000}
    cells = [
        small(**big, seed=seed, beta=beta, learning_rate=rate, epochs=epochs)
        for seed in range(3)
        for beta in (1.0, 2.0)
        for rate, epochs in ((1e-3, 5), (1e-4, 6))
    ]
    other = small(**big, latent_dim=3)
    assert not compiled(cells, 1_600)
    assert compiled([*cells, other], 1_700) == set(cells)
    # A pack takes the steps of all its members at once.
    pack = [small(seed=seed) for seed in range(6)]
    assert not compiled(pack, 19_000)
    assert compiled(pack, 19_000, largest=1) == set(pack)
    # On a GPU much less is gained, and elsewhere nothing is known.
    for device, steps in (("cuda:1", 290_000), ("mps", 10**7)):
        assert not compiled([small(device=device)], steps)
    assert compiled([small(device="cuda:1")], 310_000)


def test_the_cells_of_a_program_differ_in_numbers_only() -> None:
    key = program_key(small(sigma=0.1, likelihood="gaussian"))
    alike = small(sigma=0.4, likelihood="gaussian", beta=3.0, prior_scale=2.0, train_size=100)
    assert program_key(alike) == key
    others = [{"sigma": "learned"}, {"latent_dim": 3}, {"precision": "bfloat16"}]
    others += [{"free_bits": 0.1}, {"prior": "vamp"}, {"prior": "vamp", "prior_components": 7}]
    keys = {program_key(small(**{"sigma": 0.1, "likelihood": "gaussian", **a})) for a in others}
    assert len(keys - {key}) == len(others)


def test_a_plan_counts_the_steps_of_each_cell() -> None:
    grid = Grid.from_dict(
        {
            "name": "steps",
            "base": {"epochs": 3, "batch_size": 64},
            "axes": {"train_size": [100, 1400], "valid_size": [0, 30]},
        }
    )
    cells = make_plan(grid, {}).cells
    steps = {(each.cell.train_size, each.cell.valid_size): each.steps for each in cells}
    assert steps[100, 0] == steps[100, 30] == 3 * 2
    assert steps[1400, 0] == steps[1400, 30] == 3 * 22
