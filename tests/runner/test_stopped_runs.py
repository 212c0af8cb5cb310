"""Real processes that are stopped or killed in the middle of a run."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from stored_numbers import numbers

from vaebench.grid.spec import Grid
from vaebench.records.store import Store
from vaebench.runner.run import run
from vaebench.system.processes import Stop, starting_processes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
    ),
]

PATIENCE = 240.0
MARK = "TEST_STOPPED_RUNS"
SHORT = """
name = "short"
[base]
train_size = 200
test_size = 50
batch_size = 20
hidden = [8]
latent_dim = 2
tsne_points = 0
epochs = 15
[axes]
seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
"""
SILENT = SHORT.partition("[axes]")[0] + 'architecture = "hostile_networks:hangs"\n'
# Makes standard input the controlling terminal, so that typing Ctrl-C there is a SIGINT.
ON_A_TERMINAL = """
import fcntl, os, struct, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


class Marked:
    """The processes that have inherited a mark in their environment."""

    def __init__(self) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.started: list[subprocess.Popen[str]] = []
        path = {"PYTHONPATH": str(Path(__file__).parent)}
        self.environment = os.environ | path | dict([self.mark.split("=")])

    def alive(self) -> list[int]:
        return [int(each.name) for each in Path("/proc").glob("[0-9]*") if self._has(each)]

    def _has(self, process: Path) -> bool:
        try:
            return self.mark.encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return False


@pytest.fixture
def marked() -> Iterator[Marked]:
    made = Marked()
    yield made
    for number in made.alive():
        os.kill(number, signal.SIGKILL)
    for process in made.started:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def command(folder: Path, grid: str, jobs: int) -> list[str]:
    (folder / "grid.toml").write_text(grid, encoding="utf-8")
    words = f"-m vaebench run {folder}/grid.toml -o {folder}/store --no-report --pack 1"
    return [*words.split(), "--jobs", str(jobs)]


def start(folder: Path, marked: Marked, grid: str, jobs: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, *command(folder, grid, jobs)],
        env=marked.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    marked.started.append(process)
    return process


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("store/cells/*/record.json"))


def test_sigterm_ends_what_is_in_training_starts_no_others_and_leaves_with_143(
    tmp_path: Path, marked: Marked
) -> None:
    process = start(tmp_path, marked, SHORT, jobs=1)
    until(lambda: records(tmp_path), "a first record")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, out
    assert "Traceback" not in out
    assert out.count("a second signal ends it now") == 1
    states = Store(tmp_path / "store").states()
    # A cell in training is kept; one in evaluation is done with it.
    assert set(states.values()) <= {"done", "interrupted"}
    assert 1 <= len(states) < 12
    assert f"{12 - len(states)} left" in out
    assert "\r" not in out, "no terminal, no bar"
    assert len(re.findall(r"^\[\d+/12\] ", out, re.MULTILINE)) == len(states)
    assert marked.alive() == []


def test_a_training_that_is_stopped_is_kept_and_gone_on_with(
    tmp_path: Path, marked: Marked
) -> None:
    """Long before the minute is up after which one is kept anyhow."""
    # With a fitted scale it is not compiled, which on a busy machine takes the time of grace.
    plain = 'likelihood = "gaussian"\nsigma = "optimal"\n'
    grid = SHORT.partition("epochs")[0] + plain + "[axes]\nepochs = [2, 1000]\n"
    process = start(tmp_path, marked, grid, jobs=2)
    until(lambda: records(tmp_path), "the record of the short one")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begin < 15, "not the whole time of grace"
    assert process.returncode == 130, out
    assert "cells: 1 done, 1 interrupted" in out
    store = Store(tmp_path / "store")
    (stopped,) = [each for each in store.read_all()[0] if each.status.state == "interrupted"]
    assert stopped.status.reason == "stopped by SIGINT"
    assert len(list(store.checkpoints.iterdir())) == 1
    made = Grid.load(tmp_path / "grid.toml")
    run(made, store, jobs=1, largest_pack=1)
    after = store.read(stopped.cell_id)
    assert any(note.code == "resumed" for note in after.warnings)
    run(made, Store(tmp_path / "whole"), jobs=2, largest_pack=1)
    assert numbers(tmp_path / "store") == numbers(tmp_path / "whole")


