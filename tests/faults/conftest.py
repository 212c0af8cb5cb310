"""A store with made-up records, and one of a small run."""

from pathlib import Path

import pytest
from small_stores import record, small_run

from vaebench.records.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the finished cells a, b and c."""
    made = Store(tmp_path / "store")
    with made.writing():
        for name in "abc":
            made.write(record(name))
    return made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the two finished cells of `small_grid`; tests copy it before they change it."""
    store = Store(tmp_path_factory.mktemp("finished") / "store")
    small_run(store)
    return store
