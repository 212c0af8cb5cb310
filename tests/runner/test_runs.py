"""Runs in this process: what is trained, what is not, and what must be bitwise equal."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_grids import BASE, grid
from stored_numbers import numbers

import vaebench
from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.run import RunSummary
from vaebench.runner.run import run as run_grid
from vaebench.runner.worker import _homeless

HERE = Path(__file__).parent


def run(made: Grid, root: Path, **options: object) -> tuple[RunSummary, list[str]]:
    lines: list[str] = []
    settings: dict[str, object] = {"jobs": 1, "largest_pack": 1, "echo": lines.append}
    summary = run_grid(made, Store(root), **(settings | options))  # type: ignore[arg-type]  # of any type
    return summary, lines


FULL: dict[str, list[object]] = {"likelihood": ["gaussian", "categorical"], "seed": [0, 1]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The numbers of the four cells, each run by itself."""
    found: dict[str, object] = {}
    for likelihood in FULL["likelihood"]:
        for seed in FULL["seed"]:
            root = tmp_path_factory.mktemp("alone")
            run(grid(likelihood=[likelihood], seed=[seed]), root)
            found |= numbers(root)
    assert len(found) == 4
    return found


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cell_has_the_same_bits_in_any_company(
    alone: dict[str, object], tmp_path: Path, jobs: int
) -> None:
    run(grid(**FULL), tmp_path, jobs=jobs)
    assert numbers(tmp_path) == alone


def test_seeds_do_differ(alone: dict[str, object]) -> None:
    assert len({repr(each) for each in alone.values()}) == 4


def test_a_second_run_trains_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    first, lines = run(grid(seed=[0, 1]), tmp_path)
    assert set(first.trained.values()) == {"done"}
    assert len(lines) == 2
    before = {path: path.read_bytes() for path in tmp_path.glob("cells/*/*")}
    second, lines = run(grid(seed=[0, 1]), tmp_path)
    assert (second.trained, lines) == ({}, [])
    assert second.finished == first.trained
    assert {path: path.read_bytes() for path in tmp_path.glob("cells/*/*")} == before


def test_a_larger_grid_trains_only_what_is_missing(tmp_path: Path) -> None:
    first, _ = run(grid(seed=[0]), tmp_path)
    second, lines = run(grid(seed=[0, 1]), tmp_path)
    assert second.finished == first.trained
    assert [line.partition("]")[0] for line in lines] == ["[1/1"]
    assert [name for name in second.trained if "seed1" in name] == [*second.trained]


# --- networks that harm their process ------------------------------------------------------------


@pytest.fixture
def _hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


@pytest.mark.usefixtures("_hostile")
@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("raises", "RuntimeError: this network has had enough"),
        ("raises_at_once", "KeyError: 'no such layer'"),
        ("exits", "SystemExit: 3"),
        ("exits_hard", "the worker left twice with exit code 7"),
        ("killed_always", r"ended by SIGKILL twice \(killed, likely out of memory\)"),
        ("MARK", "MARK is not callable .type str."),
    ],
)
def test_a_network_that_fails_takes_only_its_own_cell_with_it(
    tmp_path: Path, factory: str, reason: str
) -> None:
    names = [f"hostile_networks:{name}" for name in (factory, "sound")]
    summary, _ = run(grid(architecture=[*names]), tmp_path)
    assert summary.states() == {"done": 1, "failed": 1}
    records, _ = Store(tmp_path).read_all()
    (failed,) = [record for record in records if record.status.state == "failed"]
    assert failed.cell.architecture == names[0]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(failed.status.reason)
    again, _ = run(grid(architecture=[*names]), tmp_path)
    assert again.trained == {}
    retried, _ = run(grid(architecture=[*names]), tmp_path, retry_failed=True)
    assert list(retried.trained.values()) == ["failed"]


