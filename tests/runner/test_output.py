"""What cells print: some of it is passed on, a flood is not."""

import sys

import pytest

from vaebench.runner.output import capped_output


def test_a_few_lines_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    with capped_output():
        print("shapes:", (3, 4))
        print("beware", file=sys.stderr)
    assert capsys.readouterr() == ("shapes: (3, 4)\n", "beware\n")


def test_a_flood_is_cut_off_and_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    with capped_output():
        for step in range(100_000):
            print("step", step)
        print("standard error has room of its own", file=sys.stderr)
    print("after")
    out, err = capsys.readouterr()
    assert out.startswith("step 0\nstep 1\n")
    assert len(out) < 5_000
    assert out.endswith("\n... the rest of what this pack prints is left out\nafter\n")
    assert err == "standard error has room of its own\n"


def test_each_cell_has_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with capped_output():
            print("x" * 10_000)
    assert capsys.readouterr().out.count("is left out") == 2
