"""Grid: products, unions, exclusions and collapse against a brute-force oracle; errors at once."""

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.errors import GridError
from vaebench.grid.axes import LIKELIHOODS, POSTERIORS, SIGMA_KINDS
from vaebench.grid.cell import Cell, cell_id
from vaebench.grid.spec import Grid, packaged_grids, parse_override


def problems(raw: dict[str, object], overrides: dict[str, list[object]] | None = None) -> dict:
    """The problems of a grid that must have some: path to message."""
    with pytest.raises(GridError) as caught:
        Grid.from_dict(raw, overrides)
    return {each.path: each.message for each in caught.value.problems}


# ---- what the cells are


def test_a_product_in_the_order_of_the_file() -> None:
    grid = Grid.from_dict({"axes": {"latent_dim": [2, 8], "seed": [0, 1]}})
    assert [(cell.latent_dim, cell.seed) for cell in grid.cells] == [(2, 0), (2, 1), (8, 0), (8, 1)]
    assert grid.notes == ()


def test_the_base_holds_for_every_cell_and_an_axis_takes_its_place() -> None:
    raw = {
        "base": {"dataset": "mnist", "epochs": 3, "latent_dim": 5},
        "axes": {"latent_dim": [1, 2]},
    }
    grid = Grid.from_dict(raw)
    assert grid.cells == tuple(Cell(dataset="mnist", epochs=3, latent_dim=z) for z in (1, 2))
    assert grid.notes == ("axes.latent_dim replaces base.latent_dim",)


def test_sigma_collapses_for_a_likelihood_without_a_scale() -> None:
    raw = {"axes": {"likelihood": ["bernoulli", "gaussian"], "sigma": [0.1, 1.0, "learned"]}}
    grid = Grid.from_dict(raw)
    assert [(cell.likelihood, cell.sigma) for cell in grid.cells] == [
        ("bernoulli", None),
        ("gaussian", 0.1),
        ("gaussian", 1.0),
        ("gaussian", "learned"),
    ]
    assert grid.notes == (
        "sigma collapses for likelihood bernoulli (a likelihood without a scale has no sigma): "
        "6 combinations become 4",
    )


@pytest.mark.parametrize(
    ("axis", "values", "on", "choices", "count"),
    [
        ("pixel_clip", [0.01, 0.1], "likelihood", ["gaussian", "bernoulli"], 3),
        ("hidden", [[8], [16], [32]], "architecture", ["mlp", "linear"], 4),
        ("activation", ["relu", "tanh"], "architecture", ["linear", "conv"], 3),
        ("initialization", ["default", "sparse"], "architecture", ["mlp", "conv"], 3),
        ("adam_beta1", [0.0, 0.5], "optimizer", ["adam", "sgd", "adamw"], 5),
        ("sparsity", [0.0, 0.1, 0.2], "posterior", ["diagonal", "full", "delta"], 5),
        ("beta", [0.5, 1.0], "posterior", ["diagonal", "delta"], 3),
        ("importance_samples", [1, 5], "posterior", ["full", "delta"], 3),
    ],
)
def test_an_axis_collapses_where_it_means_nothing(
    axis: str, values: list[object], on: str, choices: list[object], count: int
) -> None:
    grid = Grid.from_dict({"axes": {axis: values, on: choices}})
    assert len(grid.cells) == len(set(grid.cells)) == count
    assert f"become {count}" in grid.notes[0]


def test_a_single_sigma_in_a_mixed_grid_is_noted_without_counts() -> None:
    raw = {"base": {"sigma": 0.1}, "axes": {"likelihood": ["bernoulli", "laplace"]}}
    grid = Grid.from_dict(raw)
    assert [cell.sigma for cell in grid.cells] == [None, 0.1]
    assert grid.notes == (
        "sigma collapses for likelihood bernoulli (a likelihood without a scale has no sigma)",
    )


