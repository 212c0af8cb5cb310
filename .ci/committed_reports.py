"""Compare the committed reports with reports that are made from the committed records now.

    python .ci/committed_reports.py            # prints what differs; exit code 1 if anything does
    python .ci/committed_reports.py --write    # replaces the committed reports

The bytes of all tables and the text of every page must be equal. Figures are not compared, because
their bytes depend on the versions of the libraries that draw them.
"""

import argparse
import difflib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

STORES = Path("results/reference")
REPORTS = Path("reports/reference")
UNFINISHED = {"tutorial-latent"}
"""Stores whose trainings have not all ended; their reports are committed afterwards."""
FINDINGS = ("latent-dim", "--budget", "full", "--no-train", "-o", str(STORES / "mnist-latent-dim"))


class PageText(HTMLParser):
    """The text of a page, one piece in a line, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _: object) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.lines.append(" ".join(data.split()))


def page_text(path: Path) -> list[str]:
    parser = PageText()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.lines


def vaebench(*arguments: str) -> None:
    """Run the command line; a contradicted finding (6) is a result too."""
    command = [sys.executable, "-m", "vaebench", *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)  # noqa: S603 -- our own program
    if done.returncode not in (0, 6):
        sys.exit(f"vaebench {' '.join(arguments)} ended with {done.returncode}")


def make_reports(folder: Path) -> None:
    """Make the report of every committed store, and the page of findings, below a folder."""
    for store in sorted(each for each in STORES.iterdir() if each.name not in UNFINISHED):
        vaebench("report", str(store), "--figures", "-o", str(folder / store.name))
    vaebench("reproduce", *FINDINGS, "--report-dir", str(folder / "findings-full"))


def differences(committed: Path, made: Path) -> Iterator[str]:
    """Lines that say what differs; none if the reports are equal."""
    compared = {
        path.relative_to(folder)
        for folder in (committed, made)
        for path in (*folder.rglob("*.html"), *folder.rglob("tables/*"))
    }
    for name in sorted(compared):
        old, new = committed / name, made / name
        if not (old.exists() and new.exists()):
            yield f"{name} is only in the {'committed' if old.exists() else 'new'} reports"
        elif name.suffix == ".html":
            yield from difflib.unified_diff(
                page_text(old), page_text(new), str(old), "made now", lineterm="", n=0
            )
        elif old.read_bytes() != new.read_bytes():
            yield f"{name} differs"


def main() -> int:
    """Return 1 if the committed reports do not follow from the committed records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the committed reports")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        make_reports(made)
        different = list(differences(REPORTS, made))
        print("\n".join(different) or "the committed reports follow from the committed records")
        if write and different:
            shutil.rmtree(REPORTS)
            shutil.copytree(made, REPORTS, ignore=shutil.ignore_patterns("*.svg", "*.pdf"))
    return int(bool(different) and not write)


if __name__ == "__main__":
    sys.exit(main())
