"""Options and checks that several commands share, and the classes of commands."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
_SETTINGS = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command that refuses an option given twice instead of using the last value."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"context_settings": _SETTINGS, **settings})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command line."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for param in given:
            single = isinstance(param, click.Option) and not param.is_flag and not param.multiple
            if single and given.count(param) > 1:
                name = max(param.opts, key=len)
                raise click.UsageError(f"{name} must be given only once; remove the others", ctx)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group that suggests the closest command and lists commands in order of definition."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command named by the first argument."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = get_close_matches(args[0], self.commands, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)


class _Folder(click.Path):
    """An existing folder, or one that will be created."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # An unset variable of a shell would otherwise mean the working folder.
        if value == "":
            self.fail("the name of the folder must not be empty", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()


def whole_numbers(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Parse whole numbers of at least 1, separated by commas (the callback of an option)."""
    if value is None:
        return None
    option = param.opts[0]
    try:
        numbers = tuple(map(int, value.split(",")))
    except ValueError as error:
        rule = "must be whole numbers separated by commas, like 20,128"
        raise click.UsageError(f"{option} {rule}; got {value!r}", ctx) from error
    if min(numbers) < 1:
        raise click.UsageError(f"{option} must be numbers of at least 1; got {value!r}", ctx)
    return numbers


data_dir_option = click.option(
    "--data-dir", type=FOLDER, help="Folder searched first for data [default: $VAEBENCH_DATA]."
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    help="Number of worker processes [default: one per core].",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result as one JSON document; messages go to stderr.",
)
retry_option = click.option(
    "--retry-failed", is_flag=True, help="Train cells again that failed, diverged or timed out."
)
wait_option = click.option(
    "--wait", is_flag=True, help="Wait while another process writes to the store."
)


def store_option(default: str) -> Callable[[Function], Function]:
    """Return the option ``-o``, the folder of the store."""
    return click.option(
        "-o",
        "--output",
        type=FOLDER,
        help=f"Folder of the results (the store) [default: {default}].",
    )


def _refuse_both(ctx: click.Context, param: click.Parameter, folder: Path | None) -> Path | None:
    del param
    if folder is not None and ctx.params.get("no_report"):
        raise click.UsageError("--report-dir cannot be used with --no-report: remove one of them")
    return folder


def report_options(default: str) -> Callable[[Function], Function]:
    """Return the options ``--no-report`` and ``--report-dir``, of which only one may be given."""

    def add(function: Function) -> Function:
        no_report = click.option(
            "--no-report", is_flag=True, is_eager=True, help="Do not write a report."
        )
        report_dir = click.option(
            "--report-dir",
            type=FOLDER,
            callback=_refuse_both,
            help=f"Folder of the report [default: {default}].",
        )
        return no_report(report_dir(function))

    return add


def given_options() -> list[str]:
    """Return the options of the current command that the user has set."""
    context = click.get_current_context()
    return [
        option.opts[0]
        for option in context.command.params
        if option.name is not None
        and context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
    ]


def require_stores(*stores: Path) -> None:
    """Raise a usage error for folders that do not exist."""
    missing = [str(store) for store in stores if not store.exists()]
    if missing:
        raise click.UsageError(f"there is no folder {', '.join(missing)}")


def match_cell(word: str, names: list[str], store: Path) -> str:
    """Return the only name that equals `word` or begins with it."""
    matching = [word] if word in names else [name for name in names if name.startswith(word)]
    if len(matching) != 1:
        found = ", ".join(matching[:5]) + ", …" * (len(matching) > 5) if matching else "none"
        rule = f"CELL must be the beginning of exactly one record name in {store}"
        raise click.UsageError(f"{rule}; {word!r} matches: {found}")
    return matching[0]
