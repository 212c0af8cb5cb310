"""The report as a whole: a pure function of the records, self-contained, safe, never half-made."""

import base64
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn

import pytest
from synthetic import cells, diverged, failed, fill, record

from vaebench.errors import NothingToReport, UsageError
from vaebench.grid.cell import Cell
from vaebench.records.schema import Note
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
    records = [record(cell, grid=EVIL, warnings=[Note.of("data", EVIL)]) for cell in made[2:]]
    records += [diverged(made[0], EVIL), failed(made[1], EVIL)]
    root = fill(tmp_path_factory.mktemp("results") / "evil", records)
    torn = root / "cells" / records[-3].cell_id / "record.json"
    torn.write_bytes(torn.read_bytes()[:100])
    return root


@pytest.fixture(scope="module")
def page(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([store], tmp_path_factory.mktemp("reports") / "evil", figures=True)


def test_nothing_from_data_is_markup(page: Path) -> None:
    nodes = parsed(page)
    scripts = [attrs.get("type") for tag, attrs in nodes.found if tag == "script"]
    assert scripts == ["application/json", None, None, None, None]
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
    assert "http" not in policy
    text = page.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes]
    assert f"script-src {' '.join(allowed)};" in policy


def test_the_data_of_the_charts_cannot_end_their_script(page: Path) -> None:
    """A name of evil intent is data for the scripts, never markup."""
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert "<" not in data
    found = json.loads(data)
    tables = [found["tables"][chart["rows"]] for chart in found["charts"].values()]
    assert all(column["of"] for table in tables for column in table.values())
    assert {"elbo", "elbo_low"} <= set(tables[0])
    written = [json.dumps(table) for table in found["tables"]]
    assert len(set(written)) == len(written) < len(tables), "equal rows are on the page once"


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
        "write_report([sys.argv[1]], sys.argv[2], figures=True)"
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
    assert {Path(name).suffix for name in names} == {".png"}
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
    assert "There is only one seed" in parsed(write_report(root, tmp_path / "r")).text


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


def test_the_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        write_report(root, tmp_path / "thesis")
    for inside in (root, root / "report", tmp_path):
        with pytest.raises(UsageError, match="outside of the results"):
            write_report(root, inside)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_later_report_removes_its_own_old_files_only(tmp_path: Path) -> None:
    """Files of a user next to the page stay, whatever a manifest that was edited asks for."""
    made = cells(DESIGNS, sizes=[2, 8], seeds=1)
    root = fill(tmp_path / "results", [record(cell) for cell in made], pictures=False)
    page = write_report(root, tmp_path / "report", figures=True)
    own = page.parent / "figures" / "own.png"
    own.write_bytes(b"my own")
    (page.parent / "notes.txt").write_text("my own")
    (tmp_path / "outside.txt").write_text("my own")
    manifest = page.parent / "manifest.json"
    listed = json.loads(manifest.read_text())["files"]
    assert "index.html" in listed
    extra = ["../outside.txt", "notes.txt", str(tmp_path / "outside.txt"), "figures/..", 7]
    manifest.write_text(json.dumps({"files": [*listed, *extra, "tables/old.csv"]}))
    (page.parent / "tables" / "old.csv").write_text("of an older report")
    fewer = fill(tmp_path / "fewer", [record(made[0])], pictures=False)
    write_report(fewer, page.parent)
    assert own.read_bytes() == b"my own"
    assert (page.parent / "notes.txt").read_text() == "my own"
    assert (tmp_path / "outside.txt").read_text() == "my own"
    assert not (page.parent / "tables" / "old.csv").exists()
    now = json.loads(manifest.read_text())["files"]
    assert not (page.parent / "figures" / "training.png").exists() or "figures/training.png" in now
    assert {name for name in listed if not (page.parent / name).exists()} == set(listed) - set(now)
    assert set(listed) - set(now)


def test_a_report_writes_through_no_link(tmp_path: Path) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    page = write_report(root, tmp_path / "report", figures=True)
    (tmp_path / "mine").mkdir()
    shutil.rmtree(page.parent / "figures")
    (page.parent / "figures").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match="figures is a link"):
        write_report(root, page.parent)
    assert not list((tmp_path / "mine").iterdir())


def test_what_a_killed_report_left_is_removed_and_a_running_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, running = (tmp_path / f".report-{pid}-x" for pid in (ended.pid, os.getpid()))
    for folder in (left, running):
        folder.mkdir()
    write_report(root, tmp_path / "report")
    assert not left.exists()
    assert running.exists()


def test_the_page_is_moved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "results", [record(Cell())], pictures=False)
    moved: list[Path] = []
    replace = Path.replace

    def noted(path: Path, to: Path) -> Path:
        moved.append(Path(to))
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", noted)
    page = write_report(root, tmp_path / "report")
    assert moved[-2:] == [page, page.parent / "manifest.json"]


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
    monkeypatch.setattr(report, "_write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*page"):
        write_report(store, tmp_path / "page")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
