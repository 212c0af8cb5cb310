"""The exit codes of the command line, with the words that go with them."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import RUN, Ask, record_of

import vaebench
from vaebench.records.files import Files
from vaebench.records.store import Store

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
    ((*RUN, "--set", "seed=1", "--set", "seed=2"), "'seed' must be set only once"),
    ((*RUN, "--device", "cpu", "--set", "device=cuda"), "'device' must be set only once"),
    ((*RUN, "--device", "cpu", "--device", "cuda"), "--device must be given only once"),
    (("reproduce", "--device", "cpu", "--device", "cpu"), "--device must be given only once"),
    ((*RUN, "-j", "1", "--jobs", "2"), "--jobs must be given only once"),
    (("data", "list", "--data-dir", "a", "--data-dir", "b"), "--data-dir must be given only once"),
    ((*RUN, "--dry-run", "--json"), "cannot be used with --json"),
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
    (("compare", "store:sigma=0.1", "store:sigma=0.2"), "sigma there are 0.1, 0.3"),
    (("compare", "store", "store", "--metric", "elbow"), "did you mean 'elbo'"),
    (
        ("compare", "store:likelihood=bernoulli", "store:likelihood=gaussian"),
        "a density and a probability mass have different units",
    ),
    (("show", "nosuch"), "there is no folder nosuch"),
    (("show", "store", "cifar"), "exactly one record name in store; 'cifar' matches: none"),
    (("show", "store", "digits"), "'digits' matches: digits-"),
    (("list", "axs"), "'axs' is not one of 'grids', 'axes'"),
    (("doctor", "nosuch"), "there is no folder nosuch"),
    (("data", "verify", "mnits"), "data sets with files are mnist and fashion-mnist; got 'mnits'"),
    (("compare", "store:sigma=0.1,sigma=0.3", "store"), "sigma is given twice"),
    (("compare", "store:sigma=", "store"), "a selection must be DIR:axis=value; got 'sigma='"),
    (("audit", "--zoo", "--recon", "mse-sum"), "--recon cannot be used with --zoo"),
    (
        ("audit", "--loss", "m:f", "--latent", "2", "--sigma", "3"),
        "--sigma cannot be used with --loss",
    ),
    (("audit", "--recon", "mse-sum", "--x-shape", "1,2"), "--x-shape cannot be used with --recon"),
    (("audit", "--x-shape", "1,8", "--pixels", "9"), "--pixels cannot be used with --x-shape"),
    (("audit", "--zoo", "--peers"), "--peers cannot be used with --zoo"),
    (("audit", "--recon", "typo"), "; got 'typo'"),
    (("audit", "--recon", "mse-sum", "--pixels", "9", "--kl-weight", "1e300"), "1e-30 to 1e+30"),
    (("run", "small.toml", "--set", "seed=0..4"), "not '0..4'"),
    (("reproduce", "-o", "store", "--report-dir", "store/r"), "outside of the results"),
    (("reproduce", "--device", "nix"), "--device: must be one of cpu"),
    (("audit", "--x-shape", "1,b"), "--x-shape must be whole numbers separated by commas"),
    (("time", "--device", "gpu"), "--device: must be one of cpu, cuda, mps, available"),
    (("time", "--device", "cpu,cuda:x"), "not 'cuda:x' (did you mean 'cuda'?)"),
    (("time", "--latent-dim", "2,b"), "--latent-dim must be whole numbers separated by commas"),
    (("time", "--batch-size", "0"), "--batch-size must be numbers of at least 1; got '0'"),
    (("time", "--width", "70000"), "--width: must be a list of at most 16 whole numbers"),
    (("time", "--precision", "float16"), "--precision: must be one of float32, bfloat16"),
    (("time", "--pack", "2000"), "--pack: pack_size must be between 1 and 1000 cells; got 2000"),
    (("time", "--steps", "9"), "9 is not in the range x>=10"),
    (("time", "--seconds", "inf"), "seconds must be above 0 and finite; got inf"),
    (("time", "--seconds", "1", "--steps", "20"), "--seconds cannot be used with --steps"),
    (("time", "--no-report", "--report-dir", "r"), "cannot be used with --no-report"),
    ((*RUN, "--no-report", "--report-dir", "r"), "cannot be used with --no-report"),
    (("reproduce", "--no-report", "--report-dir", "r"), "cannot be used with --no-report"),
    (("time", "-o", "file"), "'file' is a file"),
    (("run", "tiny", "-o", ""), "name of the folder must not be empty"),
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
    assert "--time-limit must be a number of seconds" in answer.err


def test_a_folder_that_is_no_store_is_not_called_sound(here: Path, ask: Ask) -> None:
    Path("some").mkdir()
    answer = ask("doctor", "some")
    assert answer.code == 5
    assert "some is not a store" in answer.err


@pytest.mark.parametrize("words", [("run", "x.toml"), ("run", "x.toml", "--dry-run")])
def test_own_data_that_are_not_there_are_3(here: Path, ask: Ask, words: tuple[str, ...]) -> None:
    Path("x.toml").write_text('[base]\ndataset = "./photos.npz"\n', encoding="utf-8")
    answer = ask(*words)
    assert answer.code == 3
    assert "there is no data set './photos.npz'" in answer.err


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


def test_lost_arrays_are_made_again_by_the_next_run(here: Path, ask: Ask) -> None:
    lost = record_of(here / "store").with_name("arrays.npz")
    lost.unlink()
    told = ask("doctor", "store")
    assert told.code == 4
    assert "the next `vaebench run` trains the cell again" in told.text
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
    assert "cannot start: data sets are missing (mnist)" in answer.out.splitlines()[-1]
    assert "to do: " in answer.out
    assert "data mnist: not found; the run needs it: `vaebench data fetch mnist`" in answer.out


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
    assert "is not replaced" in ask(*RUN, "--dry-run").out
    assert record.read_bytes() == before


def test_a_busy_store_is_75_and_named(here: Path, ask: Ask) -> None:
    with Store(here / "store").writing():
        answer = ask(*RUN, "--set", "seed=5")
    assert answer.code == 75
    assert f"store is in use by process {os.getpid()}" in answer.err


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
    assert "No space left on device" in answer.err
    assert written in answer.err
    assert old.read_bytes() == before
    assert not [*old.parent.glob(".*.part"), *here.glob(".export-*"), *here.glob(".out-*")]


def test_ctrl_c_outside_a_run_is_130(here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(store: Store) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "check", stopped)
    answer = ask("doctor", "store")
    assert (answer.code, answer.out, answer.err.strip()) == (130, "", "vaebench: stopped")
