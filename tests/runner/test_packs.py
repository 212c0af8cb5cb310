"""Which cells are trained as one program."""

from collections.abc import Sequence

from vaebench.grid.cell import Cell
from vaebench.runner.plan import Planned, packs


def sizes(cells: Sequence[Cell], largest: int | None = None) -> list[list[int]]:
    """The latent sizes of each pack, in no order."""
    planned = [Planned(cell, str(number)) for number, cell in enumerate(cells)]
    made = packs(planned, largest)
    assert sorted(each.cell_id for pack in made for each in pack) == sorted(
        each.cell_id for each in planned
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


def test_a_gpu_packs_large_cells_too_and_latent_sizes_up_to_the_same_power_of_two() -> None:
    cells = [
        small(device="cuda", latent_dim=size, hidden=(2000,), batch_size=1000)
        for size in (1, 2, 3, 4, 5, 8, 9, 100, 128, 129)
    ]
    assert sizes(cells) == [[1], [2], [3, 4], [5, 8], [9], [100, 128], [129]]
    assert sizes([small(device="cuda", seed=seed) for seed in range(70)]) == [[8] * 6, [8] * 64]
    assert sizes([small(device="cuda", seed=seed) for seed in range(3)], 1) == [[8]] * 3


def test_sizes_that_may_not_be_padded_stay_apart_on_a_gpu() -> None:
    for axes in ({"posterior": "full"}, {"prior_scale": 2.0}, {"objective": "iwae"}):
        cells = [small(device="cuda", latent_dim=size, **axes) for size in (3, 4)]
        assert sizes(cells) == [[3], [4]], axes
