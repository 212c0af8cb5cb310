"""The command line as a person meets it: exit codes, messages, help, and what it prints."""

import errno
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import vaebench
from vaebench.cli.main import cli, main
from vaebench.records.files import Files
from vaebench.records.store import Store
from vaebench.system.terminal import printable

ROOT = Path(__file__).parents[2]
SMALL = """
name = "small"
[base]
train_size = 200
test_size = 50
hidden = [8]
latent_dim = 2
epochs = 1
tsne_points = 0
[axes]
likelihood = ["bernoulli", "gaussian"]
sigma = [0.1, 0.3]
seed = [0, 1]
"""
LISTS = ("grids", "axes", "likelihoods", "datasets", "metrics", "findings")


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Call the command line in this process; every way out is an exit code."""

    def call(*words: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        code = left.value.code
        assert isinstance(code, int)
        answer = Answer(code, *capsys.readouterr())
        assert "Traceback" not in answer.text
        return answer

    return call


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grid file, and its store of six finished cells."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["run", f"{folder}/small.toml", "-o", f"{folder}/store", "--no-report"])
    assert left.value.code == 0
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of one test: its own copy, without data files anywhere."""
    folder = tmp_path / "here"
    shutil.copytree(home, folder)
    (folder / "empty").mkdir()
    (folder / "file").touch()
    (folder / "bad.toml").write_text("axes = [", encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    return folder


def record_of(store: Path, place: int = 0) -> Path:
    return sorted(store.glob("cells/*/record.json"))[place]


# --- the table of exit codes ---------------------------------------------------------------------

RUN = ("run", "small.toml", "-o", "store")
USAGE: list[tuple[tuple[str, ...], str]] = [
    (("rnu",), "no command 'rnu'. Did you mean 'run'?"),
    (("data", "fetsch"), "Did you mean 'fetch'?"),
    (("run", "--dryrun"), "No such option"),
    (("run", "quikc"), "did you mean 'quick'"),
    (("run", "./nosuch.toml"), "./nosuch.toml: the grid file cannot be read: No such file"),
    (("run", "bad.toml"), "bad.toml: is not valid TOML"),
    ((*RUN, "--set", "latent_dmi=2"), "unknown axis (did you mean 'latent_dim'?)"),
    ((*RUN, "--set", "sigma=0"), "--set sigma[0]: must be a number above 0"),
    ((*RUN, "--set", 'sigma="1e-3"'), "not '1e-3'; write the number without quotes"),
    ((*RUN, "--set", "latent_dim=0"), "--set latent_dim[0]: must be a whole number from 1"),
    ((*RUN, "--set", "likelihood=gausian"), "not 'gausian' (did you mean 'gaussian'?)"),
    ((*RUN, "--set", "seed"), "must be axis=value"),
    ((*RUN, "--set", "seed=1", "--set", "seed=2"), "'seed' is set twice"),
    ((*RUN, "--device", "cpu", "--set", "device=cuda"), "'device' is set twice"),
    ((*RUN, "--device", "cpu", "--device", "cuda"), "--device is given twice"),
    (("reproduce", "--device", "cpu", "--device", "cpu"), "--device is given twice"),
    ((*RUN, "-j", "1", "--jobs", "2"), "--jobs is given twice"),
    (("data", "list", "--data-dir", "a", "--data-dir", "b"), "--data-dir is given twice"),
    ((*RUN, "--dry-run", "--json"), "leave out --json"),
    ((*RUN, "--device", "gpu"), "must be one of cpu, cuda, mps, available, or cuda:N, not 'gpu'"),
    ((*RUN, "--device", "cuda:x"), "not 'cuda:x' (did you mean 'cuda'?)"),
    ((*RUN, "--jobs", "0"), "0 is not in the range x>=1"),
    ((*RUN, "--pack", "0"), "0 is not in the range x>=1"),
    (("run", "small.toml", "-o", "file"), "'file' is a file"),
    (("run", "small.toml", "-o", "file/store"), "Not a directory (ENOTDIR): file/store"),
    (("report", "nosuch"), "there is no folder nosuch"),
    (("report", "store", "-o", "store/report"), "store"),
    (("report", "store", "-o", "file/report"), "file"),
    (("export", "store", "-o", "x.txt"), "a .csv or .parquet file; got 'x.txt'"),
    (("export", "store", "-o", "nosuch/x.csv"), "there is no folder nosuch to write x.csv to"),
    (("export", "nosuch", "-o", "x.csv"), "there is no folder nosuch"),
    (("compare", "store", "nosuch"), "there is no folder nosuch"),
    (("compare", "store:sigma=0.1", "store:sigma=0.2"), "sigma are 0.1, 0.3"),
    (("compare", "store", "store", "--metric", "elbow"), "did you mean 'elbo'"),
    (
        ("compare", "store:likelihood=bernoulli", "store:likelihood=gaussian"),
        "a density and a probability mass have different units",
    ),
    (("show", "nosuch"), "there is no folder nosuch"),
    (("show", "store", "cifar"), "CELL must name one record of store; 'cifar' fits: none"),
    (("show", "store", "digits"), "'digits' fits: digits-"),
    (("list", "axs"), "'axs' is not one of 'grids', 'axes'"),
    (("doctor", "nosuch"), "there is no folder nosuch"),
    (("data", "verify", "mnits"), "data sets of files are mnist and fashion-mnist; got 'mnits'"),
    (("compare", "store:sigma=0.1,sigma=0.3", "store"), "has one value of an axis; sigma has two"),
    (("compare", "store:sigma=", "store"), "a selection is DIR:axis=value; got 'sigma='"),
    (("audit", "--zoo", "--recon", "mse-sum"), "with --zoo leave out --recon"),
    (("audit", "--loss", "m:f", "--latent", "2", "--sigma", "3"), "with --loss leave out --sigma"),
    (("audit", "--recon", "mse-sum", "--x-shape", "1,2"), "with --recon leave out --x-shape"),
    (("audit", "--x-shape", "1,8", "--pixels", "9"), "with --x-shape leave out --pixels"),
    (("audit", "--zoo", "--peers"), "with --zoo leave out --peers"),
    (("audit", "--recon", "typo"), "No reconstruction is called 'typo'"),
    (("audit", "--recon", "mse-sum", "--pixels", "9", "--kl-weight", "1e300"), "1e-30 to 1e+30"),
    (("run", "small.toml", "--set", "seed=0..4"), "not '0..4'"),
    (("reproduce", "-o", "store", "--report-dir", "store/r"), "outside of the results"),
    (("reproduce", "--device", "nix"), "--device: must be one of cpu"),
    (("audit", "--x-shape", "1,b"), "--x-shape is whole numbers with commas; got '1,b'"),
    (("time", "--device", "gpu"), "--device: must be one of cpu, cuda, mps, available"),
    (("time", "--device", "cpu,cuda:x"), "not 'cuda:x' (did you mean 'cuda'?)"),
    (("time", "--latent-dim", "2,b"), "--latent-dim takes whole numbers with commas"),
    (("time", "--batch-size", "0"), "--batch-size takes numbers from 1; got '0'"),
    (("time", "--width", "70000"), "--width: must be a list of at most 16 whole numbers"),
    (("time", "--precision", "float16"), "--precision: must be one of float32, bfloat16"),
    (("time", "--pack", "2000"), "--pack: a pack holds 1 to 1000 cells; got 2000"),
    (("time", "--steps", "9"), "9 is not in the range x>=10"),
    (("time", "--seconds", "inf"), "seconds must be above 0 and finite; got inf"),
    (("time", "--seconds", "1", "--steps", "20"), "--seconds and --steps both set"),
    (("time", "--no-report", "--report-dir", "r"), "--no-report omits it"),
    ((*RUN, "--no-report", "--report-dir", "r"), "--no-report omits it"),
    (("reproduce", "--no-report", "--report-dir", "r"), "--no-report omits it"),
    (("time", "-o", "file"), "'file' is a file"),
    (("run", "tiny", "-o", ""), "a folder's name must not be empty"),
    (("time", "-o", "file/store"), "Not a directory (ENOTDIR): file/store"),
]


@pytest.mark.parametrize(("words", "message"), USAGE, ids=lambda value: " ".join(value)[-40:])
def test_misuse_leaves_with_2_and_says_what_was_meant(
    here: Path, ask: Ask, words: tuple[str, ...], message: str
) -> None:
    before = sorted(str(path) for path in here.rglob("*"))
    answer = ask(*words)
    printed = [line for line in answer.out.splitlines() if not line.startswith("note: ")]
    assert (answer.code, printed) == (2, [])
    assert message in " ".join(answer.err.split())
    assert sorted(str(path) for path in here.rglob("*")) == before, "nothing was started"


def test_all_problems_of_a_grid_file_are_told_at_once(here: Path, ask: Ask) -> None:
    Path("wrong.toml").write_text(
        'nmae = "x"\n[base]\nsigma = "1e-3"\n[axes]\nlatent_dmi = [2]\nlikelihood = ["gausian"]\n',
        encoding="utf-8",
    )
    answer = ask("run", "wrong.toml")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 4
    for meant in ("did you mean 'name'", "without quotes", "'latent_dim'", "'gaussian'"):
        assert meant in answer.err


def test_a_folder_that_the_system_refuses_is_2_before_anything_starts(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(files: Files, path: Path) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Files, "open_lock", refuse)
    answer = ask("run", "small.toml", "-o", "new")
    assert answer.code == 2
    assert "Permission denied (EACCES): new/.lock" in answer.err


def test_an_unreadable_results_folder_is_2(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(files: Files, folder: Path) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(Files, "names", refuse)
    for words in (("report", "store"), ("show", "store"), ("doctor", "store"), RUN):
        answer = ask(*words)
        assert answer.code == 2
        assert "the results folder: Permission denied (EACCES)" in answer.err


def test_absent_mnist_is_3_with_the_two_ways_out(here: Path, ask: Ask) -> None:
    answer = ask(*RUN, "--set", "dataset=mnist", "--no-report")
    assert answer.code == 3
    assert "vaebench data fetch mnist" in answer.err


def test_findings_without_their_data_are_3_with_the_two_ways_out(here: Path, ask: Ask) -> None:
    answer = ask("reproduce", "latent-three", "--budget", "full", "--no-report", "-o", "claims")
    assert answer.code == 3
    assert "(mnist was not found: no folder has its four files (raw or .gz))\n" in answer.out
    assert "data fetch mnist" in answer.err
    # Mathematics needs none.
    both = ask("reproduce", "latent-three", "lambda-absorbed", "--budget", "full", "--no-report")
    assert both.code == 0
    assert "data fetch mnist" in both.err


def test_verifying_absent_mnist_is_3_with_the_two_ways_out(here: Path, ask: Ask) -> None:
    answer = ask("data", "verify", "mnist")
    assert answer.code == 3
    for told in ("cache/vaebench/MNIST/raw", "data fetch mnist", "data add mnist PATH"):
        assert told in answer.err


def test_a_time_limit_that_is_no_number_is_2(here: Path, ask: Ask) -> None:
    answer = ask(*RUN, "--time-limit", "nan", "--dry-run")
    assert answer.code == 2
    assert "--time-limit is a number of seconds" in answer.err


def test_a_folder_that_is_no_store_is_not_called_sound(here: Path, ask: Ask) -> None:
    Path("some").mkdir()
    answer = ask("doctor", "some")
    assert answer.code == 5
    assert "some is not a store: it holds no records" in answer.err


@pytest.mark.parametrize("words", [("run", "x.toml"), ("run", "x.toml", "--dry-run")])
def test_own_data_that_are_not_there_are_3(here: Path, ask: Ask, words: tuple[str, ...]) -> None:
    Path("x.toml").write_text('[base]\ndataset = "./photos.npz"\n', encoding="utf-8")
    answer = ask(*words)
    assert answer.code == 3
    assert "there is no './photos.npz'" in answer.err


def test_an_absent_device_is_recorded_and_leaves_with_1(here: Path, ask: Ask) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    words = ("run", "small.toml", "-o", "cuda", "--device", "cuda", "--set", "seed=0")
    plan = ask(*words, "--dry-run")
    assert plan.code == 1
    assert "device cuda: unavailable, " in plan.out
    assert "would record 3 cells as unavailable" in plan.out.splitlines()[-1]
    answer = ask(*words, "--no-report")
    assert answer.code == 1
    assert "cells: 3 unavailable" in answer.out
    states = Store(here / "cuda").states()
    assert set(states.values()) == {"unavailable"}
    assert all("cuda" in name for name in states)


@pytest.mark.parametrize(
    "words",
    [
        ("report", "empty"),
        ("report",),
        ("show", "empty"),
        ("export", "empty", "-o", "x.csv"),
    ],
)
def test_nothing_to_report_on_is_5(here: Path, ask: Ask, words: tuple[str, ...]) -> None:
    answer = ask(*words)
    assert answer.code == 5
    assert "there is no record" in answer.err


def test_a_damaged_record_is_named_with_4_and_trained_again(here: Path, ask: Ask) -> None:
    record = record_of(here / "store")
    record.write_bytes(record.read_bytes()[:-9])
    judged = ("reproduce", "latent-dim", "--no-train", "--no-report", "-o", "store")
    written = ("export", "store", "-o", "table.csv")
    against = ("compare", "store:sigma=0.1", "store:sigma=0.3")
    read = [("doctor", "store"), ("report", "store"), ("show", "store"), judged, written, against]
    for words in read:
        answer = ask(*words)
        assert answer.code == 4, words
        assert f"store/cells/{record.parent.name}/record.json: damaged" in answer.text
    assert ask("show", "store", record.parent.name).code == 4
    answer = ask(*RUN, "--no-report")
    assert answer.code == 4
    assert "1 cell run" in answer.out
    assert list((here / "store/.quarantine").glob("*record.json"))
    assert ask("doctor", "store").code == 0
    assert ask(*RUN, "--no-report").code == 0


def test_lost_arrays_are_made_anew_by_the_next_run(here: Path, ask: Ask) -> None:
    lost = record_of(here / "store").with_name("arrays.npz")
    lost.unlink()
    told = ask("doctor", "store")
    assert told.code == 4
    assert "the next `vaebench run` makes it anew" in told.text
    answer = ask(*RUN, "--no-report")
    assert (answer.code, "1 cell run" in answer.out) == (0, True)
    assert lost.exists()
    assert ask("doctor", "store").code == 0


def wrong_mnist(folder: Path) -> None:
    """Files of MNIST's names, and of nothing else of it."""
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").write_bytes(b"junk")


def test_files_of_the_wrong_content_are_3_before_anything_starts(here: Path, ask: Ask) -> None:
    wrong_mnist(here / "data")
    small = ("--set", "latent_dim=2", "--set", "seed=0")
    answer = ask("run", "latent-dim", *small, "-o", "mnist", "--data-dir", "data")
    assert answer.code == 3
    assert answer.err.count("it holds 4\n") == 4, "all four files at once"
    assert "`vaebench data fetch mnist` downloads the right files" in answer.err
    assert not Path("mnist").exists()


def test_a_plan_needs_no_images_and_says_that_a_run_does(here: Path, ask: Ask) -> None:
    answer = ask("run", "latent-dim", "--dry-run")
    assert answer.code == 3
    assert "cannot start: data are missing (mnist)" in answer.out.splitlines()[-1]
    assert "to do: " in answer.out
    assert "data mnist: not found, and a run needs it: `vaebench data fetch mnist`" in answer.out


@pytest.mark.parametrize(
    ("arrays", "settings", "code", "words"),
    [
        ({"test": np.ones((9, 5, 4), np.uint8)}, {}, 3, "test"),
        ({}, {"test_size": 10}, 2, "test_size: asks for 10, and own.npz has 9 images"),
        ({}, {"train_size": 21}, 2, "train_size: train_size and valid_size ask for more"),
        ({}, {"batch_size": 30}, 2, "batch_size: must not exceed the 20 training images"),
    ],
    ids=["another shape", "test size", "train size", "batch size"],
)
def test_own_data_are_checked_with_the_plan(
    here: Path,
    ask: Ask,
    arrays: dict[str, object],
    settings: dict[str, object],
    code: int,
    words: str,
) -> None:
    draw = np.random.default_rng(0)
    sound = {
        name: draw.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        for name, count in (("train", 20), ("test", 9))
    }
    np.savez("own.npz", **(sound | arrays))  # type: ignore[arg-type]  # numpy's stub: allow_pickle
    sizes = {"dataset": "own.npz", "train_size": 20, "test_size": 9, "batch_size": 5} | settings
    options = [word for axis, value in sizes.items() for word in ("--set", f"{axis}={value}")]
    answer = ask("run", "small.toml", "-o", "own", *options, "--dry-run")
    assert answer.code == code, answer.text
    assert words in answer.err


OWN = """
from torch import nn

def networks(image_shape, latent_dim, encoder_width, decoder_width):
    flat = image_shape[0] * image_shape[1] * image_shape[2]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(flat, encoder_width))
    return encoder, nn.Linear(latent_dim, decoder_width)
"""


def test_a_network_of_ones_own_is_found_in_the_working_folder(here: Path, ask: Ask) -> None:
    Path("mine_of_test_cli.py").write_text(OWN, encoding="utf-8")
    one = ("--set", "seed=0", "--set", "likelihood=bernoulli", "-o", "own", "--no-report")
    own = ("--set", "architecture=mine_of_test_cli:networks")
    assert ask("run", "small.toml", *one, *own).code == 0
    absent = ask("run", "small.toml", *one, "--set", "architecture=nomod:networks", "--dry-run")
    assert absent.code == 2
    assert "architecture: there is no module 'nomod' in the working folder" in absent.err
    slip = ask("run", "small.toml", *one, "--set", "architecture=mine_of_test_cli:network")
    assert slip.code == 2
    assert "has no function 'network' (did you mean 'networks'?)" in slip.err


def test_an_edited_network_is_another_architecture(here: Path, ask: Ask) -> None:
    file = Path("mine_of_test_editing.py")
    one = ("--set", "seed=0", "--set", "likelihood=bernoulli", "-o", "own", "--no-report")
    own = ("--set", "architecture=mine_of_test_editing:networks")
    for text in (OWN, OWN + "\n# edited\n"):
        file.write_text(text, encoding="utf-8")
        assert ask("run", "small.toml", *one, *own).code == 0
        only = vaebench.load_results("own")["network_sha256"].iloc[0][:6]
        if text == OWN:  # while there is one version, its name has no need of the digits
            sides = [f"own:architecture=mine_of_test_editing:networks@{only}"] * 2
            assert ask("compare", *sides).code == 0
    file.write_text("def networks(**_):\n    raise RuntimeError\n", encoding="utf-8")
    assert ask("run", "small.toml", *one, *own).code == 1
    whole = vaebench.load_results("own")
    assert whole["design"].nunique() == 3
    frame = whole[whole["status"] == "done"]
    names = sorted(frame["architecture"])
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"mine_of_test_editing:networks@[0-9a-f]{6}", name) for name in names)
    assert frame["design"].nunique() == 2
    shown = ask("show", "own").out
    assert all(name in shown for name in names)
    sides = [f"own:architecture={name}" for name in names]
    told = [
        line for line in ask("compare", *sides).out.splitlines() if line[:2] not in ("A:", "B:")
    ]
    assert any(all(name in line for name in names) for line in told)
    several = ask("compare", "own:architecture=mine_of_test_editing:networks", sides[0])
    assert several.code in (0, 2)
    assert "Traceback" not in several.text


