"""Records to write: one cell's, one fact's, and a store in an empty folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import cell_record

from vaebench.records.schema import CellRecord, FactRecord
from vaebench.records.store import Store

RecordFactory = Callable[..., CellRecord]


@pytest.fixture
def make_record() -> RecordFactory:
    return cell_record


@pytest.fixture
def fact() -> FactRecord:
    return FactRecord(kind="finding", record_id="kl-closed-form", payload={"gap": 1e-9, "n": [3]})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")