def test_blocks_are_joined_and_each_cell_stands_once() -> None:
    raw = {"axes": [{"latent_dim": [2, 8], "seed": [0, 1]}, {"latent_dim": [8, 32], "seed": [1]}]}
    grid = Grid.from_dict(raw)
    assert len(grid.cells) == len(set(grid.cells)) == 5
    assert grid.notes == ("cells that are in more than one block are run once: 1",)


def test_a_default_and_the_same_value_written_out_are_one_cell() -> None:
    raw = {
        "axes": [{"likelihood": ["gaussian"]}, {"likelihood": ["gaussian"], "sigma": ["learned"]}]
    }
    assert Grid.from_dict(raw).cells == (Cell(likelihood="gaussian"),)


def test_exclude_leaves_out_what_matches_every_key() -> None:
    axes = {
        "latent_dim": [2, 32],
        "likelihood": ["bernoulli", "gaussian"],
        "sigma": [0.1, 1.0],
    }
    grid = Grid.from_dict({"axes": axes, "exclude": [{"latent_dim": 32, "sigma": 1.0}]})
    kept = {(cell.latent_dim, cell.likelihood, cell.sigma) for cell in grid.cells}
    assert kept == {
        (2, "bernoulli", None),
        (2, "gaussian", 0.1),
        (2, "gaussian", 1.0),
        (32, "bernoulli", None),  # has no sigma to match
        (32, "gaussian", 0.1),
    }
    assert "exclude[0]: cells left out: 1" in grid.notes


def test_exclude_also_matches_the_base_and_the_defaults() -> None:
    raw = {"base": {"epochs": 3}, "axes": {"seed": [0, 1]}}
    kept = Grid.from_dict({**raw, "exclude": [{"epochs": 3, "beta": 1.0, "seed": 0}]})
    assert [cell.seed for cell in kept.cells] == [1]
    assert Grid.from_dict({**raw, "exclude": [{"epochs": 4}]}).notes[-1].endswith("left out: 0")


def test_exclude_makes_an_impossible_combination_possible() -> None:
    axes = {"objective": ["elbo", "iwae"], "posterior": ["diagonal", "delta"]}
    assert "axes.objective[1]" in problems({"axes": axes})
    exclude = [{"objective": "iwae", "posterior": "delta"}]
    assert Grid.from_dict({"axes": axes, "exclude": exclude}).notes[-1].endswith("left out: 1")


def test_duplicates_are_run_once_with_a_note() -> None:
    grid = Grid.from_dict({"axes": {"seed": [0, 1, 0]}})
    assert [cell.seed for cell in grid.cells] == [0, 1]
    assert grid.notes == ("axes.seed[2]: duplicate value 0; run once",)


