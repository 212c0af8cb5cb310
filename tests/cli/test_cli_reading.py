"""`show`, `export`, `compare`, `report` and `doctor` of a finished store."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import ROOT, RUN, Ask, record_of

import vaebench
from vaebench.records.store import Store


def test_show_gives_tables_that_fit_and_only_the_notes_they_need(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = ask("show", "store").out
    assert "Results on digits, grey levels, density" in wide
    assert "6 done" in wide
    assert "has no scale" not in wide, "no column of the table asks for this note"
    tables = wide.partition("warning")[0]
    assert max(map(len, tables.splitlines())) <= 110
    monkeypatch.setenv("COLUMNS", "60")
    narrow = ask("show", "store").out.partition("warning")[0]
    assert max(map(len, narrow.splitlines())) <= 80
    assert "columns that do not fit: " in narrow


def test_show_gives_one_record_by_the_beginning_of_its_name(here: Path, ask: Ask) -> None:
    name = record_of(here / "store", -1).parent.name
    answer = ask("show", "store", name[:-3])
    assert answer.out.startswith(f"{name}\nstatus: done\n")
    for told in ("likelihood               gaussian", "nats/image  n = 50", "machine: "):
        assert told in answer.out


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_export_writes_the_tidy_table(here: Path, ask: Ask, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    assert ask("export", "store", "-o", f"x.{ending}").out == f"6 rows: x.{ending}\n"
    frame = pd.read_csv("x.csv") if ending == "csv" else pd.read_parquet("x.parquet")
    assert sorted(frame["cell_id"]) == sorted(Store(here / "store").states())
    record = Store(here / "store").read(frame["cell_id"][0])
    assert frame["elbo"][0] == record.metrics["elbo"].value


def test_a_bundle_is_merged_and_conflicts_are_an_exit_code(here: Path, ask: Ask) -> None:
    assert ask("export", "store").code == 2
    answer = ask("export", "store", "--bundle", "all.bundle", "-o", "x.csv")
    assert answer == (0, "6 rows: x.csv\n6 records: all.bundle\n", "")
    assert ask("merge", "all.bundle", "-o", "copy").out == "6 records added to copy\n"
    assert Store("copy").states() == Store("store").states()
    assert ask("merge", "all.bundle", "store", "-o", "copy").code == 0
    record = Store("copy").read(next(iter(Store("copy").states())))
    with Store("copy").writing() as store:
        store.write(record.model_copy(update={"grid": "other"}))
    answer = ask("merge", "all.bundle", "-o", "copy")
    assert (answer.code, answer.out) == (1, "0 records added to copy; 5 equal to existing ones\n")
    assert f"cells/{record.cell_id}" in answer.err
    assert "differ in grid" in answer.err
    record_of(here / "store").write_bytes(b"{")
    assert ask("merge", "store", "-o", "other").code == 4
    assert ask("export", "store", "--bundle", "some.bundle").code == 4
    assert ask("merge", "x.csv", "-o", "other").code == 4
    assert ask("merge", "none", "-o", "other").code == 2
    assert ask("merge", "empty", "-o", "nothing").code == 5


def test_compare_pairs_the_designs_of_a_store(here: Path, ask: Ask) -> None:
    answer = ask("compare", "store:sigma=0.1", "store:sigma=0.3")
    assert answer.code == 0
    store = Store(here / "store")
    cells = [store.read(name) for name in store.states()]
    elbo = {(c.cell.sigma, c.cell.seed): c.metrics["elbo"].value or 0.0 for c in cells}
    difference = sum(elbo[0.3, seed] - elbo[0.1, seed] for seed in (0, 1)) / 2
    (row,) = [line for line in answer.out.splitlines() if " better" in line and "±" in line]
    assert float(row.split()[2]) == pytest.approx(difference, rel=0.05)


def test_a_run_gives_one_json_document(here: Path, ask: Ask) -> None:
    answer = ask(*RUN, "--set", "seed=0,5", "--no-report", "--json")
    document = json.loads(answer.out)
    assert (answer.code, document["states"], document["left"]) == (0, {"done": 6}, 0)
    assert len(document["trained"]) == len(document["finished"]) == 3
    assert set(document["trained"]) | set(document["finished"]) <= set(Store("store").states())
    assert "note: " in answer.err
    assert document["recommendations"] == []  # after one epoch every design is collapsed
    again = json.loads(ask(*RUN, "--json").out)
    assert Path(again["report"]).is_file()


def test_the_document_of_a_run_holds_the_recommendations(here: Path, ask: Ask) -> None:
    shutil.copytree(ROOT / "results" / "reference" / "quick", "quick")
    answer = ask("run", "quick", "-o", "quick", "--no-report", "--json")
    found = json.loads(answer.out)["recommendations"]
    assert found == [each.document() for each in vaebench.best("quick")]
    assert {each["purpose"] for each in found} >= {"bound", "bits", "codes"}


def test_show_and_compare_give_one_json_document(here: Path, ask: Ask) -> None:
    store = Store(here / "store")
    shown = json.loads(ask("show", "store", "--json").out)
    assert shown["states"] == store.states()
    assert shown["unused"] == []
    for row in shown["cells"]:
        record = store.read(row["cell_id"])
        assert row["elbo"] == record.metrics["elbo"].value
        assert ("sigma" in row) == (record.cell.sigma is not None)
    one = json.loads(ask("show", "store", row["cell_id"], "--json").out)
    assert one["cell"]["seed"] == row["seed"]
    compared = json.loads(ask("compare", "store:sigma=0.1", "store:sigma=0.3", "--json").out)
    (design,) = compared["designs"]
    elbos = {(r["sigma"], r["seed"]): r["elbo"] for r in shown["cells"] if "sigma" in r}
    expected = np.mean([elbos[0.3, seed] - elbos[0.1, seed] for seed in (0, 1)])
    assert design["difference"] == pytest.approx(expected, rel=1e-12)
    assert design["low"] < design["difference"] < design["high"]
    assert compared["differs"] == {"sigma": [0.1, 0.3]}


def test_json_names_what_is_not_used(here: Path, ask: Ask) -> None:
    record_of(here / "store").write_bytes(b"{")
    answer = ask("show", "store", "--json")
    assert answer.code == 4
    assert "damaged" in json.loads(answer.out)["unused"][0]


def test_doctor_describes_the_machine(ask: Ask) -> None:
    answer = ask("doctor")
    assert answer.code == 0
    for told in ("python: 3.", "torch: ", "processor: ", "device cpu: available"):
        assert told in answer.out


def test_a_report_leaves_the_store_as_it_was(here: Path, ask: Ask) -> None:
    before = {path: path.read_bytes() for path in (here / "store").rglob("*") if path.is_file()}
    answer = ask("report", "store", "-o", "page")
    assert answer == (0, f"report: {Path('page/index.html')}\n", "")
    assert (here / "page/index.html").is_file()
    after = {path: path.read_bytes() for path in (here / "store").rglob("*") if path.is_file()}
    assert after == before
