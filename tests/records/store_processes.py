"""Scenes with several processes, killed or competing: `python store_processes.py SCENE ROOT`.

Run as a program of its own, since it forks; it prints what it saw as JSON.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from faulty_files import FaultyFiles
from made_records import cell_record

from vaebench.errors import RecordMissing, StoreBusy
from vaebench.records.files import Files
from vaebench.records.schema import CellRecord, Metric
from vaebench.records.store import Store

KILLED = 137


def numbered(number: int) -> CellRecord:
    """Return a record that names its number; its arrays are that number, too."""
    return cell_record(metrics={"kl": Metric.measured("kl", float(number))})


def arrays_of(number: int) -> dict[str, np.ndarray]:
    return {"kl_per_dimension": np.full(50, number, np.float32)}


def seen(store: Store, name: str) -> tuple[float | None, float | None]:
    """Return the number in the record and the one in its arrays, as a reader finds them."""
    try:
        record = store.read(name)
    except RecordMissing:
        return None, None
    arrays = store.arrays(name)
    return record.metrics["kl"].value, float(arrays["kl_per_dimension"][0]) if arrays else None


def child(work: Callable[[], None]) -> int:
    """Run work in a forked process, which ends with it; return its id."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return process


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_points(root: Path) -> object:
    """Kill a writer at each of its file operations; tell what a reader and a successor saw."""
    saw = []
    for scene, before, new_arrays in (
        ("first", False, True),
        ("again", True, True),
        ("again without arrays", True, False),
    ):
        for point in range(1, 1000):
            store = Store(root / scene.replace(" ", "-") / str(point))
            if before:
                with store.writing():
                    store.write(numbered(1), arrays_of(1))

            def work(store: Store = store, point: int = point, arrays: bool = new_arrays) -> None:
                faulty = Store(store.root, FaultyFiles(point, lambda: os._exit(KILLED)))
                with faulty.writing():
                    faulty.write(numbered(2), arrays_of(2) if arrays else None)

            code = ended(child(work))
            name = numbered(2).cell_id
            there = store.root.exists()
            reader = seen(store, name)
            with store.writing():
                left = [path.name for path in (store.root / ".incoming").iterdir()]
            saw.append(
                {
                    "scene": scene,
                    "code": code,
                    "folder": there,
                    "reader": reader,
                    "after": seen(store, name),
                    "left": left,
                    "damage": [str(each) for each in store.check()],
                }
            )
            if code == 0:
                break
    return saw


def competition(root: Path) -> object:
    """Ten processes want the folder; the one that has it keeps it until nine were refused."""
    told_read, told_write = os.pipe()
    free_read, free_write = os.pipe()

    def work() -> None:
        os.close(free_write)
        try:
            with Store(root).writing():
                os.write(told_write, f"holds {os.getpid()}\n".encode())
                os.read(free_read, 1)
        except StoreBusy as busy:
            os.write(told_write, f"busy {busy.holder}\n".encode())

    children = [child(work) for _ in range(10)]
    os.close(told_write)
    told = b""
    while told.count(b"\n") < 10:
        told += os.read(told_read, 4096)
    os.close(free_write)
    return {"told": told.decode().split("\n")[:-1], "codes": [ended(each) for each in children]}


def takeover(root: Path) -> object:
    """Kill the holder with -9; a waiting process and then this one take the folder over."""
    ready_read, ready_write = os.pipe()

    def hold() -> None:
        with Store(root).writing():
            os.write(ready_write, b"h")
            time.sleep(60)

    def wait() -> None:
        os.write(ready_write, b"w")
        with Store(root).writing(wait=True):
            pass

    holder = child(hold)
    os.read(ready_read, 1)
    waiter = child(wait)
    os.read(ready_read, 1)
    time.sleep(0.3)  # the waiter is to meet a folder that is held
    busy = False
    try:
        with Store(root).writing():
            pass
    except StoreBusy as error:
        busy = error.holder == holder
    start = time.monotonic()
    os.kill(holder, signal.SIGKILL)
    codes = [ended(holder), ended(waiter)]
    with Store(root).writing():
        pass
    return {"busy": busy, "codes": codes, "seconds": time.monotonic() - start}


class Unsynced(Files):
    """Skips the waits for the disk, so that a reader meets more renames in less time."""

    def sync(self, descriptor: int) -> None:
        """Wait for nothing."""

    def sync_folder(self, folder: Path) -> None:
        """Wait for nothing."""


def reader_against_writer(root: Path) -> object:
    """Read all the time while another process rewrites one record and its arrays."""
    store = Store(root, Unsynced())
    with store.writing():
        store.write(numbered(0), arrays_of(0))
    name = numbered(0).cell_id

    def work() -> None:
        with store.writing():
            for number in range(1, 800):
                store.write(numbered(number), arrays_of(number))

    writer = child(work)
    reads, distinct, missing, states = 0, set(), 0, set()
    while os.waitpid(writer, os.WNOHANG)[0] == 0:
        record, array = seen(store, name)
        missing += record is None or array is None
        distinct.add(record)
        states.update(store.states().values())
        reads += 1
    return {
        "reads": reads,
        "distinct": len(distinct),
        "missing": missing,
        "states": sorted(states),
        "last": seen(store, name),
    }


SCENES = {
    scene.__name__: scene for scene in (kill_points, competition, takeover, reader_against_writer)
}

if __name__ == "__main__":
    print(json.dumps(SCENES[sys.argv[1]](Path(sys.argv[2]))))