def test_the_id_of_a_cell_does_not_depend_on_the_order_of_axes_and_values() -> None:
    first = {"latent_dim": [2, 8], "likelihood": ["gaussian"], "sigma": [1, 0.1]}
    second = {"sigma": [0.1, 1.0], "likelihood": ["gaussian"], "latent_dim": [8, 2]}
    ids = [
        {cell_id(c, "x") for c in Grid.from_dict({"axes": axes}).cells} for axes in (first, second)
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4


def test_a_grid_of_given_cells_holds_each_once() -> None:
    cells = (Cell(seed=1), Cell(seed=0, likelihood="gaussian"), Cell(seed=1))
    grid = Grid.of("mine", cells)
    assert grid.cells == cells[:2]


AXIS_VALUES: dict[str, list[object]] = {
    "likelihood": ["gaussian", "bernoulli", "categorical"],
    "sigma": [0.1, "learned", "optimal"],
    "posterior": ["delta", "diagonal"],
    "beta": [0.5, 1.0, 2.0],
    "architecture": ["mlp", "linear"],
    "activation": ["relu", "tanh"],
    "seed": [0, 1, 2],
}
block = st.fixed_dictionaries(
    {},
    optional={
        axis: st.lists(st.sampled_from(values), min_size=1, unique=True)
        for axis, values in AXIS_VALUES.items()
    },
)
exclusion = st.dictionaries(st.sampled_from(sorted(AXIS_VALUES)), st.integers(0, 2), max_size=3)


def brute_force(blocks: list[dict[str, list[object]]], excludes: list[dict[str, object]]) -> set:
    """Every cell by plain loops over every combination, the collapse written out by hand."""
    cells = set()
    for axes in blocks:
        for combination in itertools.product(*axes.values()):
            fields = dict(zip(axes, combination, strict=True))
            if fields.get("likelihood", "bernoulli") != "gaussian":
                fields.pop("sigma", None)
            if fields.get("posterior") == "delta":
                fields.pop("beta", None)
            if fields.get("architecture") == "linear":
                fields.pop("activation", None)
            cells.add(Cell(**fields))
    return {
        cell
        for cell in cells
        if not any(all(getattr(cell, k) == v for k, v in each.items()) for each in excludes)
    }


@settings(deadline=None)
@given(st.lists(block, max_size=3), st.lists(exclusion, max_size=3))
def test_a_grid_is_what_plain_loops_give(
    blocks: list[dict[str, list[object]]], picks: list[dict[str, int]]
) -> None:
    # The first block gives every axis a use somewhere, so that none is refused as idle.
    useful = {"likelihood": ["gaussian"], "posterior": ["delta", "diagonal"], "seed": [0]}
    blocks = [useful, *blocks]
    excludes = [
        {axis: AXIS_VALUES[axis][i % len(AXIS_VALUES[axis])] for axis, i in pick.items()}
        for pick in picks
        if pick
    ]
    expected = brute_force(blocks, excludes)
    raw = {"axes": blocks, "exclude": excludes}
    if not expected:
        assert "match every cell" in problems(raw)["exclude"]
        return
    grid = Grid.from_dict(raw)
    assert len(grid.cells) == len(expected)
    assert set(grid.cells) == expected


def test_a_grid_of_too_many_combinations_is_refused_at_once() -> None:
    axes = {"latent_dim": list(range(1, 501)), "seed": list(range(400))}
    began = time.process_time()
    assert "got 200,400" in problems({"axes": [axes, {"epochs": list(range(1, 401))}]})["axes"]
    more = {**axes, "epochs": list(range(1, 1_001)), "beta": list(range(1_000))}
    assert "make several grids" in problems({"axes": more})["axes"]
    assert time.process_time() - began < 2


# ---- what is refused


def test_all_problems_are_told_at_once() -> None:
    raw = {
        "name": "no slash/here",
        "description": 3,
        "seads": [1],
        "base": {"epochs": "8", "latent_dmi": 3, "seed": [0, 1], "objective": "iwae"},
        "axes": {
            "likelihood": ["gaussian", "gausian"],
            "latent_dim": [2, 8, 0],
            "sigma": [0.0, "1e-3"],
            "batch_size": [],
            "train_size": 100,
            "posterior": ["delta", "diagonal"],
        },
        "exclude": [{"latnt_dim": 2}, {}],
    }
    found = problems(raw, {"devise": ["cpu"], "device": ["gpu"]})
    assert set(found) == {
        "name",
        "description",
        "seads",
        "base.epochs",
        "base.latent_dmi",
        "base.seed",
        "base.objective",
        "axes.likelihood[1]",
        "axes.latent_dim[2]",
        "axes.sigma[0]",
        "axes.sigma[1]",
        "axes.batch_size",
        "axes.train_size",
        "exclude[0].latnt_dim",
        "exclude[1]",
        "--set devise",
        "--set device[0]",
    }
    assert "did you mean 'latent_dim'" in found["base.latent_dmi"]
    assert "did you mean 'gaussian'" in found["axes.likelihood[1]"]
    assert "did you mean 'device'" in found["--set devise"]
    assert "objective = 'iwae', posterior = 'delta'" in found["base.objective"]


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        ({}, "axes", "has no cells"),
        ({"axes": []}, "axes", "has no cells"),
        ({"axes": 3}, "axes", "must be a table"),
        ({"axes": [3]}, "axes", "must be a table"),
        ({"base": []}, "base", "must be a table"),
        ({"axs": {"seed": [0]}}, "axs", "did you mean 'axes'"),
        ({"latent_dim": 3}, "latent_dim", r"belongs in \[base\] or \[axes\]"),
        ({"axes": {"seed": [0]}, "exclude": [{"seed": 0}]}, "exclude", "every cell"),
        ({"axes": {"seed": [0]}, "exclude": 1}, "exclude", "must be a table"),
        ({"axes": {"seed": [0]}, "exclude": [{"seed": "0"}]}, "exclude[0].seed", "quotes"),
        ({"axes": {"hidden": [8]}}, "axes.hidden[0]", "each value as a list"),
        ({"axes": {"sigma": [0.1]}}, "axes.sigma", "every likelihood here is bernoulli"),
        ({"base": {"sigma": 0.1}}, "base.sigma", "leave sigma out"),
        (
            {"base": {"beta": 2.0}, "axes": {"objective": ["elbo", "elbo", "iwae"]}},
            "axes.objective[2]",
            "no KL term to weigh",
        ),
        ({"base": {"sparsity": 0.1}}, "base.sparsity", "delta"),
        ({"axes": [{"seed": [0]}, {"sigma": [1.0]}]}, "axes[1].sigma", "leave sigma out"),
        (
            {
                "base": {"dataset": "linear-gaussian"},
                "axes": {"likelihood": ["laplace", "bernoulli"]},
            },
            "axes.likelihood[1]",
            "density on the real line",
        ),
        ({"base": {"dataset": "linear-gaussian"}}, "base.dataset", "density on the real line"),
        (
            {"axes": [{"seed": [0]}, {"dequantize": [False, True]}]},
            "axes[1].dequantize[1]",
            "probability mass",
        ),
    ],
)
def test_a_problem_is_told_with_its_place(raw: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(GridError, match=message) as caught:
        Grid.from_dict(raw)
    assert [each.path for each in caught.value.problems] == [path]


def test_a_neutral_value_of_an_idle_axis_is_no_error() -> None:
    assert Grid.from_dict({"base": {"sparsity": 0.0, "seed": 4}}).cells == (Cell(seed=4),)


def test_a_file_that_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "x"\n[axes\n')
    with pytest.raises(GridError, match=r"mine\.toml: is not valid TOML: .*line 2"):
        Grid.load(file)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + b"[" * 20_000], ids=["text", "depth"])
