"""Checks of axis values, whose errors state the rule and the value received.

A check is called with a raw value and returns the value in its canonical form, or raises
ValueError. Its `text` states the rule in words, its `schema` as JSON schema. Checks are strict: a
bool is not a whole number, a number in quotes is not a number, and infinities are rejected.
"""

import difflib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Protocol, TypeGuard, cast, runtime_checkable

_MOST_CHARACTERS = 60
# High enough that "gpu" does not suggest "cpu".
_SIMILARITY = 0.7
# The smallest normal and the largest float32.
_SMALLEST, _LARGEST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127


RESERVED = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
"""Names for which Windows opens a device, with any ending."""


def shown(value: object, *, quote: bool = True) -> str:
    """Return a value as written in a grid file: one short line, control characters escaped."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    if not quote and isinstance(value, str):
        text = text[1:-1]
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "cell"), plural(2000, "cell")
    ('1 cell', '2,000 cells')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def closest(word: object, options: Iterable[str]) -> str:
    """Return " (did you mean ...?)" with the option most similar to `word`, or "" if none is."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(str(word).strip().lower(), by_lower, n=1, cutoff=_SIMILARITY)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


@runtime_checkable
class _Array(Protocol):
    """A NumPy number or array, of which only `tolist` is used."""

    shape: tuple[int, ...]

    def tolist(self) -> object:
        """Return the numbers as Python objects."""


def plain(value: object) -> object:
    """Return a NumPy number or array as Python objects, and anything else unchanged."""
    if value is None or isinstance(value, (int, float, str, tuple, list)):
        return value  # the common case first: this is called for every axis of every cell
    return value.tolist() if isinstance(value, _Array) else value


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


class Check(ABC):
    """Check of an axis value: returns its canonical form or raises ValueError.

    Attributes:
        absent: the meaning of an omitted value, or empty if the value is required.
    """

    absent: str | None = None

    @property
    @abstractmethod
    def rule(self) -> str:
        """The accepted values, as words that follow "must be"."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The rule as JSON schema; `text` may state more than the schema can."""

    @abstractmethod
    def convert(self, value: object) -> object:
        """Return the canonical value; raise ValueError for a value that breaks the rule."""

    @property
    def text(self) -> str:
        """The rule in words, and the meaning of an omitted value."""
        return self.rule + (f"; left out: {self.absent}" if self.absent else "")

    def __call__(self, value: object) -> object:
        """Return the canonical value; raise ValueError for a value that breaks the rule."""
        return None if value is None and self.absent else self.convert(plain(value))

    def refusal(self, value: object) -> ValueError:
        """Return the ValueError for a value that breaks the rule."""
        hint = ""
        if isinstance(value, str) and "number" in self.rule:
            with suppress(ValueError):
                if math.isfinite(float(value)):
                    hint = "; write the number without quotes"
        return ValueError(f"must be {self.rule}, not {shown(value)}{hint}")


