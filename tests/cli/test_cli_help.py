"""Help, version and lists."""

from collections.abc import Iterator

import pytest
from command_line import Ask

from vaebench.cli.main import cli


def every_command() -> Iterator[tuple[str, ...]]:
    for name, command in cli.commands.items():
        yield (name,)
        yield from ((name, sub) for sub in getattr(command, "commands", {}))


@pytest.mark.parametrize("command", [(), *every_command()], ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(ask: Ask, command: tuple[str, ...], flag: str) -> None:
    answer = ask(*command, flag)
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: {' '.join(('vaebench', *command))} ")
    cut = [line for line in answer.out.partition("Commands:")[2].splitlines() if "..." in line]
    assert cut == []
    assert max(map(len, answer.out.splitlines())) <= 80


def test_version(ask: Ask) -> None:
    assert ask("--version").out.startswith("vaebench, version ")


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("grids", ["quick ", "full ", "tiny "]),
        ("axes", ["latent_dim ", "sigma ", "hidden ", "seed "]),
        ("likelihoods", ["bernoulli ", "gaussian ", "categorical "]),
        ("datasets", ["digits ", "mnist ", "linear-gaussian "]),
        ("metrics", ["elbo ", "bits_per_dim ", "peak_memory_mib "]),
    ],
)
def test_lists_have_a_line_for_each(ask: Ask, what: str, lines: list[str]) -> None:
    answer = ask("list", what)
    assert answer.code == 0
    found = answer.out.splitlines()
    for line in lines:
        assert sum(each.startswith(line) for each in found) == 1
    assert all(len(each) > len(each.split()[0]) + 5 for each in found)


def test_lists_carry_units_and_defaults_as_a_grid_file_writes_them(ask: Ask) -> None:
    assert "nats/image, higher is better" in ask("list", "metrics").out
    axes = ask("list", "axes").out
    assert "default [400]" in axes
    assert "None" not in axes