def test_a_file_of_rubbish_is_an_error_like_any_other(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(GridError, match=r"mine\.toml"):
        Grid.load(file)


def test_a_missing_file_a_folder_and_an_unknown_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="cannot be read: No such file"):
        Grid.load(tmp_path / "none.toml")
    with pytest.raises(GridError, match="cannot be read: Is a directory"):
        Grid.load(tmp_path)
    with pytest.raises(GridError, match="did you mean 'quick'"):
        Grid.load("quik")
    with pytest.raises(GridError, match="packaged grids: collapse, device"):
        Grid.load("zzz")


def test_a_file_without_a_name_is_called_after_itself(tmp_path: Path) -> None:
    file = tmp_path / "my grid.toml"
    file.write_text("[axes]\nseed = [0]\n")
    assert Grid.load(file).name == "my_grid"


# ---- overrides


@pytest.mark.parametrize(
    ("text", "axis", "values"),
    [
        ("latent_dim=2,8", "latent_dim", [2, 8]),
        ("sigma=0.1, learned,1e-3", "sigma", [0.1, "learned", 1e-3]),
        ("hidden=[128],[64,32]", "hidden", [[128], [64, 32]]),
        ("dequantize=true", "dequantize", [True]),
        ("dataset=./a b.npz", "dataset", ["./a b.npz"]),
        ("sigma='1e-3'", "sigma", ["1e-3"]),
        ("dataset=2020-01-01", "dataset", ["2020-01-01"]),
        ("device=cuda:1", "device", ["cuda:1"]),
        ("sigma=.5,2.,+1.5", "sigma", [0.5, 2.0, 1.5]),
        ("seed=01,-3", "seed", [1, -3]),
        ("seed=0..4", "seed", ["0..4"]),
        ("seed=" + "9" * 5000, "seed", ["9" * 5000]),
    ],
)
def test_an_override_is_read(text: str, axis: str, values: list[object]) -> None:
    assert parse_override(text) == (axis, values)


