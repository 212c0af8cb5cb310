"""`vaebench data`: list, fetch, add and verify data sets."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import Group, data_dir_option
from vaebench.cli.output import leave, say
from vaebench.errors import ExitCode


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """List, fetch, add and verify data sets."""


@data.command("list", short_help="Each data set, and whether it is here.")
@data_dir_option
def data_list(data_dir: Path | None) -> None:
    """Print each data set, and whether it is here."""
    from vaebench.data.acquire import listing

    for state in listing(data_dir):
        where = f" ({state.folder})" if state.folder else ""
        say(f"{state.name:<16} {state.state}{where}  {state.summary}")


@data.command("fetch", short_help="Download a data set, checked by SHA-256.")
@click.argument("name")
@data_dir_option
def data_fetch(name: str, data_dir: Path | None) -> None:
    """Download a data set from torchvision's mirrors, checked by SHA-256."""
    from vaebench.data.acquire import fetch

    say(f"{name}: {fetch(name, data_dir, say)}")


@data.command("add", short_help="Copy its IDX files from a folder or archive.")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@data_dir_option
def data_add(name: str, path: Path, data_dir: Path | None) -> None:
    """Copy the IDX files of a data set from a folder or archive, raw or gzip."""
    from vaebench.data.acquire import add

    say(f"{name}: {add(name, path, data_dir, say)}")


@data.command("verify", short_help="Read its files and compare their SHA-256.")
@click.argument("name")
@data_dir_option
def data_verify(name: str, data_dir: Path | None) -> None:
    """Read every file of a data set and compare its SHA-256."""
    from vaebench.data.acquire import verify

    checks = verify(name, data_dir)
    for check in checks:
        say(f"{check.path}: {check.fault or 'OK'}")
    if any(check.fault for check in checks):
        leave([ExitCode.DATA])
