"""Signals, closed streams and processes that do not start: an orderly end with the cause."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_stores import small_run

import vaebench
from vaebench.errors import EngineError, ExitCode, WorkerStartError, exit_code_of
from vaebench.records.store import Store
from vaebench.runner.engines.local import LocalEngine
from vaebench.runner.engines.ray_cluster import RayEngine

HERE = Path(__file__).parent
LONG = """
name = "long"
[base]
train_size = 200
test_size = 50
batch_size = 20
hidden = [8]
latent_dim = 2
tsne_points = 0
epochs = {epochs}
[axes]
seed = [0, 1]
"""
PATIENCE = 120.0


def command(folder: Path, epochs: int) -> list[str]:
    (folder / "grid.toml").write_text(LONG.format(epochs=epochs), encoding="utf-8")
    words = f"-m vaebench run {folder}/grid.toml -o {folder}/store --no-report --pack 1 --jobs 1"
    return [sys.executable, *words.split()]


def states(folder: Path) -> dict[str, str]:
    return dict(Store(folder / "store").states())


def until_checkpoint(folder: Path) -> None:
    """Wait until a worker trains: the run's store is made right before that."""
    end = time.monotonic() + PATIENCE
    while not (folder / "store" / ".incoming").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(8)


def test_a_hangup_ends_a_run_in_order_with_143(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, 100_000),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # The tests themselves may run under nohup, which the child would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    until_checkpoint(tmp_path)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, out
    assert "Traceback" not in out
    assert set(states(tmp_path).values()) <= {"interrupted"}


def test_a_run_under_nohup_ignores_a_hangup(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", *command(tmp_path, 2)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 1.5
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    assert list(states(tmp_path).values()) == ["done", "done"]


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_change_nothing(tmp_path: Path, closed: str) -> None:
    words = " ".join(command(tmp_path, 2))
    done = subprocess.run(
        ["sh", "-c", f"{words} {closed}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    assert list(states(tmp_path).values()) == ["done", "done"]
    assert Store(tmp_path / "store").check() == []


def test_a_full_standard_output_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(tmp_path, 2), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("standard output: No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert list(states(tmp_path).values()) == ["done", "done"]


@pytest.mark.parametrize("words", ["list axes", "--help", "doctor"])
def test_every_command_names_a_full_standard_output(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vaebench", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"vaebench: .*standard output: No space left on device\n", done.stderr)


# --- the interface for Python --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("run", SimpleNamespace(signal=signal.SIGINT)),
        ("reproduce", SimpleNamespace(summary=SimpleNamespace(signal=signal.SIGINT))),
        ("time_steps", SimpleNamespace(signal=signal.SIGINT)),
    ],
)
def test_ctrl_c_does_not_go_on_with_the_callers_next_line(
    monkeypatch: pytest.MonkeyPatch, name: str, result: object
) -> None:
    module = sys.modules[getattr(vaebench, name).__module__]
    monkeypatch.setattr(module, name, lambda *_: result)
    # A shell that starts the tests in the background lets them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            getattr(vaebench, name)()
    finally:
        signal.signal(signal.SIGINT, before)


INTERRUPTED = """
import os, signal, threading, time
import vaebench
grid = vaebench.Grid.from_dict({"name": "typed", "base": {
    "train_size": 200, "test_size": 50, "hidden": [8], "latent_dim": 2, "epochs": 100000,
    "tsne_points": 0}})

def interrupt():
    while not os.path.exists("results/typed/.incoming"):
        time.sleep(0.1)
    time.sleep(6)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
vaebench.run(grid, jobs=1)
print("the next line")
"""


def test_ctrl_c_in_a_script_ends_the_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "the next line" not in done.stdout
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
    assert list(Store(tmp_path / "results/typed").states().values()) in ([], ["interrupted"])


# --- workers that do not start -------------------------------------------------------------------

DYING = """
import sys
import vaebench.runner.engines.local as local
local._PRELOADED = ("dying_at_import",)
from vaebench.cli.main import main
main(sys.argv[1:])
"""


def test_a_fork_server_that_dies_is_exit_1_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "dying_at_import.py").write_text("import os\nos._exit(1)\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", DYING, *command(tmp_path, 2)[3:]],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "stopped" not in done.stderr
    assert "ended while it started" in done.stderr
    assert "memory" in done.stderr


def test_a_long_temporary_folder_is_named_as_the_cause(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    done = subprocess.run(
        command(tmp_path, 2),
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "TMPDIR" in done.stderr
    assert str(folder) in done.stderr


def test_a_daemonic_process_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Daemonic:
        daemon = True

    monkeypatch.setattr("multiprocessing.current_process", Daemonic)
    with pytest.raises(EngineError, match="daemonic process cannot start workers"):
        small_run(Store(tmp_path))


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (EOFError(), "ended while it started", ExitCode.SOME_FAILED),
        (ConnectionResetError(104, "reset"), "ended", ExitCode.SOME_FAILED),
        (OSError(28, "No space left on device"), "is full", ExitCode.USAGE),
    ],
)
def test_why_no_worker_starts_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str, code: ExitCode
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    engine = LocalEngine()
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", fails)
    with pytest.raises(EngineError, match=words) as refused:
        engine.start()
    assert exit_code_of(refused.value) == code
    assert isinstance(refused.value, WorkerStartError) == (code == ExitCode.SOME_FAILED)


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup.\nThis could happen because ..."),
        RuntimeError("Version mismatch"),
        ValueError("a bad address"),
        SystemExit(1),
    ],
)
def test_a_cluster_that_does_not_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(EngineError, match="cannot be used") as refused:
        RayEngine().devices()
    assert "\n" not in str(refused.value)
    assert exit_code_of(refused.value) == ExitCode.USAGE


def test_a_cluster_that_goes_away_while_it_is_asked_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def fails(*_: object, **__: object) -> None:
        raise ray.exceptions.RaySystemError("the GCS is gone\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for name in ("nodes", "cluster_resources", "wait", "remote"):
        monkeypatch.setattr(ray, name, fails)
    engine = RayEngine()
    for ask in (engine.elsewhere, engine.devices, engine.start, lambda: engine.jobs(1, {"cpu"})):
        with pytest.raises(EngineError, match="the GCS is gone"):
            ask()


LIMITED = """
import sys
import vaebench.runner.engines.ray_cluster as cluster
cluster._INIT_SECONDS = float(sys.argv[1])
from vaebench.cli.main import main
main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_cluster_that_is_ending_is_not_waited_for_and_a_new_one_starts(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is left of a cluster accepts connections and never answers."""
    pytest.importorskip("ray", reason="Ray is not installed")
    short = Path(tempfile.mkdtemp(prefix="ray"))  # sockets of Ray are below it
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            (short / "ray").mkdir()
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            (short / "ray" / "ray_current_cluster").write_text(address, encoding="ascii")
            words = [*command(tmp_path, 2)[3:], "--engine", "ray", "--dry-run"]
            for limit, extra, code in (("6", {}, 2), ("240", {"RAY_ADDRESS": "local"}, 0)):
                done = subprocess.run(
                    [sys.executable, "-c", LIMITED, limit, *words],
                    env=os.environ | {"RAY_TMPDIR": str(short)} | extra,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=PATIENCE + 240,
                )
                assert done.returncode == code, done.stderr
                assert "Traceback" not in done.stderr
                assert ("set RAY_ADDRESS (local starts a new cluster)" in done.stderr) == (
                    code == 2
                )
    finally:
        shutil.rmtree(short, ignore_errors=True)
