"""Which values an axis takes: small strict checks that name the rule, what came and what to do.

A check is called with a raw value and returns the value in its one canonical form, or raises
ValueError; its `text` says in words what it takes. Checks are strict: a whole number is no bool,
a number in quotes is no number, and nothing non-finite passes.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, TypeGuard, cast, runtime_checkable

__all__ = [
    "Check",
    "Flag",
    "Interval",
    "Name",
    "Real",
    "Sizes",
    "Whole",
    "closest",
    "plain",
    "shown",
]

_SHOWN = 60
# High enough that "gpu" does not suggest "cpu".
_NEAR = 0.7
# Below this a float32 is denormal and loses its digits; above the other it overflows.
_SMALLEST, _LARGEST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127


def shown(value: object, *, quote: bool = True) -> str:
    """Return a value as a grid file would write it, shortened to one line without escapes."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    if not quote and isinstance(value, str):
        text = text[1:-1]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def closest(word: str, options: Iterable[str]) -> str:
    """Return " (did you mean ...?)" for the option nearest to `word`, or "" where none is near."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.strip().lower(), by_lower, n=1, cutoff=_NEAR)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


class Check(Protocol):
    """Takes a raw value, gives the canonical one; `text` names what is taken."""

    @property
    def text(self) -> str:
        """What is taken, in words."""
        ...

    def __call__(self, value: object) -> object:
        """Return the canonical value; raise ValueError for one that is not taken."""
        ...


def _refusal(text: str, value: object) -> ValueError:
    quoted = isinstance(value, str) and "number" in text and _is_number(value)
    hint = "; write the number without quotes" if quoted else ""
    return ValueError(f"must be {text}, not {shown(value)}{hint}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@runtime_checkable
class _Array(Protocol):
    """What numpy's numbers and arrays can do."""

    shape: tuple[int, ...]

    def tolist(self) -> object:
        """The numbers as Python has them."""


def plain(value: object) -> object:
    """A number or an array of numpy's as Python has it; anything else as it is."""
    if value is None or isinstance(value, (int, float, str, tuple, list)):
        return value  # at once: a plan asks it of every axis of every cell
    return value.tolist() if isinstance(value, _Array) else value


def _left_out(absent: str | None) -> str:
    return f"; left out: {absent}" if absent else ""


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`; `absent` says what leaving it out means, if it may."""

    low: int
    high: int
    absent: str | None = None

    @property
    def text(self) -> str:
        """What is taken, in words."""
        return self._rule + _left_out(self.absent)

    @property
    def _rule(self) -> str:
        return f"a whole number from {self.low:,} to {self.high:,}"

    def __call__(self, value: object) -> int | None:
        """Return the number; raise ValueError for anything else."""
        if value is None and self.absent:
            return None
        value = plain(value)
        if not _is_whole(value) or not self.low <= value <= self.high:
            raise _refusal(self._rule, value)
        return value


@dataclass(frozen=True)
class Real:
    """A finite number between `low` and `high` that float32 can hold, or one of some `words`.

    With `open_low` the lower end itself is not taken. `absent` is as for `Whole`.
    """

    low: float = 0.0
    high: float = _LARGEST
    open_low: bool = False
    open_high: bool = False
    words: Sequence[str] = ()
    absent: str | None = None

    @property
    def text(self) -> str:
        """What is taken, in words."""
        return self._rule + _left_out(self.absent)

    @property
    def _rule(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"of at least {self.low:g}"
        high = f" and below {self.high:g}" if self.open_high else f" and at most {self.high:g}"
        words = ", or one of " + ", ".join(self.words) if self.words else ""
        return f"a number {low}{high if self.high < _LARGEST else ''}{words}"

    def __call__(self, value: object) -> float | str | None:
        """Return the number as a float, or the word; raise ValueError for anything else."""
        if value is None and self.absent:
            return None
        value = plain(value)
        if isinstance(value, str) and self.words:
            if value in self.words:
                return value
            raise ValueError(str(_refusal(self._rule, value)) + closest(value, self.words))
        if not isinstance(value, float) and not _is_whole(value):
            raise _refusal(self._rule, value)
        if not self._holds(value):
            raise _refusal(self._rule, value)
        return float(value) + 0.0  # turns -0.0 into 0.0, so that both are one cell

    def _holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        if not (above and below and math.isfinite(value)):
            return False
        if value != 0.0 and abs(value) < _SMALLEST:
            raise ValueError(f"must not be denormal in float32 (below {_SMALLEST:.3g}): {value!r}")
        return True


@dataclass(frozen=True)
class Flag:
    """true or false."""

    text: str = "true or false"

    def __call__(self, value: object) -> bool:
        """Return the bool; raise ValueError for anything else."""
        value = plain(value)
        if not isinstance(value, bool):
            raise _refusal(self.text, value)
        return value


@dataclass(frozen=True)
class Sizes:
    """A list of at most `longest` layer sizes, each a whole number from 1 to `high`."""

    high: int = 65_536
    longest: int = 16

    @property
    def text(self) -> str:
        """What is taken, in words."""
        return f"a list of at most {self.longest} whole numbers from 1 to {self.high:,}, like [400]"

    def __call__(self, value: object) -> tuple[int, ...]:
        """Return the sizes as a tuple; raise ValueError for anything else."""
        value = plain(value)
        if not isinstance(value, (list, tuple)) or len(value) > self.longest:
            hint = "; on an axis each value is a list of its own: [[128], [400]]"
            raise ValueError(str(_refusal(self.text, value)) + hint)
        sizes = tuple(map(plain, value))
        for size in sizes:
            if not _is_whole(size) or not 1 <= size <= self.high:
                raise _refusal(self.text, value)
        return cast(tuple[int, ...], sizes)


@dataclass(frozen=True)
class Interval:
    """A list of a lowest and a highest number, or an empty list."""

    text: str = "a list of the lowest and the highest value, like [0, 1]; left out: none"

    def __call__(self, value: object) -> tuple[float, ...]:
        """Return the two numbers as a tuple; raise ValueError for anything else."""
        value = plain(value)
        if not isinstance(value, (list, tuple)) or len(value) not in (0, 2):
            raise _refusal(self.text, value)
        numbers = tuple(plain(each) for each in value)
        if any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in numbers):
            raise _refusal(self.text, value)
        ends = tuple(float(each) for each in cast(tuple[float, ...], numbers))
        if ends and not (ends[0] < ends[1] and all(map(math.isfinite, ends))):
            raise _refusal(self.text, value)
        return ends


@dataclass(frozen=True)
class Name:
    """One of `options`, or a word that matches `pattern`, which `otherwise` puts in words."""

    options: Mapping[str, object]
    pattern: str | None = None
    otherwise: str = ""

    @property
    def text(self) -> str:
        """What is taken, in words."""
        names = ", ".join(self.options)
        return f"one of {names}, or {self.otherwise}" if self.otherwise else f"one of {names}"

    def __call__(self, value: object) -> str:
        """Return the name; raise ValueError, with the option that was meant, for anything else.

        A path as an object can mean no option: one without a separator is put as ./photos.
        """
        if isinstance(value, PurePath) and self.pattern:
            for text in (str(value), f"./{value}"):
                if re.fullmatch(self.pattern, text):
                    return text
        if not isinstance(value, str):
            raise _refusal(self.text, value)
        if value in self.options or (self.pattern and re.fullmatch(self.pattern, value)):
            return value
        raise ValueError(f"{_refusal(self.text, value)}{closest(value, self.options)}")