@pytest.mark.parametrize("text", ["latent_dim", "latent_dim=", "=3", "latent_dim=2,,8", ""])
def test_an_override_without_axis_or_value_is_refused(text: str) -> None:
    with pytest.raises(GridError, match="must be axis=value"):
        parse_override(text)


def test_an_override_takes_the_place_of_the_axis_in_every_block_and_the_base() -> None:
    raw = {"base": {"epochs": 5}, "axes": [{"seed": [0, 1]}, {"latent_dim": [2], "seed": [0]}]}
    grid = Grid.from_dict(raw, {"seed": [7], "epochs": [1, 2]})
    assert {(cell.seed, cell.epochs, cell.latent_dim) for cell in grid.cells} == {
        (7, 1, 8),
        (7, 2, 8),
        (7, 1, 2),
        (7, 2, 2),
    }


def test_an_override_that_leaves_a_sigma_idle_collapses_it() -> None:
    raw = {"axes": {"likelihood": ["gaussian"], "sigma": [0.1, 1.0]}}
    assert Grid.from_dict(raw, {"likelihood": ["bernoulli"]}).cells == (Cell(),)
    found = problems(raw, {"likelihood": ["bernoulli"], "sigma": [2.0]})
    assert "leave sigma out" in found["--set sigma"]


# ---- what Python hands over


def test_ranges_and_numbers_of_numpy_are_values() -> None:
    raw = {
        "axes": {"seed": np.arange(2), "sigma": [np.float64(0.5)], "likelihood": ["gaussian"]},
        "base": {"dequantize": np.bool_(False)},
    }
    grid = Grid.from_dict(raw, {"latent_dim": [np.int64(4)], "epochs": range(9, 10)})
    assert [(cell.seed, cell.sigma, cell.latent_dim) for cell in grid.cells] == [
        (0, 0.5, 4),
        (1, 0.5, 4),
    ]
    assert type(grid.cells[0].latent_dim) is int
    assert Cell(hidden=[np.int64(8), 4]).hidden == Cell(hidden=np.array([8, 4])).hidden == (8, 4)  # type: ignore[arg-type]  # the same
    assert Cell(seed=np.int64(3)).seed == 3  # type: ignore[arg-type]  # as a script might have it
    assert "must be a list of values" in problems({"axes": {"seed": b"ab"}})["axes.seed"]
    assert "the name of an axis must be text" in problems({"axes": {3: [1]}})["axes.3"]
    assert "must be a list of values" in problems({"axes": {"seed": 3}})["axes.seed"]


@pytest.mark.parametrize("made", [lambda: Grid("../x"), lambda: Grid.of("a/b", [Cell()])])
def test_a_name_that_leads_out_of_the_results_is_refused(made: Callable[[], Grid]) -> None:
    with pytest.raises(GridError, match="it names a folder"):
        made()


@pytest.mark.parametrize("name", ["CON", "nul", "Com1.2", "LPT9", "aux.toml.x"])
def test_a_name_that_other_systems_reserve_is_refused(name: str) -> None:
    with pytest.raises(GridError, match="reserved"):
        Grid(name)
    assert "reserved" in problems({"name": name, "axes": {"seed": [0]}})["name"]


@pytest.mark.parametrize("name", ["console", "com", "COM10", "lpt"])
def test_a_name_that_only_looks_reserved_is_accepted(name: str) -> None:
    assert Grid(name).name == name


def test_only_a_small_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "large.toml").write_text("#" * 1_000_001)
    (tmp_path / "deep.toml").write_text("a." * 20_000 + "a = 1")
    for name, rule in [
        ("pipe.toml", "a regular file"),
        ("large.toml", "at most 1,000,000"),
        ("deep.toml", "at most 100 parts"),
    ]:
        began = time.process_time()
        with pytest.raises(GridError, match=rule):
            Grid.load(tmp_path / name)
        assert time.process_time() - began < 1
    with pytest.raises(GridError, match="a regular file"):
        Grid.load("/dev/zero")


