"""`vaebench advise`: what it searches, what it leaves, and what it refuses."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import Ask

import vaebench
from vaebench.records.store import Store
from vaebench.runner.advise import advise, candidates

SMALL = ("hidden=[32]", "latent_dim=2,4", "learning_rate=0.01", "likelihood=gaussian", "epochs=16")
OPTIONS = [word for text in (*SMALL, "sigma=0.2,1") for word in ("--set", text)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_search_ends_with_a_recommendation_and_continues_from_its_records(ask: Ask) -> None:
    words = ("advise", "digits", "--time", "60s", "-j", "1", *OPTIONS, "-o", "store", "--json")
    answer = ask(*words, "--report-dir", "page")
    assert answer.code == 0, answer.text
    found = json.loads(answer.out)
    assert found["purpose"] == "bits"
    assert found["recommendation"]["design"]["sigma"] == 0.2
    assert found["recommendation"]["metric"] == "bits_per_dim"
    assert Path(found["report"]).is_file()
    assert "leads, " in answer.err
    # Ordinary records: the finalists in the store, with selection images, the others in `search`.
    frame = vaebench.load_results("store")
    assert set(frame["epochs"]) == {16}
    assert frame["bits_per_dim_selection"].notna().all()
    assert frame["seed"].nunique() >= 3
    early = set(vaebench.load_results("store/search")["epochs"])
    assert min(early) == 1  # one epoch tells what a trial costs
    assert max(early) < 16
    before = {root: len(Store(root).states()) for root in ("store", "store/search")}
    again = json.loads(ask(*words, "--no-report").out)
    assert again["recommendation"]["label"] == found["recommendation"]["label"]
    after = {root: len(Store(root).states()) for root in before}
    assert after == before if found["settled"] else after >= before


def test_a_stopped_search_keeps_its_records(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no SIGTERM")
    words = ["advise", "digits", "-j", "1", *OPTIONS, "-o", "store", "--set", "epochs=4000"]
    words[words.index("epochs=16") - 1 : words.index("epochs=16") + 1] = []
    process = subprocess.Popen([sys.executable, "-m", "vaebench", *words], cwd=tmp_path)
    while not list(tmp_path.glob("store/search/cells/*/record.json")):
        assert process.poll() is None
        time.sleep(0.2)
    process.terminate()
    assert process.wait(60) == 143
    assert Store(tmp_path / "store" / "search").states()


def test_a_dry_run_lists_the_designs_and_writes_nothing(ask: Ask) -> None:
    answer = ask("advise", "digits", "--dry-run", *OPTIONS)
    assert answer.code == 0
    assert "4 designs to search" in answer.out
    assert len([line for line in answer.out.splitlines() if line.startswith("  gaussian")]) == 4
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nothing-there"], 2, "not 'nothing-there'"),
        (["digits", "--time", "soon"], 2, "20m"),
        (["digits", "--time", "0s"], 2, "20m"),
        (["digits", "--for", "luck"], 2, "bits"),
        (["digits", "--for", "samples"], 2, "--for bits"),
        (["linear-gaussian", "--for", "bits"], 2, "--for bound"),
        (["digits", "--set", "seed=1"], 2, "must not be set"),
        (["digits", "--set", "epochs=2,4"], 2, "one number"),
        (["digits", "--set", "device=available"], 2, "one device"),
        (["digits", "--set", "latent_dim=0"], 2, "latent_dim"),
        (["digits", "--set", "likelihood=bernoulli"], 2, "17 grey levels"),
        (["digits", "--set", "valid_size=5000"], 2, "valid_size"),
    ],
)
def test_what_is_refused(ask: Ask, words: list[str], code: int, text: str) -> None:
    answer = ask("advise", *words)
    assert answer.code == code, answer.text
    assert text in answer.err
    assert not Path("results").exists()


def test_the_candidates_follow_from_the_data() -> None:
    """Families by support, latent sizes by the spectrum of pPCA, few enough for a search."""
    grey = candidates("digits")
    assert len(grey.cells) <= 60
    assert {c.likelihood for c in grey.cells} >= {"gaussian", "logistic", "categorical"}
    assert "bernoulli" not in {c.likelihood for c in grey.cells}
    assert min(c.latent_dim for c in grey.cells) >= 2
    assert max(c.latent_dim for c in grey.cells) <= 32
    (sigma,) = {c.sigma for c in grey.cells if isinstance(c.sigma, float)}
    assert 0.1 < float(sigma) < 0.3
    binary = candidates("digits", {"binarization": ["static"]})
    assert {c.likelihood for c in binary.cells} == {"bernoulli"}
    real = candidates("linear-gaussian")
    assert {c.likelihood for c in real.cells} >= {"gaussian", "student_t"}
    assert "categorical" not in {c.likelihood for c in real.cells}
    bound = candidates("digits", purpose="bound")
    assert "categorical" not in {c.likelihood for c in bound.cells}


def test_data_of_ones_own_as_arrays(rng_images: np.ndarray) -> None:
    lines: list[str] = []
    found = advise(
        data={"train": rng_images},
        output="own",
        time=30.0,
        jobs=1,
        overrides={
            "latent_dim": [2],
            "hidden": [[8]],
            "likelihood": ["gaussian"],
            "sigma": [0.2, 1.0],
            "learning_rate": [0.01],
            "epochs": [64],
            "batch_size": [32],
        },
        echo=lines.append,
    )
    assert found.recommendation is not None
    assert found.recommendation.design["likelihood"] == "gaussian"
    assert "bits per dim" in found.lines()[0]
    assert found._repr_html_().startswith("<p><strong>For bits")


@pytest.fixture
def rng_images() -> np.ndarray:
    """200 noisy images of one of two bars."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, size=(200, 8, 8))
    images[np.arange(200), rng.integers(0, 2, 200) * 4] += 200
    return images.astype(np.uint8)
