"""What a message advises is executed, and helps."""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from docs.local_mirror import local_mirror
from PIL import Image
from pydantic import ValidationError
from small_stores import BASE, small_grid

from vaebench.cli.main import main
from vaebench.grid.cell import Cell
from vaebench.grid.rules import DEPENDENCES, RULES
from vaebench.records.schema import Status
from vaebench.records.store import Store
from vaebench.runner.plan import lack_of_memory

TINY = [f"--set={axis}={value}".replace(" ", "") for axis, value in BASE.items()]
GRID = "\n".join(['name = "small"', "[base]", *(f"{a} = {v}" for a, v in BASE.items())])
RUN = ("run", "small.toml", "-o", "a store", "--no-report", "--jobs", "1")
Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """The exit code of a command and all that it printed, on one line."""

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(words))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(left.value.code or 0), " ".join((out + err).split())

    return call


@pytest.fixture
def here(finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a grid and its finished store, whose name has a space."""
    shutil.copytree(finished.root, tmp_path / "a store")
    seeds = "\n[axes]\nseed = [0, 1]\n"
    (tmp_path / "small.toml").write_text(GRID + seeds, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(text: str) -> list[str]:
    """The words after `vaebench` of the command that a message quotes."""
    (quoted,) = set(re.findall(r"`vaebench ([^`]*)`", text))
    return shlex.split(quoted)


def break_record(state: str) -> str:
    """Give a cell of `a store` a state as after a failure; returns its name."""
    store = Store("a store")
    name = next(iter(store.states()))
    with store.writing():
        record = store.read(name)
        status = Status(state=state, reason_code="error", reason="because")  # type: ignore[arg-type]
        store.write(record.model_copy(update={"status": status, "arrays_sha256": None}))
    return name


# --- records and stores --------------------------------------------------------------------------


def test_a_failed_cell_is_done_with_retry_failed(here: Path, ask: Ask) -> None:
    name = break_record("failed")
    for words in (RUN, ("doctor", "a store")):
        assert "--retry-failed" in ask(*words)[1]
    assert ask(*RUN, "--retry-failed")[0] == 0
    assert Store("a store").states()[name] == "done"


def test_the_next_run_trains_what_doctor_says(here: Path, ask: Ask) -> None:
    name = break_record("interrupted")
    assert f"the next run of the grid trains 1 cell: {name}" in ask("doctor", "a store")[1]
    code, text = ask(*RUN)
    assert (code, "1 cell run" in text) == (0, True)


def test_arrays_are_made_again_by_the_next_run(here: Path, ask: Ask) -> None:
    next(Path("a store").glob("cells/*/arrays.npz")).unlink()
    code, text = ask("doctor", "a store")
    assert (code, "next `vaebench run` trains the cell again" in text) == (4, True)
    assert ask(*RUN)[0] == 0
    assert ask("doctor", "a store")[0] == 0


def test_weights_are_kept_with_keep_weights(here: Path, ask: Ask) -> None:
    again = (*RUN, "--evaluate-again", "--set", "eval_samples=2")
    code, text = ask(*again)
    assert (code, "--keep-weights" in text) == (2, True)
    assert ask(*RUN, "--keep-weights")[0] == 0
    assert ask(*again)[0] == 0


def test_a_busy_store_is_waited_for(here: Path, ask: Ask) -> None:
    with (here / "a store" / ".lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, text = ask(*RUN)
        assert (code, "--wait" in text) == (75, True)
        threading.Timer(0.5, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
        begin = time.monotonic()
        assert ask(*RUN, "--wait")[0] == 0
        assert time.monotonic() - begin >= 0.4


def test_a_link_in_a_store_is_replaced_by_its_folder(here: Path, ask: Ask) -> None:
    Path("a store/cells").rename("elsewhere")
    Path("a store/cells").symlink_to(here / "elsewhere")
    code, text = ask(*RUN)
    assert (code, "replace the link by the folder" in text) == (2, True)
    Path("a store/cells").unlink()
    Path("elsewhere").rename("a store/cells")
    assert ask(*RUN)[0] == 0


def test_a_report_without_records_names_the_run_that_makes_some(here: Path, ask: Ask) -> None:
    Path("no records").mkdir()
    code, text = ask("report", "no records")
    assert code == 5
    single = [
        f"--set={word}"
        for word in ("seed=0", "likelihood=gaussian", "sigma=1.0", "posterior=diagonal")
    ]
    assert ask(*command(text), *TINY, *single, "--no-report", "--jobs=1")[0] in (0, 1)
    assert ask("report", "no records", "-o", "page")[0] == 0


def test_findings_without_cells_are_judged_by_the_command(here: Path, ask: Ask) -> None:
    words = ("--no-report", "--jobs", "1")
    assert ask("reproduce", "kl-closed-form", "-o", "some findings", *words)[0] == 0
    for asked, code in ((("show", "some findings"), 0), (("report", "some findings"), 5)):
        found, text = ask(*asked)
        assert found == code
        # One finding of pure mathematics contradicts the formula as it was printed.
        assert ask(*command(text), *words)[0] == 6


def test_a_report_after_a_stop_is_written_by_the_command(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench.runner.run import RunSummary

    def stopped(*_: object, **__: object) -> RunSummary:
        return RunSummary(finished={"a": "done"}, signal=2)

    with monkeypatch.context() as patched:
        patched.setattr("vaebench.runner.run.run", stopped)
        code, text = ask(*(word for word in RUN if word != "--no-report"))
    assert code == 130
    assert ask(*command(text))[0] == 0
    assert Path("reports/a store/index.html").is_file()


def test_times_of_packs_are_compared_after_runs_with_pack_1(here: Path, ask: Ask) -> None:
    ask(*(word.replace("a store", "packed") for word in RUN), "--pack", "2")
    compare = ("compare", "--metric", "train_seconds")
    code, text = ask(*compare, "a store", "packed")
    assert (code, "run both with --pack 1" in text) == (2, True)
    ask(*(word.replace("a store", "single") for word in RUN), "--pack", "1")
    assert ask(*compare, "a store", "single")[0] == 0


def test_a_long_temporary_folder_is_replaced(here: Path) -> None:
    long = here / ("x" * 100)
    long.mkdir()
    words = [sys.executable, "-m", "vaebench", *RUN, "--set", "seed=2"]
    for folder, code in ((str(long), 2), ("/tmp", 0)):  # noqa: S108 - as the message advises
        done = subprocess.run(
            words, env=os.environ | {"TMPDIR": folder}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert (code == 0) or "set TMPDIR to a shorter path, such as /tmp" in done.stderr


def test_fewer_jobs_need_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 2**20 if "PAGES" in name else 800)
    cells = small_grid().cells
    assert "lower --jobs" in str(lack_of_memory(cells, 64))
    assert lack_of_memory(cells, 1) is None


# --- the command line and grids ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "advised", "mended"),
    [
        ("rnu tiny", "'run'", "run tiny"),
        ("run quikc", "'quick'", "run quick"),
        ("run tiny --set latent_dmi=2", "'latent_dim'", "run tiny --set latent_dim=2"),
        ("run tiny --set likelihood=gausian", "'gaussian'", "run tiny --set likelihood=gaussian"),
        ("run tiny --set seed", "latent_dim=2,8", "run tiny --set latent_dim=2,8"),
        ("run tiny --set seed=1 --set seed=2", "seed=A,B", "run tiny --set seed=1,2"),
        ("run tiny --set hidden=128", "[128],[400]", "run tiny --set hidden=[128],[400]"),
        ("run tiny --set 'sigma=\"1e-3\"'", "without quotes", "run tiny --set sigma=1e-3"),
        ("run tiny --device cuda:x", "'cuda'", "run tiny --device cpu"),
        ("list findngs", "'findings'", "list findings"),
        ("reproduce nosuch", "vaebench list findings", "list findings"),
        ("audit --recon mse-sum", "--pixels", "audit --recon mse-sum --pixels 64 --latent 2"),
        ("audit --loss m:f", "--latent", "audit --recon mse-sum --pixels 64 --latent 2"),
        ("report 'a store' --columns kl", "--paper", "report 'a store' --columns kl --paper"),
        ("export 'a store' -o x.txt", ".csv", "export 'a store' -o x.csv"),
    ],
)
def test_what_the_command_line_advises_is_accepted(
    here: Path, ask: Ask, words: str, advised: str, mended: str
) -> None:
    code, text = ask(*shlex.split(words))
    assert (code, advised in text) == (2, True), text
    dry = ["--dry-run"] if mended.startswith("run") else []
    code, text = ask(*shlex.split(mended), *dry)
    assert code == 0, text


GOOD: dict[str, dict[str, object]] = {
    "set beta to 1": {"beta": 1.0},
    "the objective to elbo": {"objective": "elbo", "importance_samples": 1},
    "use diagonal or full": {"posterior": "diagonal", "sparsity": 0.0},
    "or elbo": {"objective": "elbo", "importance_samples": 1},
    "set binarization to none": {"binarization": "none"},
    "or binarization to none": {"binarization": "none"},
    "set dequantize to false": {"dequantize": False},
    "choose a density": {"likelihood": "gaussian"},
    "give hidden a size": {"hidden": [8]},
    'use architecture = "linear"': {"architecture": "linear"},
    "set the posterior to diagonal": {"posterior": "diagonal"},
    "set valid_size": {"valid_size": 100},
    "set channels to 1 or 3": {"channels": 3},
    "[height, width] or [channels, height, width]": {"shape": [8, 8]},
    "resize must be [height, width]": {"resize": [8, 8]},
    "need a density on the real line": {"likelihood": "gaussian"},
    "a likelihood of counts need each other": {"kind": "counts", "likelihood": "poisson"},
    "set beta_schedule to constant and free_bits to 0": {
        "beta_schedule": "constant",
        "free_bits": 0.0,
    },
    "objective to elbo": {"objective": "elbo", "importance_samples": 1},
    "give fewer cycles": {"beta_schedule": "cyclical:2"},
    "or more epochs": {"epochs": 40},
    "the posterior to diagonal and the prior to normal": {
        "posterior": "diagonal",
        "prior": "normal",
        "prior_components": 50,
    },
    "or free_bits to 0": {"free_bits": 0.0},
    "set the prior to normal": {"prior": "normal", "prior_components": 50},
    "or the posterior to diagonal": {"posterior": "diagonal"},
    "the prior to mixture": {"prior": "mixture"},
    "digits has 1,437": {"train_size": 1000, "valid_size": 0},
    "digits has 360": {"test_size": 360},
}
"""The words of a rule that advise something, and that as values of axes."""
BAD: list[dict[str, object]] = [
    {"objective": "iwae", "importance_samples": 5, "beta": 2.0},
    {"objective": "iwae", "posterior": "delta"},
    {"objective": "iwae", "importance_samples": 5, "free_bits": 0.1},
    {"beta_schedule": "cyclical:30", "epochs": 20},
    {"free_bits": 0.1, "posterior": "full"},
    {"posterior": "delta", "prior": "mixture"},
    {"posterior": "full", "prior": "vamp"},
    {"dataset": "linear-gaussian", "likelihood": "bernoulli"},
    {"dataset": "own.npz", "kind": "images", "likelihood": "poisson"},
    {"dataset": "own.npz", "kind": "real", "likelihood": "gaussian", "binarization": "dynamic"},
    {"dataset": "own.npz", "kind": "real", "likelihood": "gaussian", "dequantize": True},
    {"dataset": "own.npz", "shape": [64]},
    {"dataset": "own.npz", "crop": True},
    {"dataset": "linear-gaussian", "likelihood": "gaussian", "binarization": "dynamic"},
    {"dataset": "linear-gaussian", "likelihood": "gaussian", "dequantize": True},
    {"likelihood": "gaussian", "dequantize": True, "binarization": "dynamic"},
    {"likelihood": "bernoulli", "dequantize": True},
    {"hidden": []},
    {"architecture": "tutorial", "posterior": "full"},
    {"train_size": 5000},
    {"early_stopping": 2},
    {"dataset": "own.npz", "channels": 2},
    {"test_size": 5000},
]


def broken(values: dict[str, object]) -> set[str]:
    try:
        Cell.model_validate(values)
    except ValidationError as error:
        return {each["msg"] for each in error.errors()}
    return set()


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_an_impossible_combination_advises_is_possible(bad: dict[str, object]) -> None:
    (message,) = broken(bad)
    advised = {words: values for words, values in GOOD.items() if words in message}
    assert advised, message
    for words, values in advised.items():
        assert message not in broken(bad | values), words


def test_every_rule_has_its_advice_tried() -> None:
    said = [message for bad in BAD for message in broken(bad)]
    assert [rule.text for rule in RULES if not any(rule.text in each for each in said)] == []
    assert DEPENDENCES


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("advice", ["fetch", "add"])
def test_missing_files_are_found_after_the_advised_command(
    here: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, advice: str
) -> None:
    with local_mirror():
        monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        plan = ("run", "small.toml", "-o", "m", "--dry-run", "--set", "dataset=mnist")
        code, text = ask(*plan)
        assert code == 3
        (words,) = {each for each in re.findall(r"`vaebench ([^`]*)`", text) if advice in each}
        assert ask(*shlex.split(words.replace("PATH", "downloads")))[0] == 0
        assert ask(*plan)[0] == 0


GREY = np.arange(40 * 64).reshape(40, 8, 8) % 256
OWN: list[tuple[str, dict[str, object], dict[str, object]]] = [
    ("integers", {"train": GREY * 7}, {}),
    ("floats", {"train": GREY / 255}, {}),
    ("another range", {"train": GREY / 100}, {"range": "[0,1]"}),
    ("channels", {"train": GREY.astype(np.uint8)[:, None]}, {}),
]


@pytest.mark.parametrize(("arrays", "extra"), [each[1:] for each in OWN], ids=[o[0] for o in OWN])
def test_own_arrays_are_read_as_the_message_advises(
    here: Path, ask: Ask, arrays: dict[str, np.ndarray], extra: dict[str, str]
) -> None:
    np.savez("own.npz", **arrays)
    plan = ["run", "small.toml", "--dry-run", "--set=dataset=./own.npz", "--set=train_size=20"]
    plan += ["--set=test_size=5", "--set=batch_size=5", "--set=seed=0"]
    code, text = ask(*plan, *(f"--set={name}={value}" for name, value in extra.items()))
    if "layout" in text:
        advised = [("layout", "channels_first")]
    else:
        advised = re.findall(r"""(range|kind) = (\[[^]]*\]|["']\w+["'])""", text)
        advised = [each for each in advised if each[0] not in extra]
    assert (code, bool(advised)) == (2, True) or code == 3, text
    assert advised, text
    for axis, value in advised:
        word = value.strip("\"'").replace(" ", "")
        family = {"counts": "poisson", "real": "gaussian"}.get(word, "bernoulli")
        code, text = ask(*plan, f"--set={axis}={word}", f"--set=likelihood={family}")
        assert code == 0, text


def test_images_of_two_sizes_are_read_with_the_advised_size(here: Path, ask: Ask) -> None:
    for split in ("train", "test"):
        Path("photos", split).mkdir(parents=True)
        for number in range(30):
            size = (8, 9) if number == 5 else (10, 9)
            Image.new("L", size, number).save(f"photos/{split}/{number:02}.png")
    plan = ["run", "small.toml", "--dry-run", "--set=dataset=./photos", "--set=train_size=20"]
    plan += ["--set=test_size=5", "--set=batch_size=5", "--set=seed=0"]
    code, text = ask(*plan)
    assert code == 3
    size = re.search(r"set resize = (\[[^]]*\])", text)
    assert size is not None, text
    assert ask(*plan, f"--set=resize={size[1].replace(' ', '')}")[0] == 0


def tables(path: Path) -> None:
    path.mkdir()
    for part in "ab":
        pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=list("xyz")).to_parquet(
            path / f"{part}.parquet"
        )


def archive(path: Path) -> None:
    Path("inside/train").mkdir(parents=True)
    for number in range(40):
        Image.fromarray(GREY[number].astype(np.uint8)).save(f"inside/train/{number:02}.png")
    with tarfile.open(path, "w:gz") as file:
        file.add("inside/train", ".")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "x.npy": lambda path: np.save(path, GREY.astype(np.uint8)),
    "x.pt": lambda path: torch.save(torch.from_numpy(GREY.astype(np.uint8)), path),
    "x.pth": lambda path: torch.save(torch.from_numpy(GREY.astype(np.uint8)), path),
    "x.amat": lambda path: np.savetxt(path, GREY.reshape(40, 64) / 3),
    "x.txt": lambda path: np.savetxt(path, GREY.reshape(40, 64) / 3),
    "x.tsv": lambda path: pd.DataFrame(GREY[:, 0], columns=list("abcdefgh")).to_csv(
        path, sep="\t", index=False
    ),
    "x.mat": lambda path: scipy.io.savemat(path, {"faces": GREY.astype(np.uint8)}),
    "x.tgz": archive,
    "a folder of tables": tables,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_converted_by_the_line_that_is_advised(
    here: Path, ask: Ask, name: str
) -> None:
    FOREIGN[name](Path(name))
    plan = ["run", "small.toml", "--dry-run", "--set=train_size=20", "--set=test_size=5"]
    plan += ["--set=batch_size=5", "--set=seed=0"]
    code, text = ask(*plan, f"--set=dataset=./{name}")
    assert code == 3
    line = text.partition("convert it in Python: ")[2] or text.partition("one file: ")[2]
    line = line.replace("NAME OF THE ARRAY", "faces")
    names = {"np": np, "pd": pd, "torch": torch, "scipy": scipy, "shutil": shutil}
    exec(line, names)  # noqa: S102 - as a reader of the message does
    made = next(
        each for each in ("data.npz", "data.csv", "data.parquet", "data") if Path(each).exists()
    )
    text_of = {"x.amat", "x.txt", "x.tsv", "a folder of tables"}
    real = ["--set=kind=real", "--set=likelihood=gaussian"] if name in text_of else []
    code, text = ask(*plan, f"--set=dataset=./{made}", *real)
    assert code == 0, text