def test_no_control_character_of_a_key_is_shown() -> None:
    bad = "\x1b]0;x\x07"
    found = problems({bad: 1, "axes": {bad: [0]}, "exclude": [{bad: 1}]}, {bad: [1]})
    assert len(found) == 4
    assert not any("\x1b" in path + message for path, message in found.items())


@pytest.mark.parametrize(
    "made",
    [lambda: Grid.from_dict(None), lambda: Grid.of("x", [{"seed": 1}])],  # type: ignore[arg-type, list-item]  # the mistake
)
def test_what_is_no_grid_or_cell_is_told(made: Callable[[], Grid]) -> None:
    with pytest.raises(TypeError, match="; got "):
        made()


def test_a_file_may_begin_with_a_mark_of_its_byte_order(tmp_path: Path) -> None:
    file = tmp_path / "marked.toml"
    file.write_text("[axes]\nseed = [3]\n", encoding="utf-8-sig")
    assert Grid.load(file).cells == (Cell(seed=3),)
    with pytest.raises(GridError, match="got empty text"):
        Grid.load("")


# ---- the packaged grids


@pytest.mark.parametrize("name", packaged_grids())
def test_a_packaged_grid_loads_under_its_name_and_says_what_it_is(name: str) -> None:
    grid = Grid.load(name)
    assert grid.name == name
    assert grid.description
    assert "\n" not in grid.description
    assert len(set(grid.cells)) == len(grid.cells) > 0


def test_the_packaged_grids_are_those_of_the_contract() -> None:
    expected = ["collapse", "device", "full", "latent-dim", "likelihood", "quick", "sigma", "tiny"]
    expected.insert(5, "linear")  # beside those: the exact answers are known
    expected += ["tutorial-latent", "tutorial-learning-rate", "tutorial-network"]
    assert list(packaged_grids()) == expected


def test_quick_shows_every_likelihood_and_sigma_on_data_that_need_no_download() -> None:
    cells = Grid.load("quick").cells
    assert 60 <= len(cells) <= 100
    assert {cell.dataset for cell in cells} == {"digits"}
    # No embedded data set holds counts.
    of_images = {name for name, family in LIKELIHOODS.items() if family.support != "counts"}
    assert {cell.likelihood for cell in cells} == of_images
    assert {cell.posterior for cell in cells} == set(POSTERIORS)
    assert set(SIGMA_KINDS) <= {cell.sigma for cell in cells}
    assert {1, 64} <= {cell.latent_dim for cell in cells}
    designs = {}
    for cell in cells:
        designs.setdefault(cell.model_copy(update={"seed": 0}), set()).add(cell.seed)
    assert all(seeds == {0, 1, 2} for seeds in designs.values())


def test_latent_dim_reaches_ten_thousand() -> None:
    cells = Grid.load("latent-dim").cells
    assert {cell.latent_dim for cell in cells} == {1, 2, 3, 4, 8, 16, 32, 100, 1000, 10000}
    assert {(cell.dataset, cell.binarization, cell.likelihood) for cell in cells} == {
        ("mnist", "dynamic", "bernoulli")
    }


def test_nothing_is_noted_where_nothing_collapses() -> None:
    for axes in (
        {"likelihood": ["gaussian"], "sigma": [0.1, 1.0]},
        {"likelihood": ["bernoulli", "gaussian"], "seed": [0, 1]},
    ):
        assert Grid.from_dict({"axes": axes}).notes == ()


def test_a_conv_without_channels_is_the_same_in_a_grid_and_alone() -> None:
    made = Grid.from_dict({"name": "two", "axes": {"architecture": ["conv", "mlp", "linear"]}})
    assert made.cells == tuple(Cell(architecture=name) for name in ("conv", "mlp", "linear"))
    assert made.cells[0].hidden == (32, 64)
    with pytest.raises(GridError, match="needs a hidden layer"):
        Grid.from_dict({"name": "none", "base": {"architecture": "conv", "hidden": []}})