@pytest.mark.usefixtures("_hostile")
def test_a_failed_cell_names_own_data_as_a_finished_one_does(tmp_path: Path) -> None:
    """By the file's name: where a user's data lie is nobody else's business."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", train=images, test=images)
    made = grid(
        dataset=[str(tmp_path / "mine.npz")],
        train_size=[60],
        architecture=["hostile_networks:raises", "hostile_networks:sound"],
        epochs=[3],
    )
    summary, _ = run(made, tmp_path / "store")
    assert summary.states() == {"done": 1, "failed": 1}
    found, _ = Store(tmp_path / "store").read_all()
    assert {record.cell.dataset for record in found} == {"./mine.npz"}
    assert str(tmp_path) not in "".join(record.model_dump_json() for record in found)


class _AtHome:
    """Serves with another home folder."""

    def __init__(self, home: str) -> None:
        self.home = home

    def __call__(self, *arguments: object) -> None:
        import os

        from vaebench.runner.worker import serve

        os.environ["HOME"] = self.home
        serve(*arguments)  # type: ignore[arg-type]  # passed on


@pytest.mark.usefixtures("_hostile")
def test_a_worker_killed_in_mid_epoch_is_tried_once_more_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fork server hands its own environment on, so the mark's place is set where workers read.
    made = grid(architecture=["hostile_networks:killed_once"])
    mark = tmp_path / "mark"
    monkeypatch.setattr("vaebench.runner.engines.local._serve", _Serving(str(mark)))
    summary, _ = run(made, tmp_path / "killed")
    assert mark.exists()
    assert summary.states() == {"done": 1}
    run(made, tmp_path / "unbroken")
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "unbroken")
    told = [Store(tmp_path / name).read_all()[0][0].warnings for name in ("killed", "unbroken")]
    (retried,), unbroken = ([note for note in notes if note.code == "retried"] for notes in told)
    assert "SIGKILL" in retried.text
    assert "out of memory" in retried.text
    assert unbroken == []


@pytest.mark.usefixtures("_hostile")
def test_a_killed_training_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = grid(architecture=["hostile_networks:killed_once_later"])
    monkeypatch.setattr(
        "vaebench.runner.engines.local._serve", _Serving(str(tmp_path / "mark"), every=0.0)
    )
    run(made, tmp_path / "killed")
    run(made, tmp_path / "unbroken")
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "unbroken")
    killed, unbroken = (
        [
            note
            for note in Store(tmp_path / name).read_all()[0][0].warnings
            if note.code == "resumed"
        ]
        for name in ("killed", "unbroken")
    )
    assert [note.text for note in killed] == ["stopped after epoch 1 and resumed"]
    assert unbroken == []
    assert list((tmp_path / "killed" / ".checkpoints").iterdir()) == []


def test_a_network_that_was_edited_is_another_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds of one network must not be averaged with those of another of its name."""
    monkeypatch.chdir(tmp_path)
    source = (HERE / "hostile_networks.py").read_text()
    Path("changing_network.py").write_text(source)
    made = grid(architecture=["changing_network:sound"])
    first, _ = run(made, tmp_path / "store")
    again, _ = run(made, tmp_path / "store")
    assert again.trained == {}
    Path("changing_network.py").write_text(source + "\n# another one\n")
    edited, _ = run(made, tmp_path / "store")
    assert list(edited.trained.values()) == ["done"]
    assert edited.trained.keys() != first.trained.keys()


@pytest.mark.usefixtures("_hostile")
def test_a_cell_that_hangs_is_ended_when_its_time_is_up(tmp_path: Path) -> None:
    made = grid(architecture=["hostile_networks:hangs", "hostile_networks:sound"])
    summary, lines = run(made, tmp_path, time_limit=10)
    assert summary.states() == {"done": 1, "timeout": 1}
    records, _ = Store(tmp_path).read_all()
    (late,) = [record for record in records if record.status.state == "timeout"]
    assert late.cell.architecture == "hostile_networks:hangs"
    # It fell silent in the second of its two epochs.
    assert late.status.reason == "it took longer than 10 s"
    assert late.status.detail["share_of_epochs"] == 0.5
    assert any("timeout (it took longer than 10 s)" in line for line in lines)
    again, _ = run(made, tmp_path, time_limit=10)
    assert again.trained == {}
    retried, _ = run(made, tmp_path, time_limit=1, retry_failed=True)
    assert list(retried.trained.values()) == ["timeout"]


def test_cells_of_a_pack_that_takes_too_long_are_tried_alone(tmp_path: Path) -> None:
    made = Grid.from_dict(
        {
            "name": "slow",
            "base": BASE | {"epochs": 100_000},
            "axes": {"seed": [0, 1]},
        }
    )
    summary, lines = run(made, tmp_path, time_limit=1, largest_pack=2)
    assert summary.states() == {"timeout": 2}
    # A pack has the time of its cells together; of a single one the time is its own.
    assert ["longer than 1 s" in line for line in lines] == [True, True]
    assert ["seed0" in line for line in lines] == [True, False]


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_time_limit_is_positive(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ValueError, match="above 0 seconds"):
        run(grid(seed=[0]), tmp_path / "store", time_limit=limit)
    assert not (tmp_path / "store").exists()


