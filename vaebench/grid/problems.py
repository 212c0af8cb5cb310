"""What is wrong with a grid: every problem at once, each with its place."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["GridError", "Problem"]


@dataclass(frozen=True)
class Problem:
    """One thing wrong: where it stands (`axes.latent_dim[2]`) and what the rule is."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class GridError(ValueError):
    """A grid that cannot be used. `problems` holds all of them, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