def test_damage_alone_is_4_and_not_the_5_of_an_empty_store(here: Path, ask: Ask) -> None:
    for record in (here / "store/cells").glob("*/record.json"):
        record.write_bytes(b"")
    for words in (("report", "store"), ("export", "store", "-o", "table.csv")):
        assert ask(*words).code == 4, words
    assert not Path("table.csv").exists()


def test_reports_lie_as_results_do(here: Path, ask: Ask) -> None:
    """Two stores of one name never share a report."""
    for home in ("results/mine", "results/reference/mine", "apart/mine"):
        shutil.copytree(here / "store", home)
        assert ask("report", home).code == 0
    found = {str(page.parent) for page in Path("reports").rglob("index.html")}
    assert found == {"reports/mine", "reports/reference/mine"}


def test_a_folder_that_can_hold_no_report_is_2_before_anything_is_trained(
    here: Path, ask: Ask
) -> None:
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("keep", encoding="utf-8")
    answer = ask("run", "small.toml", "-o", "fresh", "--report-dir", "notes")
    assert answer.code == 2
    assert "holds something else" in answer.err
    assert not Path("fresh").exists()


def test_damaged_arrays_are_found(here: Path, ask: Ask) -> None:
    record_of(here / "store").with_name("arrays.npz").write_bytes(b"PK")
    answer = ask("doctor", "store")
    assert answer.code == 4
    assert "arrays.npz: arrays: " in answer.text


