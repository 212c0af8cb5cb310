"""What the documents say about exit codes, rooms, files and links is true of the code."""

import re
import tomllib
from pathlib import Path

import vaebench
from vaebench.errors import ExitCode

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "vaebench"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "results" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]


def test_every_exit_code_is_documented() -> None:
    text = (DOCS / "exit-codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    sigint, sigterm = ExitCode.SIGNAL + 2, ExitCode.SIGNAL + 15
    assert documented == {0, *ExitCode, sigint, sigterm} - {ExitCode.SIGNAL}


def test_the_architecture_page_lists_every_room() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w.]+)/?` \|", text, re.MULTILINE))
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert listed == rooms | {"errors.py"}
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__.py", "__main__.py", "errors.py"}


def test_the_files_that_a_contributor_is_sent_to_exist() -> None:
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/[\w/.]*)`", text)
    assert len(named) > 10
    assert not [name for name in named if not _at(name).exists()]


def test_the_names_that_a_contributor_is_sent_to_are_in_their_files() -> None:
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+)`\s+\(`([a-z_]+/[\w/.]*)`\)", text)
    assert len(named) > 20
    assert not [
        f"{name} is not in {path}"
        for name, path in named
        if not re.search(rf"\b{name}\b", _at(path).read_text(encoding="utf-8"))
    ]


def _at(name: str) -> Path:
    """The file or folder of a name in extending.md, which is below the package or the root."""
    return ROOT / name if name.startswith(("tests/", "docs/")) else PACKAGE / name


def test_every_relative_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_the_readme_is_a_landing_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_api_page_lists_every_public_name() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: vaebench\.(\w+)$", text, re.MULTILINE))
    assert listed == set(vaebench.__all__) - {"__version__"}


def test_the_citation_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert project["version"] == vaebench.__version__


def test_the_guide_for_agents_is_of_this_version() -> None:
    text = (DOCS / "agents.md").read_text(encoding="utf-8")
    assert f"For vaebench {vaebench.__version__}." in text
