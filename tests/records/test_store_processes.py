"""Kills at every file operation, ten writers at once, a killed holder, a reader in the way."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCENES = Path(__file__).parent / "store_processes.py"


def played(scene: str, root: Path) -> Any:
    ended = subprocess.run(
        [sys.executable, str(SCENES), scene, str(root)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def kill_points(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    saw: list[dict[str, Any]] = played("kill_points", tmp_path_factory.mktemp("kills"))
    return saw


@pytest.mark.parametrize(
    ("scene", "old", "new"),
    [
        ("first", [None, None], [2.0, 2.0]),
        ("again", [1.0, 1.0], [2.0, 2.0]),
        ("again without arrays", [1.0, 1.0], [2.0, None]),
    ],
)
def test_a_writer_killed_anywhere_leaves_the_old_record_or_the_new(
    kill_points: list[dict[str, Any]], scene: str, old: list[Any], new: list[Any]
) -> None:
    points = [point for point in kill_points if point["scene"] == scene]
    assert [point["code"] for point in points[:-1]] == [137] * (len(points) - 1)
    assert points[-1]["code"] == 0
    assert len(points) > 15
    for point in points:
        assert point["reader"] in (old, new)
        assert point["after"] == point["reader"]
        assert point["left"] == []
        assert point["damage"] == []
    assert points[0]["reader"] == old
    assert points[-1]["reader"] == new


def test_ten_processes_one_holds_nine_say_who(tmp_path: Path) -> None:
    saw = played("competition", tmp_path / "results")
    assert saw["codes"] == [0] * 10
    holds = [line for line in saw["told"] if line.startswith("holds")]
    busy = [line for line in saw["told"] if line.startswith("busy")]
    assert len(holds) == 1
    holder = holds[0].split()[1]
    # One that looks between the lock and the mark knows that it is taken, not yet by whom.
    assert len(busy) == 9
    assert set(busy) <= {f"busy {holder}", "busy None"}


def test_a_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    saw = played("takeover", tmp_path / "results")
    assert saw["busy"]
    assert saw["codes"] == [-9, 0]
    assert saw["seconds"] < 5


def test_a_reader_meets_whole_records_only(tmp_path: Path) -> None:
    saw = played("reader_against_writer", tmp_path / "results")
    assert saw["missing"] == 0
    assert saw["states"] == ["done"]
    assert saw["distinct"] > 10
    assert saw["last"] == [799.0, 799.0]
