"""Terminals that know less, and readers that leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaebench.system.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("σ 0.1 ± 0.2", "sigma 0.1 +- 0.2"),
        ("pixel²", "pixel^2"),
        ("数", r"\u6570"),
        ("plain", "plain"),
    ],
)
def test_what_a_terminal_lacks_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text, "ascii") == shown
    assert printable(text, "utf-8") == text


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("words", "told"),
    [(("list", "metrics"), b"pixel^2, lower is better"), (("show", "store"), b"sigma  ")],
    ids=["list", "show"],
)
def test_a_poor_terminal_gets_the_same_in_ascii(
    here: Path, words: tuple[str, ...], told: bytes
) -> None:
    poor = {**ASCII, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", *words],
        capture_output=True,
        env=os.environ | poor,
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    assert told in done.stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = f"'{sys.executable}' -m vaebench list axes | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("141", "")
