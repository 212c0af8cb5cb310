"""Records that are committed keep their identity, and records of every past version load.

``tests/golden/numerics`` holds one record of every version of the numerics in the history of
``results/reference``, byte for byte as it was written: POSTERIOR-VERSION.json, and a timing. All
of them have schema 1; ``tests/golden/record-SCHEMA.json`` has one record of each schema.
"""

import json
from pathlib import Path

import pytest

import vaebench
from vaebench.grid.cell import NUMERICS_VERSION, cell_id
from vaebench.records.schema import CellRecord, FactRecord, from_text

ROOT = Path(__file__).parents[2]
COMMITTED = sorted(ROOT.glob("results/reference/*/cells/*/record.json"))
GOLDEN = sorted((ROOT / "tests" / "golden" / "numerics").glob("*.json"))
CELLS = [path for path in GOLDEN if not path.stem.startswith("timing")]


def read(path: Path) -> CellRecord:
    record = from_text(path.read_bytes())
    assert isinstance(record, CellRecord)
    return record


def test_the_id_of_every_committed_record_is_computed_again() -> None:
    """A changed default, axis or checksum would orphan every record that users have.

    A raise of NUMERICS_VERSION fails here too: the reference stores must then be made again.
    """
    assert len(COMMITTED) >= 195
    records = [(path.parent.name, read(path)) for path in COMMITTED]
    different = {
        name: computed
        for name, record in records
        if record.data is None
        or (computed := cell_id(record.cell, record.data.checksum, record.network_sha256)) != name
        or record.cell_id != name
    }
    assert not different


@pytest.mark.parametrize("path", CELLS, ids=lambda path: path.stem)
def test_records_of_past_numerics_load_with_their_values(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posterior, version = path.stem.split("-")
    written = json.loads(path.read_bytes())
    record = read(path)
    assert record.data is not None
    assert record.cell.posterior == posterior
    target = tmp_path / "cells" / record.cell_id / "record.json"
    target.parent.mkdir(parents=True)
    target.write_bytes(path.read_bytes())
    frame = vaebench.load_results(tmp_path)
    assert len(frame) == 1
    (row,) = frame.to_dict("records")
    assert row["status"] == "done"
    assert row["outdated"] == (int(version) < NUMERICS_VERSION[record.cell.posterior])
    measured = {k: m["value"] for k, m in written["metrics"].items() if m["value"] is not None}
    assert len(measured) >= 10
    assert {name: row[name] for name in measured} == measured
    monkeypatch.setitem(NUMERICS_VERSION, posterior, int(version))
    assert cell_id(record.cell, record.data.checksum) == record.cell_id


def test_there_is_a_golden_record_of_every_version() -> None:
    versions = {
        f"{posterior}-{version}"
        for posterior, newest in NUMERICS_VERSION.items()
        for version in range(1, newest + 1)
    }
    assert versions <= {path.stem for path in GOLDEN}


def test_a_timing_of_the_first_revision_loads() -> None:
    path = ROOT / "tests" / "golden" / "numerics" / "timing-1.json"
    record = from_text(path.read_bytes())
    assert isinstance(record, FactRecord)
    assert record.kind == "timing"
    assert record.payload["step_ms_median"] == 368.6317499996221
