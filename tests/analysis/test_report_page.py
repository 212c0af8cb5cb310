"""The report as a whole: a pure function of the records, self-contained, safe, never half-made."""

import errno
import hashlib
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn

import pytest
from synthetic import cells, diverged, failed, fill, record

from vaebench.errors import NothingToReport
from vaebench.grid.cell import Cell
from vaebench.report import report
from vaebench.report.report import write_report

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)> {{ 7*7 }} {% raise %} javascript:'
DESIGNS = [{"likelihood": "gaussian", "sigma": "learned"}]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


class Nodes(HTMLParser):
    """Collects every element with its attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: Path) -> Nodes:
    nodes = Nodes()
    nodes.feed(page.read_text(encoding="utf-8"))
    return nodes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names and messages of evil intent, a diverged cell, a failed one, a damaged one."""
    made = cells(DESIGNS, sizes=[2, 8], seeds=3)
    records = [record(cell, grid=EVIL, warnings=[EVIL]) for cell in made[2:]]
    records += [diverged(made[0], EVIL), failed(made[1], EVIL)]
    root = fill(tmp_path_factory.mktemp("results") / "evil", records)
    torn = root / "cells" / records[-3].cell_id / "record.json"
    torn.write_bytes(torn.read_bytes()[:100])
    return root


@pytest.fixture(scope="module")
def page(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([store], tmp_path_factory.mktemp("reports") / "evil")


def test_nothing_from_data_is_markup(page: Path) -> None:
    nodes = parsed(page)
    assert "script" not in {tag for tag, _ in nodes.found}
    attributes = [(name, value) for _, attrs in nodes.found for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    assert not [
        value
        for name, value in attributes
        if name in ("src", "href") and value and value.startswith("javascript")
    ]
    assert "<script>alert(1)</script>" in nodes.text
    assert "{{ 7*7 }}" in nodes.text


def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    nodes = parsed(page)
    sources = [attrs["src"] or "" for tag, attrs in nodes.found if tag == "img"]
    assert len(sources) > 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not [tag for tag, _ in nodes.found if tag in ("link", "iframe", "object", "form")]
    for tag, attrs in nodes.found:
        if tag == "a" and not (attrs["href"] or "").startswith("#"):
            assert (page.parent / str(attrs["href"])).is_file(), attrs


def test_the_policy_allows_its_own_style_only(page: Path) -> None:
    (policy,) = [
        str(attrs["content"])
        for tag, attrs in parsed(page).found
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert " style=" not in page.read_text(encoding="utf-8")


def test_vector_figures_hold_no_markup_from_data(page: Path) -> None:
    for file in (page.parent / "figures").glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "onerror" not in text


def test_losses_and_damage_are_told(page: Path, store: Path) -> None:
    text = parsed(page).text
    assert "1 file is damaged and not used." in text
    assert "1 diverged" in text
    assert "1 failed" in text
    assert "div. 1/" in text


def test_the_same_records_give_the_same_bytes_anywhere(
    page: Path, store: Path, tmp_path: Path
) -> None:
    """Another process, locale, matplotlibrc, hash seed and display."""
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.labelpad: 30\nbackend: TkAgg\n")
    code = (
        "import sys, locale; locale.setlocale(locale.LC_ALL, ''); "
        "from vaebench.report.report import write_report; "
        "write_report([sys.argv[1]], sys.argv[2])"
    )
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    environment |= {"LC_ALL": "C", "PYTHONHASHSEED": "7", "NO_COLOR": "1", "TZ": "Asia/Tokyo"}
    environment.pop("DISPLAY", None)
    out = tmp_path / "elsewhere"
    command = [sys.executable, "-c", code, str(store), str(out)]
    subprocess.run(command, check=True, env=environment, timeout=200)
    assert digests(out) == digests(page.parent)


def test_files_are_where_the_contract_says(page: Path) -> None:
    folder = page.parent
    assert page.name == "index.html"
    names = {file.name for file in (folder / "figures").iterdir()}
    assert {Path(name).suffix for name in names} == {".png", ".svg", ".pdf"}
    assert "results.csv" in {file.name for file in (folder / "tables").iterdir()}
    assert {file.suffix for file in (folder / "tables").iterdir()} == {".csv", ".md", ".tex"}


def test_nothing_is_written_into_the_results(tmp_path: Path) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    before = digests(root)
    write_report(root, tmp_path / "report")
    assert digests(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "results"]


def test_no_record_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no such folder: .*nothing"):
        write_report(tmp_path / "nothing", tmp_path / "report")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(NothingToReport, match=r"vaebench run quick -o .*nothing`"):
        write_report(tmp_path / "nothing", tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["nothing"]


def test_only_failed_records_still_give_a_page(tmp_path: Path) -> None:
    root = fill(tmp_path / "results", [failed(Cell(), "out of memory")])
    text = parsed(write_report(root, tmp_path / "report")).text
    assert "No cell finished" in text
    assert "out of memory" in text


def test_one_seed_is_said_to_have_no_interval(tmp_path: Path) -> None:
    root = fill(tmp_path / "results", [record(c) for c in cells(DESIGNS, seeds=1)], pictures=False)
    assert "There is one seed, so no number" in parsed(write_report(root, tmp_path / "r")).text


def test_a_report_that_is_cut_short_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    page = write_report(root, tmp_path / "report")
    before = digests(page.parent)

    def stop(*_: object) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(report, "html", stop)
    with pytest.raises(OSError, match="no space left"):
        write_report(root, tmp_path / "report")
    assert digests(page.parent) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "results"]


def test_another_ones_folder_is_not_replaced(tmp_path: Path) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something else"):
        write_report(root, tmp_path / "thesis")
    for inside in (root, root / "report", tmp_path):
        with pytest.raises(ValueError, match="apart from the results"):
            write_report(root, inside)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_the_same_design_and_seed_in_two_stores_counts_once(tmp_path: Path) -> None:
    made = cells(DESIGNS, sizes=[2], seeds=2)
    first = fill(tmp_path / "a", [record(cell) for cell in made], pictures=False)
    other = record(made[0]).environment.model_copy(update={"processor": "M4"})
    second = fill(tmp_path / "b", [record(c, environment=other) for c in made], pictures=False)
    text = parsed(write_report([first, second], tmp_path / "report")).text
    assert "2 records repeat a design and a seed" in text
    assert text.count("Cost of training on") >= 2


def test_a_full_disk_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (cell,) = cells(DESIGNS, sizes=[2], seeds=1)
    store = fill(tmp_path / "store", [record(cell)])
    monkeypatch.setattr(report, "_build", full)
    with pytest.raises(OSError, match=r"No space left on device: .*page"):
        write_report(store, tmp_path / "page")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