def test_the_record_of_a_newer_vaebench_is_left_alone_with_4(here: Path, ask: Ask) -> None:
    record = record_of(here / "store")
    newer = {**json.loads(record.read_bytes()), "schema": "vaebench/record/3"}
    record.write_text(json.dumps(newer), encoding="utf-8")
    before = record.read_bytes()
    for words in (("doctor", "store"), (*RUN, "--no-report")):
        answer = ask(*words)
        assert answer.code == 4
        assert "upgrade vaebench" in answer.text
    assert ask("doctor", "store").out.endswith("store: 1 of a newer vaebench\n")
    assert "left alone" in ask(*RUN, "--dry-run").out
    assert record.read_bytes() == before


def test_a_busy_store_is_75_and_named(here: Path, ask: Ask) -> None:
    with Store(here / "store").writing():
        answer = ask(*RUN, "--set", "seed=5")
    assert answer.code == 75
    assert f"process {os.getpid()} holds store" in answer.err


def test_storage_that_fails_during_a_run_is_4(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: Files, descriptor: int, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Files, "write", full)
        answer = ask("run", "small.toml", "-o", "full", "--set", "seed=0", "--jobs", "1")
    assert answer.code == 4
    assert "(ENOSPC)" in answer.err
    assert "bytes are free" in answer.err
    assert "3 left" in answer.out
    assert not list((here / "full").rglob("*.json"))
    assert ask("run", "small.toml", "-o", "full", "--set", "seed=0", "--no-report").code == 0


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (("export", "store", "-o", "table.csv"), "table.csv"),
        (("report", "store", "-o", "out"), "out"),
        (
            ("reproduce", "latent-dim", "--no-train", "-o", "store", "--report-dir", "page"),
            "page/findings.html",
        ),
    ],
)
def test_a_full_disk_is_4_and_says_what_could_not_be_written(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], written: str
) -> None:
    assert ask(*words).code in (0, 6)
    old = here / written if "." in written else here / written / "index.html"
    before = old.read_bytes()

    def full(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    answer = ask(*words)
    assert answer.code == 4
    assert f"{written}: No space left on device" in answer.err
    assert old.read_bytes() == before
    assert not [*old.parent.glob(".*.part"), *here.glob(".export-*"), *here.glob(".out-*")]


def test_ctrl_c_outside_a_run_is_130(here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(store: Store) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "check", stopped)
    answer = ask("doctor", "store")
    assert (answer.code, answer.out, answer.err.strip()) == (130, "", "vaebench: stopped")


# --- without torch -------------------------------------------------------------------------------

WITHOUT_TORCH = """
import contextlib, io, json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from vaebench.cli.main import main

codes = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(words)
        except SystemExit as left:
            codes.append(left.code)
print(json.dumps(codes))
"""


def test_what_trains_nothing_works_without_torch(here: Path) -> None:
    expected = {
        ("--help",): 0,
        ("--version",): 0,
        ("rnu",): 2,
        ("run", "small.toml", "--set", "sigma=0"): 2,
        ("run", "small.toml", "--dry-run"): 0,
        ("time", "--device", "gpu"): 2,
        **{("list", what): 0 for what in LISTS},
        ("report", "store"): 0,
        ("export", "store", "-o", "x.csv"): 0,
        ("show", "store"): 0,
        ("compare", "store:sigma=0.1", "store:sigma=0.3"): 0,
        ("doctor", "store"): 0,
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(list(expected))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout or "[]") == list(expected.values()), done.stderr


HEAVY = """
import sys
from vaebench.cli.main import main
try:
    main(["--help"])
except SystemExit:
    heavy = {"torch", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "pydantic"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_help_takes_less_than_a_third_of_a_second_of_cpu() -> None:
    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    begin = children()
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", "--help"], capture_output=True, text=True, check=True
    )
    assert "vaebench run" in done.stdout
    assert children() - begin < 0.3


# --- help and lists ------------------------------------------------------------------------------


def every_command() -> Iterator[tuple[str, ...]]:
    for name, command in cli.commands.items():
        yield (name,)
        yield from ((name, sub) for sub in getattr(command, "commands", {}))


@pytest.mark.parametrize("command", [(), *every_command()], ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(ask: Ask, command: tuple[str, ...], flag: str) -> None:
    answer = ask(*command, flag)
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: {' '.join(('vaebench', *command))} ")
    cut = [line for line in answer.out.partition("Commands:")[2].splitlines() if "..." in line]
    assert cut == []
    assert max(map(len, answer.out.splitlines())) <= 80


def test_version(ask: Ask) -> None:
    assert ask("--version").out.startswith("vaebench, version ")


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("grids", ["quick ", "full ", "tiny "]),
        ("axes", ["latent_dim ", "sigma ", "hidden ", "seed "]),
        ("likelihoods", ["bernoulli ", "gaussian ", "categorical "]),
        ("datasets", ["digits ", "mnist ", "linear-gaussian "]),
        ("metrics", ["elbo ", "bits_per_dim ", "peak_memory_mib "]),
    ],
)
def test_lists_have_a_line_for_each(ask: Ask, what: str, lines: list[str]) -> None:
    answer = ask("list", what)
    assert answer.code == 0
    found = answer.out.splitlines()
    for line in lines:
        assert sum(each.startswith(line) for each in found) == 1
    assert all(len(each) > len(each.split()[0]) + 5 for each in found)


def test_lists_carry_units_and_defaults_as_a_grid_file_writes_them(ask: Ask) -> None:
    assert "nats/image, higher is better" in ask("list", "metrics").out
    axes = ask("list", "axes").out
    assert "default [400]" in axes
    assert "None" not in axes


# --- timed training steps ------------------------------------------------------------------------

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
    with pytest.warns(UserWarning, match=r"not used of timings: 1 record, the first .*timing-new"):
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


# --- a store to read -----------------------------------------------------------------------------


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
    assert "not shown for lack of room: " in narrow


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
    again = json.loads(ask(*RUN, "--json").out)
    assert Path(again["report"]).is_file()


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


# --- data ----------------------------------------------------------------------------------------


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


# --- plans ---------------------------------------------------------------------------------------


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
    assert "give fewer with --jobs" in ask(*one_fits, "-j2").out
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


# --- terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [("σ 0.1 ± 0.2", "sigma 0.1 +- 0.2"), ("pixel²", "pixel^2"), ("数", "?"), ("plain", "plain")],
)
def test_what_a_terminal_lacks_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text, "ascii") == shown
    assert printable(text, "utf-8") == text


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("words", "told"),
    [(("list", "metrics"), b"pixel^2, lower is better"), (("show", "store"), b"sigma  ")],
    ids=["list", "show"],
)
def test_a_poor_terminal_gets_the_same_in_ascii(
    here: Path, words: tuple[str, ...], told: bytes
) -> None:
    poor = {**ASCII, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", *words],
        capture_output=True,
        env=os.environ | poor,
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    assert told in done.stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = f"'{sys.executable}' -m vaebench list axes | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("141", "")
