"""The tables of a grid file, read into checked values with the place that each came from.

Nothing is raised here: every problem is collected, so that a file's errors are told all at once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from vaebench.errors import Problem
from vaebench.grid.boxes import Box
from vaebench.grid.cell import AXES, Value
from vaebench.grid.values import closest, plain, shown

__all__ = ["Block", "Draft", "Given", "Overrides", "name_problem", "read_draft"]

_KEYS = ("name", "description", "base", "axes", "exclude")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,58}[A-Za-z0-9_-])?"

Overrides = Mapping[str, Sequence[object]]
"""Axis name to the raw values that take the place of the file's."""


@dataclass(frozen=True)
class Given:
    """The checked values of one axis, none twice, and where they stand in the file.

    `values` is empty where none of them passed its check. `indices` are the places in the file's
    list; None where a single value was given.
    """

    path: str
    values: tuple[Value, ...]
    indices: tuple[int, ...] | None = None

    def place(self, value: object) -> str:
        """Return the path of one of the values, like `axes.latent_dim[2]`."""
        if self.indices is None:
            return self.path
        return f"{self.path}[{self.indices[self.values.index(value)]}]"


Block = Mapping[str, Given]
"""One product of axes: every axis that the file names, in its order."""


@dataclass
class Draft:
    """A grid as far as it could be read: its blocks, what is left out, notes and problems."""

    name: str
    description: str = ""
    blocks: list[Block] = field(default_factory=list)
    excludes: dict[str, Box] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: str, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(path, message))


def read_draft(raw: Mapping[str, object], overrides: Overrides, name: str) -> Draft:
    """Read a parsed grid file; `name` is that of a file which gives itself none."""
    draft = Draft(name)
    for key in map(str, raw):
        if key not in _KEYS:
            draft.report(key, _unknown("key", key, _KEYS, AXES))
    _read_texts(draft, raw)
    base = _read_base(draft, raw.get("base", {}))
    forced = dict(_read_lists(draft, overrides, "--set "))
    tables = list(_tables(draft, raw.get("axes", []), "axes"))
    if not tables and not base and not forced and not draft.problems:
        draft.report("axes", "the grid holds no cell: give it a table [axes] or [base]")
    own = [dict(_read_lists(draft, table, f"{path}.")) for path, table in tables] or [{}]
    _note_replaced(draft, base, own)
    draft.blocks += [{**base, **axes, **forced} for axes in own]
    _read_excludes(draft, raw.get("exclude", []))
    return draft


def name_problem(name: object) -> Problem | None:
    """Why a grid can't have this name; None if it can."""
    if isinstance(name, str) and re.fullmatch(_NAME, name):
        return None
    rule = "must be 1 to 60 of the characters A-Z a-z 0-9 . _ - (it names a folder)"
    return Problem("name", f"{rule}, not {shown(name)}")


def _unknown(what: str, name: str, options: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    if name in elsewhere:
        return f"an axis stands in [base] or [axes], not at the top of the file: move {name} there"
    meant = closest(name, options)
    return f"unknown {what}{meant}" if meant else f"unknown {what}: known are {', '.join(options)}"


def _read_texts(draft: Draft, raw: Mapping[str, object]) -> None:
    name, description = raw.get("name", draft.name), raw.get("description", "")
    problem = name_problem(name)
    if problem is None:
        draft.name = str(name)
    else:
        draft.problems.append(problem)
    if isinstance(description, str):
        draft.description = description
    else:
        draft.report("description", f"must be text, not {shown(description)}")


def _checked(draft: Draft, path: str, axis: str, value: object) -> Iterator[Value]:
    """Yield the canonical value, or nothing after reporting what is wrong."""
    try:
        yield cast(Value, AXES[axis].check(value))
    except ValueError as error:
        draft.report(path, str(error))


def _known(draft: Draft, table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for axis, value in table.items():
        if not isinstance(axis, str):
            draft.report(f"{prefix}{axis}", "an axis is named by text")
        elif axis in AXES:
            yield axis, value
        else:
            draft.report(f"{prefix}{axis}", _unknown("axis", axis, AXES))


def _read_base(draft: Draft, table: object) -> dict[str, Given]:
    if not isinstance(table, Mapping):
        draft.report("base", f"must be a table [base], not {shown(table)}")
        return {}
    base = {}
    for axis, value in _known(draft, table, "base."):
        path = f"base.{axis}"
        if isinstance(value, list) and axis != "hidden":
            draft.report(path, f"[base] takes one value; a list belongs under [axes]: {axis}")
            base[axis] = Given(path, ())
        else:
            base[axis] = Given(path, tuple(_checked(draft, path, axis, value)))
    return base


def _read_lists(
    draft: Draft, table: Mapping[str, object], prefix: str
) -> Iterator[tuple[str, Given]]:
    for axis, listed in _known(draft, table, prefix):
        path = f"{prefix}{axis}"
        listed = plain(listed)
        if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
            draft.report(path, f"must be a list of values: {axis} = [{shown(listed)}]")
            yield axis, Given(path, ())
        elif not listed:
            draft.report(path, "the list is empty: give it a value, or leave the axis out")
            yield axis, Given(path, ())
        else:
            yield axis, _read_values(draft, path, axis, listed)


def _read_values(draft: Draft, path: str, axis: str, listed: Sequence[object]) -> Given:
    first: dict[Value, int] = {}
    for index, raw in enumerate(listed):
        for value in _checked(draft, f"{path}[{index}]", axis, raw):
            if value in first:
                draft.notes.append(f"{path}[{index}]: {shown(value)} stands there twice, run once")
            first.setdefault(value, index)
    return Given(path, tuple(first), tuple(first.values()))


def _tables(draft: Draft, given: object, path: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the path and content of one table, or of each of several."""
    if isinstance(given, Mapping):
        yield path, given
    elif isinstance(given, list) and all(isinstance(each, Mapping) for each in given):
        yield from ((f"{path}[{index}]", each) for index, each in enumerate(given))
    else:
        draft.report(path, f"must be a table [{path}] or tables [[{path}]], not {shown(given)}")


def _note_replaced(draft: Draft, base: Block, blocks: Sequence[Block]) -> None:
    """Say which values of the base no block of axes is left to use."""
    for axis in base:
        if all(axis in block for block in blocks):
            places = " and ".join(block[axis].path for block in blocks)
            verb = "takes" if len(blocks) == 1 else "take"
            draft.notes.append(f"{places} {verb} the place of {base[axis].path}")


def _read_excludes(draft: Draft, given: object) -> None:
    for path, table in _tables(draft, given, "exclude"):
        if not table:
            draft.report(path, "would leave out every cell: name an axis and a value")
        box = {
            axis: tuple(_checked(draft, f"{path}.{axis}", axis, value))
            for axis, value in _known(draft, table, f"{path}.")
        }
        if box and all(box.values()):
            draft.excludes[path] = box