def test_who_is_stopped_before_a_worker_is_there_trains_nothing(
    tmp_path: Path, marked: Marked
) -> None:
    process = start(tmp_path, marked, SHORT, jobs=2)
    until(lambda: len(marked.alive()) > 2, "the processes that a worker needs")
    # As Ctrl-C does, and in the middle of an import there.
    for number in marked.alive():
        os.kill(number, signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert "cells: none, 12 left" in out
    assert records(tmp_path) == []
    assert marked.alive() == []


def test_a_process_that_starts_hears_no_request_to_stop() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with starting_processes():
        inside = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert inside - before == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_sigusr1_announces_sigterm() -> None:
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: stop.signal, "the signal")
        assert stop.signal == signal.SIGTERM
        assert not stop.is_over()
        os.kill(os.getpid(), signal.SIGUSR1)
        until(stop.is_over, "the second to be heard", 5)


def test_a_signal_to_all_processes_is_the_parents_affair(tmp_path: Path, marked: Marked) -> None:
    """As Slurm and systemd send it: to the workers and the fork server as well."""
    process = start(tmp_path, marked, SHORT, jobs=2)
    until(lambda: records(tmp_path), "a first record")
    for each in marked.alive():
        os.kill(each, signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, out
    assert "second try" not in out
    kept, damages = Store(tmp_path / "store").read_all()
    assert damages == []
    assert {record.status.state for record in kept} <= {"done", "interrupted"}
    assert 2 <= len(kept) < 12, "what was in training has a record, the rest was not begun"
    assert marked.alive() == []


def test_ctrl_c_waits_for_a_cell_and_a_second_one_does_not(tmp_path: Path, marked: Marked) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *command(tmp_path, SILENT, 1)],
        env=marked.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        text=True,
    )
    marked.started.append(process)
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def read() -> bytearray:
        with suppress(OSError):
            seen.extend(os.read(ours, 1 << 16))
        return seen

    until(lambda: b"loss" in read(), "the bar to show a loss")
    assert b"0/1 cells" in seen, "a bar on a terminal"
    os.write(ours, b"\x03")
    time.sleep(1.5)
    assert process.poll() is None, "the first Ctrl-C waits for the cell"
    assert b"within 10 s; a second signal ends it now" in read(), "and says so"
    os.write(ours, b"\x03")
    until(lambda: (read(), process.poll())[1] is not None, "the run to end", 20)
    read()
    os.close(ours)
    assert process.returncode == 130, seen.decode()
    assert b"Traceback" not in seen
    (record,) = Store(tmp_path / "store").read_all()[0]
    assert (record.status.state, record.status.reason) == ("interrupted", "stopped by SIGINT")
    until(lambda: not marked.alive(), "the workers to end", 5)


def test_workers_leave_with_a_killed_parent_and_the_next_run_goes_on(
    tmp_path: Path, marked: Marked
) -> None:
    process = start(tmp_path, marked, SHORT, jobs=2)
    until(lambda: records(tmp_path), "a first record")
    before = {path: path.read_bytes() for path in records(tmp_path)}
    assert len(marked.alive()) >= 4, "the parent, the fork server and two workers"
    process.kill()
    process.communicate()
    until(lambda: not marked.alive(), "the workers to end", 5)
    store = Store(tmp_path / "store")
    assert store.check() == []
    finished = {path: path.read_bytes() for path in records(tmp_path)}
    assert len(finished) < 12
    summary = run(Grid.load(tmp_path / "grid.toml"), store, jobs=2, largest_pack=1)
    assert summary.states() == {"done": 12}
    assert len(summary.finished) == len(finished)
    assert {path: path.read_bytes() for path in finished} == finished | before
    assert list((tmp_path / "store/.incoming").iterdir()) == []


FROM_STANDARD_INPUT = """
import vaebench
grid = vaebench.Grid.from_dict({"name": "typed", "base": {
    "train_size": 200, "test_size": 50, "hidden": [8], "latent_dim": 2, "epochs": 1,
    "tsne_points": 0}})
print(vaebench.run(grid, jobs=1).states())
"""


def test_a_script_on_standard_input_needs_no_main_guard(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-"],
        input=FROM_STANDARD_INPUT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["{'done': 1}"], done.stderr
