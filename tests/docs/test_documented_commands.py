"""Every fenced block of README.md, CONTRIBUTING.md, benchmarks/README.md and docs/ is run.

``sh`` blocks are run line by line: ``vaebench`` in this process, ``python`` in another one.
``python`` blocks are executed; the blocks of one page share their names. ``toml`` blocks must be
valid grid files. The working folder of a page holds copies of the committed stores, the store
``quick`` also as ``results/quick``, so nothing long is trained.

HTML comments before a block, which readers do not see, change how it is run::

    <!-- test: run += --dry-run -->     add arguments to `vaebench run`
    <!-- test: reproduce exits 6 -->    the exit code that `vaebench reproduce` must have
    <!-- test: output -->               each line of this block is in the last output, but for `...`
    <!-- test: file NAME -->            the block is the content of the file NAME
    <!-- test: mirror -->               downloads come from a server on this machine
    <!-- test: skip REASON -->          the block is not run
"""

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from local_mirror import local_mirror

from vaebench.cli.main import main
from vaebench.grid.spec import Grid

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LANGUAGES = {"sh", "python", "toml", "text"}
MARKER = re.compile(r"<!-- test: (.*?) -->")


@dataclass
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    markers: list[str]

    def marked(self, pattern: str) -> re.Match[str] | None:
        """The first marker that the whole pattern matches."""
        matches = (re.fullmatch(pattern, marker) for marker in self.markers)
        return next((match for match in matches if match), None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, each with the markers in the lines directly above it."""
    blocks: list[Block] = []
    markers: list[str] = []
    block: Block | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.fullmatch(r"\s*```(\w*)", line)
        if block is not None:
            if fence:
                blocks.append(block)
                block = None
            else:
                block.text += line + "\n"
        elif fence:
            block = Block(page, number, fence[1], "", markers)
            markers = []
        elif marker := MARKER.fullmatch(line.strip()):
            markers.append(marker[1])
        elif line.strip():
            markers = []
    assert block is None, f"{page}: a fenced block does not end"
    return blocks


def commands_of(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, without comments, split at `&&`."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        for part in line.split("&&"):
            if words := shlex.split(part, comments=True):
                yield words


@dataclass
class Page:
    """Runs the blocks of one page in order."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    output: str = ""

    def run(self, block: Block) -> None:
        if block.marked("skip .+"):
            return
        if block.marked("output"):
            self.compare(block)
        elif file := block.marked("file (.+)"):
            Path(file[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            self.output = ""
            with local_mirror() if block.marked("mirror") else contextlib.nullcontext():
                for words in commands_of(block):
                    self.shell(words, block)
        elif block.language == "python":
            self.execute(block)
        elif block.language == "toml":
            Grid.from_dict(tomllib.loads(block.text))
        else:
            pytest.fail(f"{block}: a text block needs the marker output, file or skip")

    def shell(self, words: list[str], block: Block) -> None:
        match words:
            case ["vaebench", *arguments]:
                self.vaebench(arguments, block)
            case ["python", "-m", "vaebench", *arguments]:
                self.vaebench(arguments, block)
            case ["pip", "install", *requirements]:
                check_extras(requirements)
            case ["python", "-m", module, *_]:
                assert importlib.util.find_spec(module), f"{block}: no module {module}"
            case ["python", *arguments]:
                done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
                assert done.returncode == 0, f"{block}: {done.stderr}"
                self.output += done.stdout
            case ["pytest", path, *_]:
                assert (ROOT / path).exists(), f"{block}: no tests {path}"
            case _:
                pytest.fail(f"{block}: it is not known how to test {shlex.join(words)!r}")

    def vaebench(self, arguments: list[str], block: Block) -> None:
        command = arguments[0]
        added = block.marked(rf"{command} \+= (.+)")
        expected = block.marked(rf"{command} exits (\d+)")
        # As a terminal that has all of Unicode; with a StringIO, "±" would be written "+-".
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            pytest.raises(SystemExit) as left,
        ):
            main([*arguments, *(shlex.split(added[1]) if added else [])])
        printed.seek(0)
        text = printed.read()
        code = int(expected[1]) if expected else 0
        said = f"{block}: vaebench {shlex.join(arguments)} left with {left.value.code}:\n{text}"
        assert left.value.code == code, said
        self.output += text

    def execute(self, block: Block) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.text, str(block.page), "exec"), self.names)  # noqa: S102
        self.output = printed.getvalue()

    def compare(self, block: Block) -> None:
        """Each line, but for spaces, was printed; `...` stands for any lines."""
        printed = {" ".join(line.split()) for line in self.output.splitlines()}
        lines = [" ".join(line.split()) for line in block.text.splitlines()]
        missing = [line for line in lines if line not in printed | {"", "..."}]
        assert not missing, f"{block}: not in the output:\n{missing}\nThe output:\n{self.output}"


def run_page(page: Path) -> None:
    """Run the blocks of a page in order."""
    state = Page()
    for block in blocks_of(page):
        state.run(block)


def check_extras(requirements: list[str]) -> None:
    """`pip install` is run by the CI; here only the names of the extras are compared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in requirements:
        for extra in re.findall(r"\[(.+)\]", requirement):
            assert set(extra.split(",")) <= set(project["optional-dependencies"])


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stores = ROOT / "results" / "reference"
    shutil.copytree(stores, tmp_path / "results" / "reference")
    shutil.copytree(stores / "quick", tmp_path / "results" / "quick")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Tables are printed whole, however wide the terminal of the caller is.
    monkeypatch.delenv("COLUMNS", raising=False)
    # Never the cluster of another test that runs at the same time.
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return tmp_path


@pytest.mark.usefixtures("working_folder")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path) -> None:
    run_page(page)


def test_every_block_names_its_language() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert len(blocks) > 20
    assert not [str(block) for block in blocks if block.language not in LANGUAGES]


def test_a_wrong_command_and_a_wrong_output_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"

    def fails(text: str) -> None:
        page.write_text(text, encoding="utf-8")
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            run_page(page)

    fails("```sh\nvaebench list gridz\n```\n")
    fails("```sh\nvaebench list grids\n```\n<!-- test: output -->\n```text\nno such line\n```\n")
    fails("```sh\nrm -rf x\n```\n")
    fails("```text\nunmarked\n```\n")
    fails("```sh\nvaebench list grids\n")
