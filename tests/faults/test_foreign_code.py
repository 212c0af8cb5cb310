"""A user's own network harms its own cell at most."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vaebench.cli.main import cli
from vaebench.errors import UsageError
from vaebench.grid.spec import Grid
from vaebench.records.schema import CellRecord
from vaebench.records.store import Store
from vaebench.runner.run import RunSummary
from vaebench.runner.run import run as run_grid

HERE = Path(__file__).parent
BASE: dict[str, object] = {
    "train_size": 200,
    "test_size": 50,
    "batch_size": 20,
    "hidden": [8],
    "latent_dim": 2,
    "epochs": 2,
    "tsne_points": 0,
}
OPTIONS = ["--no-report", "--jobs", "2", "--time-limit", "20"]
SOUND = ("mlp", "linear", "conv")
CLOCK_UNITS = {"s", "ms", "1/s", "MiB"}


def grid(*architectures: str) -> Grid:
    names = [name if name in SOUND else f"poisonous_networks:{name}" for name in architectures]
    content = {"name": "foreign", "base": BASE, "axes": {"architecture": names}}
    return Grid.from_dict(content)


def run(made: Grid, root: Path, **options: object) -> RunSummary:
    settings: dict[str, object] = {"jobs": 1, "largest_pack": 1, "echo": lambda _: None}
    return run_grid(made, Store(root), **(settings | options))  # type: ignore[arg-type]  # any type


def by_architecture(root: Path) -> dict[str, CellRecord]:
    records, damages = Store(root).read_all()
    assert damages == []
    return {record.cell.architecture.rpartition(":")[2]: record for record in records}


def numbers(record: CellRecord) -> object:
    """What is bitwise equal whenever the cell is trained, without timings."""
    metrics = {
        name: (metric.value, metric.se)
        for name, metric in record.metrics.items()
        if metric.unit not in CLOCK_UNITS
    }
    return record.status.state, metrics, record.series


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    root = tmp_path_factory.mktemp("clean")
    run(grid(*SOUND), root)
    return {name: numbers(record) for name, record in by_architecture(root).items()}


@pytest.fixture
def child_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a network writes the process id of its child; set in the workers as well."""
    monkeypatch.syspath_prepend(HERE)
    path = tmp_path / "child"
    monkeypatch.setattr("vaebench.runner.engines.local._serve", _Serving(str(path)))
    return path


class _Serving:
    """The worker's main function, with one more variable in its environment."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, *arguments: object) -> None:
        from vaebench.runner.worker import serve

        os.environ["POISONOUS_NETWORKS_CHILD"] = self.path
        serve(*arguments)  # type: ignore[arg-type]  # passed on


def has_ended(process: int) -> bool:
    """Whether a process has ended; one that only waits to be collected has."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def assert_ended(child_file: Path) -> None:
    child = int(child_file.read_text(encoding="ascii"))
    deadline = time.monotonic() + 5
    while not has_ended(child):
        assert time.monotonic() < deadline, "a child of the cell is still there"
        time.sleep(0.05)


@pytest.mark.parametrize("network", ["default_device", "no_gradients", "process_state"])
def test_a_network_that_poisons_its_process_harms_no_later_cell(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: dict[str, object]
) -> None:
    monkeypatch.syspath_prepend(HERE)
    summary = run(grid(network, "mlp"), tmp_path)
    found = by_architecture(tmp_path)
    assert numbers(found["mlp"]) == clean["mlp"]
    assert summary.states().get("done", 0) >= 1
    assert found[network].status.state in ("done", "failed")


def test_children_of_a_cell_that_timed_out_end_with_it(child_file: Path, tmp_path: Path) -> None:
    summary = run(grid("hangs_with_a_child"), tmp_path / "store", time_limit=3.0)
    assert summary.states() == {"timeout": 1}
    assert_ended(child_file)


def test_children_of_a_cell_that_is_done_end_with_it(child_file: Path, tmp_path: Path) -> None:
    summary = run(grid("leaves_a_child"), tmp_path / "store")
    assert summary.states() == {"done": 1}
    assert_ended(child_file)


