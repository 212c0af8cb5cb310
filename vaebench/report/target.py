"""Where a report goes, and what may not be replaced by one; imports nothing that draws."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from vaebench.errors import UsageError

__all__ = ["check_target", "default_target", "require_apart"]


def default_target(paths: Sequence[Path]) -> Path:
    """Where the report of these results folders goes when nobody says where.

    Reports lie as results do: `results/A/B` has its report in `reports/A/B`, so that two stores of
    one name never share one. A folder elsewhere gives its name, several are `all` together.
    """
    if len(paths) != 1:
        return Path("reports") / "all"
    store, results = paths[0].resolve(), Path("results").resolve()
    inside = store != results and store.is_relative_to(results)
    return Path("reports") / (store.relative_to(results) if inside else store.name)


def check_target(paths: Sequence[Path], out: Path) -> None:
    """Refuse a folder that a report can't be written to, before any work is done for it.

    Raises:
        UsageError: it lies in a results folder, or holds something other than a report.
        OSError: it can't be written.
    """
    require_apart(paths, out)
    if out.exists() and not (out.is_dir() and (_is_report(out) or not any(out.iterdir()))):
        raise UsageError(
            f"a report replaces its whole folder, and {out} holds something else: "
            "choose a new or empty folder with -o"
        )
    there = next(each for each in out.resolve().parents if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "no report can be written there", str(there))


def require_apart(paths: Sequence[Path], out: Path) -> None:
    """Refuse a folder for a page that lies in a results folder, or one that holds it.

    Raises:
        UsageError: it does.
    """
    target = out.resolve()
    for path in paths:
        store = path.resolve()
        if target.is_relative_to(store) or store.is_relative_to(target):
            raise UsageError(f"a report stays apart from the results; got {out} and {path}")


def _is_report(folder: Path) -> bool:
    index = folder / "index.html"
    return index.is_file() and b'name="generator" content="vaebench' in index.read_bytes()[:4000]