class _Serving:
    """The worker's main function, told where the mark is."""

    def __init__(self, mark: str, every: float = 60.0) -> None:
        self.mark, self.every = mark, every

    def __call__(self, *arguments: object) -> None:
        import os
        from functools import partial

        from vaebench.runner import execute
        from vaebench.runner.worker import serve
        from vaebench.training.checkpoint import Checkpoint

        execute.Checkpoint = partial(Checkpoint, every=self.every)  # type: ignore[misc, assignment]  # sooner
        os.environ["HOSTILE_NETWORKS_MARK"] = self.mark
        serve(*arguments)  # type: ignore[arg-type]  # passed on


@pytest.mark.usefixtures("_hostile")
def test_what_a_network_changes_is_set_right_for_the_next_cell(tmp_path: Path) -> None:
    clean, after = grid(seed=[0]), tmp_path / "after"
    run(clean, tmp_path / "clean")
    run(grid(architecture=["hostile_networks:meddles", "mlp"]), after)
    expected = numbers(tmp_path / "clean")
    assert {name: numbers(after)[name] for name in expected} == expected


@pytest.mark.usefixtures("_hostile")
def test_the_noise_of_a_users_own_network_is_that_of_the_cells_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for name, seeds in (("forward", [0, 1]), ("backward", [1, 0])):
        notes = tmp_path / f"{name}.txt"
        monkeypatch.setattr("vaebench.runner.engines.local._serve", _Serving(str(notes)))
        for seed in seeds:
            run(grid(architecture=["hostile_networks:draws"], seed=[seed]), tmp_path / name)
        drawn.append(notes.read_text().splitlines())
    assert drawn[0] == drawn[1][::-1]
    apart = [set(column) for column in zip(*map(str.split, drawn[0]), strict=True)]
    assert [len(each) for each in apart] == [2, 2, 2], "torch's, numpy's and Python's"


@pytest.mark.usefixtures("_hostile")
def test_a_failure_does_not_name_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(HERE.parent))
    # Workers of a fork server keep the environment that it began with.
    monkeypatch.setattr("vaebench.runner.engines.local._serve", _AtHome(str(HERE.parent)))
    run(grid(architecture=["hostile_networks:raises"]), tmp_path)
    status = Store(tmp_path).read_all()[0][0].status
    told = str(status.detail["traceback"])
    assert "hostile_networks.py" in told
    assert str(HERE.parent) not in told


def test_the_home_folder_is_cut_out_at_the_end_of_a_word_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    told = _homeless("/home/ann is there, '/home/ann', /home/ann/x, but not /home/anna/x")
    assert told == "~ is there, '~', ~/x, but not /home/anna/x"


# --- the interface for Python --------------------------------------------------------------------


def test_the_python_call_does_what_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = {name: [value] for name, value in BASE.items()} | {"likelihood": ["gaussian"]}
    summary = vaebench.run("tiny", overrides=overrides, jobs=1)
    assert summary.states() == {"done": len(summary.trained)}
    frame = vaebench.load_results("results/tiny")
    assert sorted(frame["cell_id"]) == sorted(summary.trained)
    assert "done, ELBO" in capsys.readouterr().out
    with pytest.raises(ValueError, match="overrides and data cannot be given"):
        vaebench.run(grid(seed=[0]), overrides={"seed": [1]})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"overrides": {"likelihood": "gaussian"}},
            r"likelihood must be a list of .* \['gaussian'\]",
        ),
        ({"overrides": {"seed": 3}}, r"seed must be a list of values, such as \[3\]"),
        (
            {"overrides": ["seed"]},
            r"overrides must map each axis to a list of values; got \['seed'\]",
        ),
        ({"jobs": 0}, "jobs must be a whole number, 1 or more; got 0"),
        ({"jobs": "2"}, "jobs must be a whole number, 1 or more; got '2'"),
        ({"largest_pack": -1}, "largest_pack must be a whole number, 1 or more; got -1"),
        ({"output": ""}, "the name of a folder must not be empty"),
        ({"time_limit": None}, "time_limit must be above 0 seconds; got None"),
    ],
)
def test_a_wrong_python_call_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        vaebench.run("tiny", **words)
    assert not list(tmp_path.iterdir())


def test_a_grid_may_be_a_mapping_and_run_in_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook's or a server's: there no signal can be waited for."""
    monkeypatch.chdir(tmp_path)
    raw = {"name": "mine", "base": BASE, "axes": {"seed": range(2)}}
    with ThreadPoolExecutor(1) as other:
        summary = other.submit(vaebench.run, raw, overrides={"latent_dim": np.array([2])}).result()
    assert summary.states() == {"done": 2}
    assert set(vaebench.load_results("results/mine")["latent_dim"]) == {2}
