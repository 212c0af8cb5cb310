"""`vaebench data`, and text from outside on the terminal."""

import gzip
from pathlib import Path

import pytest
from command_line import ROOT, RUN, Ask


def test_data_list_says_what_is_here(here: Path, ask: Ask) -> None:
    lines = ask("data", "list", "--data-dir", "nothing").out.splitlines()
    assert any(line.startswith("digits ") and "built in" in line for line in lines)
    assert any(line.startswith("mnist ") and "absent" in line for line in lines)


def test_data_add_refuses_what_is_not_mnist(here: Path, ask: Ask) -> None:
    folder = here / "downloads"
    folder.mkdir()
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{part}-ubyte.gz").write_bytes(gzip.compress(b"<html>not found</html>"))
    answer = ask("data", "add", "mnist", folder, "--data-dir", "mine")
    assert answer.code == 3
    assert ask("data", "add", "mnist", "nosuch", "--data-dir", "mine").code in (2, 3)
    assert not list(here.glob("mine/**/*ubyte"))


@pytest.mark.mnist
def test_data_add_and_verify_take_the_real_files(here: Path, ask: Ask) -> None:
    source = ROOT.parent / "shared/data/MNIST/raw"
    if not source.is_dir():
        pytest.skip("the MNIST files are not here")
    assert ask("data", "add", "mnist", source, "--data-dir", "mine").code == 0
    answer = ask("data", "verify", "mnist", "--data-dir", "mine")
    assert answer.code == 0
    assert answer.out.count(": OK") == 4


def test_no_control_character_reaches_the_terminal(here: Path, ask: Ask) -> None:
    bad = "\x1b]0;x\x07"
    Path("bad.toml").write_text('"\\u001b[2J" = 1\n[axes]\n"\\u001b[2J" = [1]\n')
    for words in (
        (f"run{bad}",),
        ("run", f"./{bad}.toml"),
        ("run", "bad.toml"),
        (*RUN, "--set", f"{bad}=1"),
        (*RUN, "--set", f"dataset={bad}"),
        ("show", "store", bad),
        ("show", f"no{bad}"),
        ("export", "store", "-o", f"x{bad}"),
        ("list", bad),
        ("data", "add", "mnist", bad),
    ):
        answer = ask(*words)
        assert answer.code != 0
        assert "\x1b" not in answer.text, words
