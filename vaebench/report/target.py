"""The folder of a report: where it goes, and how new files replace those of an older report.

Files are written to a folder next to it and then moved into it one by one, `index.html` last. A
manifest lists the files of the report; only these are removed when a later report lacks them, so a
user's own files in the folder stay.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from vaebench.errors import UsageError

_PAGE: Final = "index.html"
_MANIFEST: Final = "manifest.json"
_FOLDERS: Final = ("figures", "tables", "paper")


def default_target(paths: Sequence[Path]) -> Path:
    """Return the report folder of these results folders if none is given.

    Reports mirror the path of their store: that of `results/A/B` is `reports/A/B`, so two stores
    of the same name have different reports. Stores elsewhere use their name, several use `all`.
    """
    if len(paths) != 1:
        return Path("reports") / "all"
    store, results = paths[0].resolve(), Path("results").resolve()
    inside = store != results and store.is_relative_to(results)
    return Path("reports") / (store.relative_to(results) if inside else store.name)


def check_target(paths: Sequence[Path], out: Path) -> None:
    """Refuse a folder that a report cannot be written to, before any work is done for it.

    Raises:
        UsageError: it is inside a results folder, holds something other than a report, or has
            links where the report has folders.
        OSError: it cannot be written.
    """
    require_apart(paths, out)
    if out.exists() and not (out.is_dir() and (_is_report(out) or not any(out.iterdir()))):
        raise UsageError(
            f"the folder of a report must be new, empty, or hold a report; {out} holds something "
            "else: choose another folder with -o"
        )
    for name in _FOLDERS:
        if (out / name).is_symlink():
            raise UsageError(f"a report does not write through links, and {out / name} is a link")
    there = next(each for each in out.resolve().parents if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "no report can be written there", str(there))


def require_apart(paths: Sequence[Path], out: Path) -> None:
    """Refuse a folder for a page that is inside a results folder, or that contains one.

    Raises:
        UsageError: it is.
    """
    target = out.resolve()
    for path in paths:
        store = path.resolve()
        if target.is_relative_to(store) or store.is_relative_to(target):
            raise UsageError(
                f"a report must be outside of the results and must not contain them; got {out} and "
                f"{path}"
            )


def _is_report(folder: Path) -> bool:
    if (folder / _MANIFEST).is_file() and _listed(folder):
        return True
    index = folder / _PAGE
    return index.is_file() and b'name="generator" content="vaebench' in index.read_bytes()[:4000]


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a new folder whose files replace those of the report in `target` at the end.

    If the block raises, the old report stays as it was.

    Raises:
        OSError: the files cannot be moved.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-{os.getpid()}-"))
    try:
        yield work
        _move(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move(work: Path, target: Path) -> None:
    """Move all files into the target, remove those of an older report, the page last."""
    files = [path.relative_to(work) for path in sorted(work.rglob("*")) if path.is_file()]
    names = [path.as_posix() for path in files]
    old = set(_listed(target))
    # Both lists, so that a report that was interrupted here leaves nothing that is not listed.
    _write_manifest(target, sorted(old | set(names)))
    for path in files:
        if path.name != _PAGE:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).replace(target / path)
    (work / _PAGE).replace(target / _PAGE)
    for name in sorted(old - set(names)):
        (target / name).unlink(missing_ok=True)
    _write_manifest(target, names)


def _write_manifest(target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    part = target / f".{_MANIFEST}.part"
    part.unlink(missing_ok=True)
    part.write_text(json.dumps({"files": list(names)}, indent=1) + "\n", encoding="utf-8")
    part.replace(target / _MANIFEST)


def _listed(target: Path) -> list[str]:
    """The files that the manifest allows to remove: the page, and files in the report's folders."""
    try:
        names = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    paths = [PurePosixPath(name) for name in names if isinstance(name, str)]
    return [
        str(path)
        for path in paths
        if str(path) == _PAGE
        or (len(path.parts) == 2 and path.parts[0] in _FOLDERS and path.name != "..")
    ]


def _sweep(target: Path) -> None:
    """Remove what reports that were killed left behind; one that is still running keeps its own."""
    for path in target.parent.glob(f".{target.name}-*-*"):
        owner = path.name.removeprefix(f".{target.name}-").partition("-")[0]
        if owner.isdigit() and not _is_running(int(owner)) and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
