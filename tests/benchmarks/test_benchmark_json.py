"""What `pytest benchmarks --benchmark-json` writes beside the times."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFTEST = Path(__file__).parents[2] / "benchmarks" / "conftest.py"
BENCHMARKS = """
import pytest

def test_good(benchmark):
    benchmark.pedantic(sum, ([1, 2],))

def test_too_slow(benchmark):
    benchmark.pedantic(sum, ([1, 2],))
    assert 3 < 2, "took too long"

def test_raises(benchmark):
    benchmark.pedantic(int, ("no number",))

@pytest.fixture
def device():
    raise RuntimeError("no such device")

def test_without_its_device(benchmark, device):
    benchmark(sum, [1, 2])
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("benchmarks")
    shutil.copy(CONFTEST, folder)
    (folder / "test_made.py").write_text(BENCHMARKS, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    words = ["-p", "no:cacheprovider", "--benchmark-json=times.json", "-q"]
    # A pytest that is told that it is one of several at work times nothing.
    alone = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=folder, env=alone, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    content: dict[str, Any] = json.loads((folder / "times.json").read_text(encoding="utf-8"))
    return content


def test_a_failed_benchmark_stays_visible_with_its_reason(written: dict[str, Any]) -> None:
    told = {each["fullname"].partition("::")[2]: each for each in written["failures"]}
    assert set(told) == {"test_too_slow", "test_raises", "test_without_its_device"}
    assert "took too long" in told["test_too_slow"]["reason"]
    assert "no number" in told["test_raises"]["reason"]
    assert "no such device" in told["test_without_its_device"]["reason"]
    assert told["test_without_its_device"]["when"] == "setup"


def test_the_machine_is_described_without_its_name(written: dict[str, Any]) -> None:
    here = written["machine_info"]["environments"]["cpu"]
    assert {"processor", "cores", "threads", "driver"} <= set(here)
    assert "torch" in here["versions"]
    assert "node" not in written["machine_info"]
