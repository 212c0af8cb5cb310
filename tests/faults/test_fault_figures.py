"""A small part of the figures in `docs/reliability.md`; see `figures.py` for the whole."""

import figures


def test_cut_and_flipped_records_are_never_read() -> None:
    assert figures.truncations(50) >= 50
    assert figures.flipped_bits(200) == 200


def test_a_failing_or_killed_save_leaves_a_whole_record() -> None:
    assert figures.failing_operations((28,)) >= 20
    assert figures.killed_saves() >= 20


def test_processes_that_start_at_once_lose_nothing() -> None:
    assert figures.simultaneous_starters(20) == 20
