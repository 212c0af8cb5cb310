"""Break a store in every way, count, and print a table: `python tests/faults/figures.py`.

Each function breaks something a number of times and raises AssertionError if a promise is broken.
`docs/reliability.md` has the table of a whole run; the tests run a small part of it.
"""

import argparse
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vaebench.errors import RecordError, StorageError, StoreBusy
from vaebench.grid.cell import Cell
from vaebench.records.files import Files
from vaebench.records.schema import CellRecord, Status, from_text, to_text
from vaebench.records.store import Store

_ERRORS = (
    errno.ENOSPC,
    errno.EIO,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
)
GRID = """
name = "killed"
[base]
train_size = 200
test_size = 50
batch_size = 20
hidden = [8]
latent_dim = 2
tsne_points = 0
epochs = 5
[axes]
seed = [0, 1, 2, 3]
"""


def record(name: str, version: int) -> CellRecord:
    return CellRecord(
        cell_id=name,
        grid=str(version),
        cell=Cell(),
        data=None,
        status=Status(state="done"),
        comparable="mass",
        series={"train_elbo": [float(number) for number in range(3_000)]},
    )


def arrays(version: int) -> dict[str, np.ndarray]:
    return {"kl_per_dimension": np.full(100, version, np.float32)}


@contextmanager
def temporary_store() -> Iterator[Store]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield Store(folder / "store")
    finally:
        shutil.rmtree(folder)


class Interrupting(Files):
    """Files whose n-th operation, and with `forever` every later one, calls a function first."""

    def __init__(self, first: int, act: Callable[[], None], forever: bool = False) -> None:
        self._first, self._act, self._forever, self._count = first, act, forever, 0

    def __getattribute__(self, name: str) -> object:
        found = object.__getattribute__(self, name)
        if not name.startswith("_") and callable(found):
            self._count += 1
            if self._count == self._first or (self._forever and self._count > self._first):
                self._act()
        return found


def save(store: Store, version: int) -> None:
    with store.writing():
        store.write(record("a", version), arrays(version))


def assert_whole(store: Store) -> int:
    """The version of the one record, which is whole with its arrays, after the next writer."""
    with Store(store.root).writing():
        pass
    fresh = Store(store.root)
    assert fresh.check() == []
    found = fresh.read("a")
    assert np.all(fresh.arrays("a")["kl_per_dimension"] == int(found.grid))
    assert list((store.root / ".incoming").iterdir()) == []
    return int(found.grid)


def truncations(most: int | None = None) -> int:
    """Cut a record at every byte; it is never read as a record."""
    text = to_text(record("a", 1))
    lengths = range(len(text)) if most is None else range(0, len(text), max(len(text) // most, 1))
    for length in lengths:
        try:
            from_text(text[:length])
        except RecordError:
            continue
        raise AssertionError(f"a record of {length} of {len(text)} bytes was read")
    return len(lengths)


def flipped_bits(count: int, seed: int = 0) -> int:
    """Flip one random bit; the record is never read."""
    text, draw = to_text(record("a", 1)), random.Random(seed)  # noqa: S311 - a test's own numbers
    for _ in range(count):
        place, bit = draw.randrange(len(text)), 1 << draw.randrange(8)
        try:
            from_text(text[:place] + bytes([text[place] ^ bit]) + text[place + 1 :])
        except RecordError:
            continue
        raise AssertionError(f"bit {bit} of byte {place} was flipped and the record read")
    return count


def failing_operations(numbers: tuple[int, ...] = _ERRORS) -> int:
    """Fail each file operation of a save, once and for ever, with each error number."""
    failures = 0
    for number in numbers:

        def fail(number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        for forever in (False, True):
            for first in range(1, 1000):
                with temporary_store() as store:
                    save(store, 1)
                    try:
                        save(Store(store.root, Interrupting(first, fail, forever)), 2)
                    except StorageError:
                        failures += 1
                        assert assert_whole(store) in (1, 2)
                        continue
                    assert assert_whole(store) == 2
                    break
    return failures


def killed_saves(rounds: int = 1) -> int:
    """End a process, without any clean-up, at each file operation of a save."""
    kills = 0
    for _ in range(rounds):
        for first in range(1, 1000):
            with temporary_store() as store:
                save(store, 1)
                child = os.fork()
                if child == 0:
                    save(Store(store.root, Interrupting(first, lambda: os._exit(9))), 2)
                    os._exit(0)
                _, status = os.waitpid(child, 0)
                version = assert_whole(store)
                assert version in (1, 2)
                if os.waitstatus_to_exitcode(status) == 0:
                    assert version == 2
                    break
                kills += 1
    return kills


def simultaneous_starters(count: int) -> int:
    """Start processes at once; each writes or hears that the store is busy, and nothing is lost."""
    with temporary_store() as store:
        begin = time.monotonic() + 0.3
        children = []
        for number in range(count):
            child = os.fork()
            if child == 0:
                time.sleep(max(0.0, begin - time.monotonic()))
                try:
                    with Store(store.root).writing() as own:
                        own.write(record(f"cell-{number}", number), arrays(number))
                        time.sleep(0.01)
                except StoreBusy:
                    os._exit(75)
                os._exit(0)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert set(codes) <= {0, 75}
        assert len(Store(store.root).states()) == codes.count(0) >= 1
        assert Store(store.root).check() == []
    return count


def killed_runs(count: int, seed: int = 0) -> int:
    """Kill `vaebench run` at random times until it has done; no finished cell is changed."""
    draw, kills = random.Random(seed), 0  # noqa: S311 - a test's own numbers
    while kills < count:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "grid.toml").write_text(GRID, encoding="utf-8")
            words = f"-m vaebench run {folder}/grid.toml -o {folder}/store --no-report --pack 1"
            finished: dict[Path, bytes] = {}
            while True:
                process = subprocess.Popen([sys.executable, *words.split()], stdout=subprocess.PIPE)
                try:
                    process.communicate(timeout=draw.uniform(5, 40))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
                store = Store(Path(folder) / "store")
                assert store.check() == []
                for path, content in finished.items():
                    assert path.read_bytes() == content, "a finished cell was changed"
                files = store.root.glob("cells/*/record.json")
                finished |= {path: path.read_bytes() for path in files}
                if process.returncode == 0:
                    assert len(finished) == 4
                    break
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=0, help="also kill so many runs (minutes)")
    options = parser.parse_args()
    table: list[tuple[str, Callable[[], int]]] = [
        ("records cut at every byte", truncations),
        ("records with one flipped bit", lambda: flipped_bits(2_000)),
        ("failing file operations of a save", failing_operations),
        ("processes killed at an operation of a save", lambda: killed_saves(8)),
        ("processes that start at once", lambda: simultaneous_starters(80)),
    ]
    if options.runs:
        table.append(("runs killed at a random time", lambda: killed_runs(options.runs)))
    print("| what was broken | times | lost, torn or done twice |\n|---|---|---|")
    for title, count in table:
        print(f"| {title} | {count():,} | 0 |", flush=True)


if __name__ == "__main__":
    main()