def test_children_of_a_cell_hear_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    run(grid("ends_its_child"), tmp_path)
    status = by_architecture(tmp_path)["ends_its_child"].status
    assert (status.state, status.reason) == ("done", None)


@pytest.mark.parametrize("network", ["exhausts_memory", "fills_memory"])
def test_a_failed_allocation_is_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.syspath_prepend(HERE)
    run(grid(network), tmp_path)
    status = by_architecture(tmp_path)[network].status
    assert (status.state, status.reason_code) == ("failed", "out_of_memory")


def test_text_of_foreign_code_is_capped_and_escaped_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    run(grid("raises_strange_text"), tmp_path)
    (path,) = tmp_path.glob("cells/*/record.json")
    assert path.stat().st_size < 100_000
    reason = str(by_architecture(tmp_path)["raises_strange_text"].status.reason)
    assert len(reason) <= 10_100
    assert "\x1b" not in reason
    assert "\u202e" not in reason
    assert r"\x1b[2J" in reason


def test_whatever_a_network_raises_is_the_reason_of_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    reasons = {
        "raises_base_exception": "_OutsideException: outside",
        "raises_keyboard_interrupt": "KeyboardInterrupt: nobody pressed it",
        "raises_unprintable": "_Unprintable: its message cannot be printed",
    }
    run(grid(*reasons), tmp_path)
    found = by_architecture(tmp_path)
    assert {name: str(found[name].status.reason) for name in reasons} == reasons
    assert {found[name].status.reason_code for name in reasons} == {"error"}


LEAVING = """
import os, sys
class Silent(Exception):
    def __str__(self): raise ValueError
def leaves(*arguments): sys.exit(0)
def is_silent(*arguments): raise Silent
def ends_the_process(*arguments): os._exit(0)
"""
AT_IMPORT = "import sys\nsys.exit(0)\n"


@pytest.mark.parametrize(
    "function",
    ["leaving:leaves", "leaving:is_silent", "leaving:ends_the_process", "at_import:any"],
)
@pytest.mark.parametrize(
    "words", ["evaluate {} --dataset digits", "audit --loss {} --latent 2 --pixels 4"]
)
def test_a_function_of_the_user_does_not_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, function: str
) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING, encoding="utf-8")
    (tmp_path / "at_import.py").write_text(AT_IMPORT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"SystemExit|Silent"):
        cli.main(words.format(function).split(), standalone_mode=False)


def test_a_grid_of_harmful_networks_ends_with_every_other_cell_done(
    tmp_path: Path, clean: dict[str, object]
) -> None:
    harmful = {
        "default_device": "failed",
        "hangs_with_a_child": "timeout",
        "raises_strange_text": "failed",
        "exhausts_memory": "failed",
        "fills_memory": "failed",
        "is_killed": "failed",
        "floods": "done",
    }
    content = [f"poisonous_networks:{name}" for name in harmful] + [*SOUND]
    file = tmp_path / "grid.toml"
    base = "\n".join(f"{key} = {value}" for key, value in BASE.items())
    text = f'name = "foreign"\n[base]\n{base}\n[axes]\narchitecture = {json.dumps(content)}\n'
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "vaebench",
            "run",
            str(file),
            "-o",
            str(tmp_path / "store"),
            *OPTIONS,
        ],
        env=os.environ | {"PYTHONPATH": str(HERE), "POISONOUS_NETWORKS_CHILD": f"{file}.child"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = by_architecture(tmp_path / "store")
    assert {name: found[name].status.state for name in harmful} == harmful
    assert {name: numbers(found[name]) for name in SOUND} == clean
    output = done.stdout + done.stderr
    assert b"\x1b" not in output
    assert b"\x07" not in output
    assert len(output) < 100_000
    for name, state in harmful.items():
        assert f"{found[name].cell_id}: {state}".encode() in output
    assert_ended(Path(f"{file}.child"))
