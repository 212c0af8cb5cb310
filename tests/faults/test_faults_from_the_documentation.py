"""Faults found by a reader of the documentation: each test is one kind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_stores import record

import vaebench
from vaebench.cli.main import cli
from vaebench.cli.output import say_unused
from vaebench.data.acquire import add
from vaebench.data.catalog import kind_of
from vaebench.errors import (
    DataInvalid,
    DataMissing,
    ExitCode,
    StorageError,
    UsageError,
    exit_code_of,
)
from vaebench.records.bundle import bundle
from vaebench.records.files import Files, completed
from vaebench.records.store import Store
from vaebench.runner.run import surveyed


def command(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "vaebench", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]  # any option


def test_a_full_disk_names_the_file_and_not_standard_output(store: Store, tmp_path: Path) -> None:
    # A limit of the size of files fails as a full disk does: with an error that names no file.
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file = tmp_path / "x.bundle"
    with pytest.raises(StorageError, match=r"x\.bundle") as raised, completed(file):
        raise full
    assert exit_code_of(raised.value) == ExitCode.DAMAGED
    with store.writing():
        store.write(record("c"), weights=bytes(100_000))
    words = [sys.executable, "-m", "vaebench", "export", str(store.root), "--bundle", str(file)]
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", *words]
    found = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert found.returncode == ExitCode.USAGE
    assert str(file) in found.stderr
    assert "standard output" not in found.stderr
    assert list(tmp_path.glob(".export-*")) == []


@pytest.mark.parametrize("name", ["", "."])
def test_a_folder_is_no_name_of_a_file(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="is a folder"), completed(Path(name)):
        pass
    with pytest.raises(UsageError, match="is a folder"):
        bundle(store.root, name)


def _folder(path: Path) -> None:
    path.mkdir()


def _file(path: Path) -> None:
    path.touch()


def _link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "elsewhere")


OBSTACLES = [
    (".incoming", _file),
    (".quarantine", _file),
    (".checkpoints", _file),
    ("facts", _link),
    (".lock", _folder),
    (".lock", os.mkfifo),
    (".lock", _link),
]


@pytest.mark.parametrize(("name", "make"), OBSTACLES)
def test_what_keeps_a_run_from_writing_is_named_by_the_run_and_by_doctor(
    store: Store, name: str, make: Callable[[Path], None]
) -> None:
    place = store.root / name
    if place.is_dir():
        place.rmdir()
    place.unlink(missing_ok=True)
    make(place)
    found = CliRunner().invoke(cli, ["doctor", str(store.root)])
    assert found.exit_code == ExitCode.DAMAGED
    assert f"{place}: " in found.output
    with pytest.raises(OSError, match=r"move away|symbolic links") as raised, store.writing():
        pass
    assert exit_code_of(raised.value) == ExitCode.USAGE
    assert str(place) in str(raised.value)


def test_the_folder_of_one_cell_that_cannot_be_entered_does_not_block_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, real = store.root / "cells" / "a", Path.exists

    def enter(path: Path) -> None:
        if closed in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    class Closed(Files):
        def read(self, path: Path, *limits: int) -> bytes:
            enter(path)
            return super().read(path, *limits)

    def exists(path: Path) -> bool:
        enter(path)
        return real(path)

    monkeypatch.setattr(Path, "exists", exists)
    found = surveyed(Store(store.root, Closed()), weights=True)
    assert found.states == {"a": "unreadable", "b": "done", "c": "done"}


def test_the_terminal_shows_the_name_that_was_given(tmp_path: Path) -> None:
    found = command("show", "\x1b[31mred", cwd=tmp_path)
    assert found.returncode == ExitCode.USAGE
    assert r"\x1b[31mred" in found.stderr


def test_characters_that_a_terminal_lacks_are_escapes(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    found = command("run", "日.toml", cwd=tmp_path, env=environment)
    assert r"\u65e5.toml" in found.stderr


def test_a_working_folder_that_was_deleted_is_named_as_the_cause(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"rmdir {gone}; exec {sys.executable} -P -m vaebench list axes"
    found = subprocess.run(
        ["bash", "-c", line], cwd=gone, capture_output=True, text=True, check=False
    )
    assert found.returncode == ExitCode.USAGE
    assert "working folder no longer exists" in found.stderr
    assert found.stdout == ""


PROBED = """
import time, pathlib
def loss(*arguments):
    pathlib.Path("probed").touch()
    time.sleep(600)
"""


def test_a_signal_ends_a_command_while_it_calls_a_function_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "probed_loss.py").write_text(PROBED, encoding="utf-8")
    words = ["audit", "--loss", "probed_loss:loss", "--pixels", "4", "--latent", "2"]
    line = [sys.executable, "-m", "vaebench", *words]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as started:
        try:
            end = time.monotonic() + 120
            while not (tmp_path / "probed").exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            started.send_signal(signal.SIGTERM)
            _, errors = started.communicate(timeout=120)
        finally:
            started.kill()
    assert started.returncode == ExitCode.SIGNAL + signal.SIGTERM
    assert errors == "vaebench: stopped\n"


def test_a_folder_of_everything_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.data.acquire._MAX_MEMBERS", 10)
    for number in range(11):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(DataInvalid, match="at most 10 members"):
        add("mnist", tmp_path, tmp_path / "data")


def test_a_path_is_accepted_as_the_name_of_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"none\.npz"):
        vaebench.advise(tmp_path / "none.npz", tmp_path / "store")


def test_an_empty_name_is_not_the_working_folder() -> None:
    with pytest.raises(DataMissing, match="must not be empty"):
        kind_of("")
    with pytest.raises(UsageError, match="empty name"):
        vaebench.evaluate("", "digits")


def test_damage_without_end_is_counted_and_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert say_unused(f"record {i}" for i in range(60_000)) == {ExitCode.DAMAGED}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 101
    assert "59,900 more" in lines[-1]


@pytest.mark.parametrize("metric", [None, 3, 2.5])
def test_a_metric_of_a_wrong_type_gets_a_sentence(metric: object) -> None:
    with pytest.raises(UsageError, match="there is no metric"):
        vaebench.compare("results/reference/quick", "results/reference/quick", metric=metric)  # type: ignore[arg-type]
