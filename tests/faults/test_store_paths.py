"""A store whose path the locale cannot encode is read like any other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_stores import record

from vaebench.records.store import Store


@pytest.mark.parametrize("command", ["show {}", "export {} -o table.csv", "doctor {}"])
@pytest.mark.parametrize("name", [b"st\xff", "σ数".encode()], ids=["bytes", "unicode"])
def test_a_path_that_the_locale_cannot_encode(tmp_path: Path, name: bytes, command: str) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    with Store(root).writing() as store:
        store.write(record("a"))
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", *(word.format(root) for word in command.split())],
        cwd=tmp_path,
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
