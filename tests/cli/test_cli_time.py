"""`vaebench time` from the command line."""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from command_line import ROOT, Ask

import vaebench
from vaebench.records.files import Files
from vaebench.records.store import Store

TIME = ("time", "--latent-dim", "2", "--batch-size", "16", "--width", "8", "--steps", "10")


def test_timings_are_exported_where_there_are_no_cells(here: Path, ask: Ask) -> None:
    sizes = ("--latent-dim", "2", "--batch-size", "16", "--width", "8", "--steps", "12")
    assert ask("time", *sizes, "-o", "timed", "--no-report").code == 0
    assert ask("export", "timed", "-o", "timed.CSV").code == 0
    (row,) = pd.read_csv("timed.CSV").to_dict("records")
    assert (row["latent_dim"], row["batch_size"], row["device"]) == (2, 16, "cpu")


def test_timings_are_taken_once_shown_and_reported(here: Path, ask: Ask) -> None:
    words = (*TIME, "--device", "cpu", "--threads", "1")
    answer = ask(*words)
    assert answer.code == 0
    assert "[1/1] cpu, latent 2, batch 16, width 8, float32, " in answer.out
    assert "no GPU was measured: only the CPU was timed." in answer.out
    # On a busy machine the spread of ten steps may be too wide for a number.
    assert "timings: 1 done" in answer.out or "too noisy for a number" in answer.out
    assert "\nrecords: results/time\nreport: reports/time/index.html" in answer.out
    assert "Training steps, timed" in Path("reports/time/index.html").read_text(encoding="utf-8")
    (record,) = Path("results/time/facts").glob("*/record.json")
    before = record.read_bytes()
    one = ask("show", "results/time", record.parent.name[:-3])
    assert one.out.startswith(f"{record.parent.name}\nkind: timing\n")
    assert "1 thread" in one.out
    assert ask(*words, "--no-report").out.startswith(
        "nothing to time: all timings (1) have a record"
    )
    assert record.read_bytes() == before
    assert "Training steps on " in ask("show", "results/time").out
    assert ask("report").code == 0, "a store of timings is found under results/"
    assert ask("doctor", "results/time").code == 0


@pytest.mark.parametrize("fault", ["of a newer record format", "not a timing of revision"])
def test_a_timing_that_is_not_used_is_told_of_by_each_reader(
    here: Path, ask: Ask, fault: str
) -> None:
    reference = ROOT / "results/reference/time"
    sound = Store(reference).read_facts()[0][0]
    with Store("timings").writing() as store:
        store.write(sound)
        store.write(sound.model_copy(update={"record_id": "timing-new", "payload": {}}))
    if fault == "of a newer record format":
        path = Path("timings/facts/timing-new/record.json")
        newer = json.loads(path.read_bytes()) | {"schema": "vaebench/record/3"}
        path.write_text(json.dumps(newer), encoding="utf-8")
        fault = "newer: "
    for words in (("show",), ("export", "-o", "table.csv"), ("report",)):
        answer = ask(words[0], "timings", *words[1:])
        assert (answer.code, "1 row" in answer.out) == (4, words[0] == "export")
        assert "timing-new" in answer.err
        assert fault in answer.err
    with pytest.warns(UserWarning, match=r"1 record of timings cannot be used.*timing-new"):
        assert len(vaebench.load_timings("timings")) == 1


def test_a_device_that_is_absent_is_recorded_and_leaves_with_1(here: Path, ask: Ask) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    answer = ask(*TIME, "--device", "cuda", "-o", "gpu", "--no-report")
    assert answer.code == 1
    assert "timings: 1 unavailable" in answer.out
    assert "no GPU was measured (cuda: " in answer.out
    assert list(Path("gpu/facts").glob("timing-cuda-*/record.json"))
    assert not Path("reports").exists()


def test_timing_into_a_busy_store_is_75(here: Path, ask: Ask) -> None:
    with Store(here / "store").writing():
        assert ask(*TIME, "--device", "cpu", "-o", "store").code == 75


def test_a_damaged_timing_is_set_aside_with_4_and_taken_again(here: Path, ask: Ask) -> None:
    words = (*TIME, "--device", "cpu", "--threads", "1", "--no-report")
    assert ask(*words).code == 0
    (record,) = Path("results/time/facts").glob("*/record.json")
    record.write_bytes(record.read_bytes()[:-9])
    answer = ask(*words)
    assert answer.code == 4
    assert "set aside in .quarantine: " in answer.out
    assert "timings: 1 done" in answer.out
    assert ask(*words).code == 0


def test_storage_that_fails_while_timing_is_4(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: Files, descriptor: int, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Files, "write", full)
    answer = ask(*TIME, "--device", "cpu", "--threads", "1")
    assert answer.code == 4
    assert "(ENOSPC)" in answer.err
    assert not list(Path("results").rglob("*.json"))
