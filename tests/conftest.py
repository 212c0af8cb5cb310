"""What all tests share."""

import pytest


@pytest.fixture(autouse=True)
def no_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are printed whole, however wide the terminal is that the tests are started from."""
    monkeypatch.delenv("COLUMNS", raising=False)
