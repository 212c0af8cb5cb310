"""`vaebench run --dry-run`."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import RUN, Ask

from vaebench.records.store import Store


def test_a_dry_run_needs_no_place_for_a_report(here: Path, ask: Ask) -> None:
    Path("reports").write_text("in the way", encoding="utf-8")
    assert ask("run", "small.toml", "-o", "new", "--dry-run").code == 0
    assert ask("run", "small.toml", "-o", "new").code == 2


def test_a_dry_run_prints_the_plan_and_trains_nothing(here: Path, ask: Ask) -> None:
    answer = ask("run", "small.toml", "-o", "new", "--dry-run", "--jobs", "3")
    assert answer.code == 0
    assert answer.out.startswith("small: 6 cells\n")
    assert "sigma collapses for likelihood bernoulli" in answer.out
    assert "8 combinations become 6" in answer.out
    names = [line.strip() for line in answer.out.splitlines() if line.startswith("  digits-")]
    assert sorted(names) == sorted(Store(here / "store").states())
    assert "to do: 6 cells, roughly " in answer.out
    assert "3 jobs" in answer.out
    assert "MiB per job" in answer.out
    assert not Path("new").exists()
    assert "to do: nothing" in ask(*RUN, "--dry-run").out


def test_a_plan_of_ten_million_cells_is_refused(here: Path, ask: Ask) -> None:
    values = ",".join(map(str, range(1, 1001)))
    answer = ask(
        *("run", "small.toml", "--dry-run", "--set", f"latent_dim={values}"),
        *("--set", "seed=" + ",".join(map(str, range(3334)))),
    )
    assert answer.code == 2
    assert "at most 200,000 combinations; got 13,336,000" in answer.err


def test_a_plan_that_needs_more_memory_than_there_is_says_so(here: Path, ask: Ask) -> None:
    wide = (*RUN, "--dry-run", "--set", "hidden=[65536,65536,65536,65536]")
    needed = re.search(r"memory: 1 job may need up to ([\d,]+) MiB, and", ask(*wide, "-j1").out)
    assert needed is not None
    # Weights, gradients and Adam's two moments: four numbers of four bytes a weight.
    weights = 2 * 3 * 65_536**2
    assert float(needed[1].replace(",", "")) == pytest.approx(16 * weights / 2**20, rel=0.01)
    assert "--jobs" not in ask(*wide, "-j2").out, "fewer would not do"
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    width = int((0.7 * there / (16 * 2 * 3)) ** 0.5)
    one_fits = (*RUN, "--dry-run", "--set", f"hidden=[{width},{width},{width},{width}]")
    assert "memory" not in ask(*one_fits, "-j1").out
    assert "lower --jobs" in ask(*one_fits, "-j2").out
    assert "memory" not in ask(*RUN, "--dry-run", "--set", "seed=9").out


def test_a_plan_does_what_a_run_would_do_for_a_cell_that_lost_its_arrays(
    here: Path, ask: Ask
) -> None:
    shutil.copytree("store", "lossy")
    (lost, *_) = Path("lossy/cells").glob("*/arrays.npz")
    lost.unlink()
    plan = ask("run", "small.toml", "-o", "lossy", "--dry-run").out
    assert f"\n  {lost.parent.name}\n" in plan
    assert "to do: 1 cell, roughly" in plan


def test_set_takes_the_place_of_an_axis(here: Path, ask: Ask) -> None:
    answer = ask(*RUN, "--dry-run", "--set", "sigma=0.7,learned", "--set", "seed=3")
    names = [line.strip() for line in answer.out.splitlines() if line.startswith("  digits-")]
    starts = ("digits-bernoulli-z2-seed3", "digits-gaussian-s0.7-z2", "digits-gaussian-learned-z2")
    assert len(names) == 3
    assert all(name.startswith(start) for name, start in zip(names, starts, strict=True))


def test_notes_on_a_base_that_other_blocks_still_use_are_left_out(ask: Ask) -> None:
    assert "replaces" not in ask("run", "tiny", "--dry-run").out


def test_labels_of_one_class_are_reported_before_anything_is_trained(here: Path, ask: Ask) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (2, 300, 4, 4), np.uint8)
    ones = np.ones(300, int)
    np.savez(here / "one.npz", train=grey[0], test=grey[1], train_labels=ones, test_labels=ones)
    words = ("run", "tiny", "--set", "dataset=./one.npz", "--set", "likelihood=gaussian")
    for further in (["--dry-run"], ["--no-report", "-o", "store"]):
        answer = ask(*words, *further)
        assert answer.code == 0, answer.text
        assert answer.text.count("one.npz: all training labels are one class") == 1, answer.text