@dataclass(frozen=True)
class Whole(Check):
    """A whole number from `low` to `high`."""

    low: int
    high: int
    absent: str | None = None

    @property
    def rule(self) -> str:
        """The rule in words."""
        return f"a whole number from {self.low:,} to {self.high:,}"

    @property
    def schema(self) -> dict[str, Any]:
        """The rule as JSON schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def convert(self, value: object) -> int:
        """Return the number; raise ValueError for anything else."""
        if not _is_whole(value) or not self.low <= value <= self.high:
            raise self.refusal(value)
        return value


@dataclass(frozen=True)
class Real(Check):
    """A finite float32 number between `low` and `high`, or one of `words`.

    With `open_low` or `open_high` that end is excluded.
    """

    low: float = 0.0
    high: float = _LARGEST
    open_low: bool = False
    open_high: bool = False
    words: Sequence[str] = ()
    absent: str | None = None

    @property
    def rule(self) -> str:
        """The rule in words."""
        low = f"above {self.low:g}" if self.open_low else f"of at least {self.low:g}"
        high = f" and below {self.high:g}" if self.open_high else f" and at most {self.high:g}"
        words = ", or one of " + ", ".join(self.words) if self.words else ""
        return f"a number {low}{high if self.high < _LARGEST else ''}{words}"

    @property
    def schema(self) -> dict[str, Any]:
        """The rule as JSON schema."""
        number = {
            "type": "number",
            "exclusiveMinimum" if self.open_low else "minimum": self.low,
            "exclusiveMaximum" if self.open_high else "maximum": self.high,
        }
        return {"anyOf": [number, {"enum": list(self.words)}]} if self.words else number

    def convert(self, value: object) -> float | str:
        """Return the number as a float, or the word; raise ValueError for anything else."""
        if isinstance(value, str) and self.words:
            if value in self.words:
                return value
            raise ValueError(f"{self.refusal(value)}{closest(value, self.words)}")
        if not (isinstance(value, float) or _is_whole(value)) or not self._contains(value):
            raise self.refusal(value)
        if value != 0.0 and abs(value) < _SMALLEST:
            raise ValueError(f"must not be denormal in float32 (below {_SMALLEST:.3g}): {value!r}")
        return float(value) + 0.0  # turns -0.0 into 0.0, so that both are one cell

    def _contains(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)


class Flag(Check):
    """A boolean: true or false."""

    rule = "true or false"
    schema: ClassVar[dict[str, Any]] = {"type": "boolean"}

    def convert(self, value: object) -> bool:
        """Return the bool; raise ValueError for anything else."""
        if not isinstance(value, bool):
            raise self.refusal(value)
        return value


@dataclass(frozen=True)
class Sizes(Check):
    """A list of at most `longest` layer sizes, each a whole number from 1 to `high`."""

    high: int = 65_536
    longest: int = 16

    @property
    def rule(self) -> str:
        """The rule in words."""
        example = [400] if self.longest > 3 else [28, 28]
        numbers = f"at most {self.longest} whole numbers from 1 to {self.high:,}"
        return f"a list of {numbers}, like {example}"

    @property
    def schema(self) -> dict[str, Any]:
        """The rule as JSON schema."""
        size = {"type": "integer", "minimum": 1, "maximum": self.high}
        return {"type": "array", "items": size, "maxItems": self.longest}

    def convert(self, value: object) -> tuple[int, ...]:
        """Return the sizes as a tuple; raise ValueError for anything else."""
        if not isinstance(value, (list, tuple)) or len(value) > self.longest:
            lists = "[[128], [400]] in a file, [128],[400] after --set"
            hint = f"; on an axis, write each value as a list: {lists}"
            raise ValueError(f"{self.refusal(value)}{hint}")
        sizes = tuple(map(plain, value))
        for size in sizes:
            if not _is_whole(size) or not 1 <= size <= self.high:
                raise self.refusal(value)
        return cast(tuple[int, ...], sizes)


class Interval(Check):
    """A list of two numbers, the lowest and the highest, or an empty list."""

    rule = "a list of the lowest and the highest value, like [0, 1]; left out: none"
    schema: ClassVar[dict[str, Any]] = {"type": "array", "items": {"type": "number"}, "maxItems": 2}

    def convert(self, value: object) -> tuple[float, ...]:
        """Return the two numbers as a tuple; raise ValueError for anything else."""
        if not isinstance(value, (list, tuple)) or len(value) not in (0, 2):
            raise self.refusal(value)
        numbers = tuple(plain(each) for each in value)
        if any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in numbers):
            raise self.refusal(value)
        ends = tuple(float(each) for each in cast(tuple[float, ...], numbers))
        if ends and not (ends[0] < ends[1] and all(map(math.isfinite, ends))):
            raise self.refusal(value)
        return ends


@dataclass(frozen=True)
class Name(Check):
    """One of `options`, or a word that matches `pattern`, which `otherwise` describes."""

    options: Mapping[str, object]
    pattern: str | None = None
    otherwise: str = ""

    @property
    def rule(self) -> str:
        """The rule in words."""
        names = ", ".join(self.options)
        return f"one of {names}, or {self.otherwise}" if self.otherwise else f"one of {names}"

    @property
    def schema(self) -> dict[str, Any]:
        """The rule as JSON schema; any text where there is a pattern."""
        names = {"enum": list(self.options)}
        other = {"type": "string", "title": self.otherwise}
        return {"anyOf": [names, other]} if self.pattern else names

    def convert(self, value: object) -> str:
        """Return the name; raise ValueError, with the most similar option, for anything else.

        A `Path` is always a path: `Path("photos")` becomes "./photos", not the name of an option.
        """
        if isinstance(value, PurePath) and self.pattern:
            for text in (str(value), f"./{value}"):
                if re.fullmatch(self.pattern, text):
                    return text
        if not isinstance(value, str):
            raise self.refusal(value)
        if value in self.options or (self.pattern and re.fullmatch(self.pattern, value)):
            return value
        raise ValueError(f"{self.refusal(value)}{closest(value, self.options)}")
