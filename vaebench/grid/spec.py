"""`Grid`: a set of cells read from a TOML file; all problems of the file are reported together.

Each `[axes]` table (a block) gives every combination of its values. An axis that has no meaning
for some choice, such as sigma for a likelihood without a scale, collapses there: it is set to one
neutral value, and combinations that become equal are one cell. The grid is the union of the
blocks, each cell once, without the cells that an `[[exclude]]` table matches.
"""

import itertools
import math
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from vaebench.errors import GridError, Problem
from vaebench.grid.axes import Axis, Value
from vaebench.grid.cell import (
    AXES,
    Cell,
    default_hidden,
    default_sigma,
)
from vaebench.grid.rules import DEPENDENCES, JUDGED, UNREAD, Dependence, broken_rules
from vaebench.grid.values import RESERVED, closest, plain, shown

MAX_CELLS = 200_000
"""The largest number of combinations that a grid may hold."""
MAX_BYTES = 1_000_000
"""The largest size of a grid file."""

_KEYS = ("name", "description", "base", "axes", "exclude")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,58}[A-Za-z0-9_-])?"
# The time to parse a dotted key grows with the square of its parts.
_LONG_KEY = r"""(?<![\w"'-])(?:[\w"'-]+\s*\.\s*){100}"""
Overrides = Mapping[str, Sequence[object]]
"""Maps an axis to the raw values that replace those of the file."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A set of cells with a name; made by `load`, `from_dict` or `of`.

    A cell is one value of every axis: one VAE to train.

    Attributes:
        name: the name of the grid and of the folder of its results.
        description: one line for `vaebench list grids`.
        cells: every cell once, in the order of the file.
        notes: messages about axes that were set to one value because they have no meaning,
            about duplicate values and about excluded cells.

    Raises:
        GridError: the name is not a valid folder name.
    """

    name: str
    description: str = ""
    cells: tuple[Cell, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problem = _name_problem(self.name)
        if problem is not None:
            raise GridError([problem])

    @classmethod
    def of(cls, name: str, cells: Iterable[Cell], description: str = "") -> "Grid":
        """Make a grid of the given cells; duplicates are dropped."""
        cells = list(cells)
        for cell in cells:
            if not isinstance(cell, Cell):
                raise TypeError(f"cells must be a list of vaebench.Cell; got {shown(cell)}")
        return cls(name, description, tuple(dict.fromkeys(cells)))

    @classmethod
    def load(cls, name_or_path: str | Path, overrides: Overrides | None = None) -> "Grid":
        """Read a packaged grid by its name, or a TOML file by its path.

        Raises:
            GridError: the file is missing, unreadable, malformed or has invalid values; the error
                lists every problem.
        """
        text, path = _find(name_or_path)
        try:
            if re.search(_LONG_KEY, text):
                raise ValueError("a dotted key may have at most 100 parts")
            raw = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise GridError([Problem(path, f"is not valid TOML: {error}")]) from None
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem).strip(".")[:60]
        return _grid(raw, overrides or {}, stem or "grid")

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], overrides: Overrides | None = None) -> "Grid":
        """Make a grid from the content of a TOML file.

        Raises:
            GridError: a key or value is invalid; the error lists every problem.
        """
        if not isinstance(raw, Mapping):
            raise TypeError(f"a grid must be a dict with the keys of a grid file; got {shown(raw)}")
        return _grid(raw, overrides or {}, "grid")


def packaged_grids() -> dict[str, str]:
    """Return the name and description of every packaged grid, in alphabetical order."""
    folder = resources.files(__package__).joinpath("library")
    files = (each for each in folder.iterdir() if each.name.endswith(".toml"))
    raws = (tomllib.loads(each.read_text("utf-8")) for each in files)
    return {raw["name"]: raw["description"] for raw in sorted(raws, key=itemgetter("name"))}


def grid_schema() -> dict[str, Any]:
    """Return the JSON schema of a grid file, for editors and for programs that write grids.

    The schema does not state rules about several axes, such as no sigma for a likelihood without
    a scale: `Grid.load` checks them.
    """

    def table(of: Callable[[Axis], dict[str, Any]]) -> dict[str, Any]:
        axes = {name: {"description": a.summary, **of(a)} for name, a in AXES.items()}
        return {"type": "object", "properties": axes, "additionalProperties": False}

    ranges = table(lambda axis: {"type": "array", "items": axis.check.schema, "minItems": 1})
    definitions = {"cell": table(lambda axis: axis.check.schema), "ranges": ranges}
    cell, several = {"$ref": "#/$defs/cell"}, {"$ref": "#/$defs/ranges"}
    some = {**cell, "minProperties": 1}
    properties = {
        "name": {"type": "string", "pattern": f"^{_NAME}$", "description": "names the store"},
        "description": {"type": "string", "description": "one line about the grid"},
        "base": {**cell, "description": "one value of an axis, for every cell"},
        "axes": {
            "anyOf": [several, {"type": "array", "items": several}],
            "description": "every combination is a cell; several tables are joined",
        },
        "exclude": {
            "anyOf": [some, {"type": "array", "items": some}],
            "description": "cells that match every key are left out",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vaebench grid file",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def parse_override(text: str) -> tuple[str, list[object]]:
    """Parse ``axis=value[,value]`` into the axis and its raw values.

    A value is read as in TOML; numbers may also be written as `.5` or `01`, and text needs no
    quotes: `sigma=0.1,learned`, `hidden=[128],[400]`. The values are checked later, with the grid.

    Raises:
        GridError: the axis or the value is missing.

    >>> parse_override("sigma=0.1,learned")
    ('sigma', [0.1, 'learned'])
    """
    axis, equals, values = text.partition("=")
    words = [word.strip() for word in re.split(r",(?![^\[]*\])", values)]
    if not equals or not axis.strip() or not all(words):
        rule = "must be axis=value or axis=value,value, like latent_dim=2,8"
        raise GridError([Problem(f"--set {shown(text)}", rule)])
    return axis.strip(), [_parse_word(word) for word in words]


def _parse_word(word: str) -> object:
    try:
        table = tomllib.loads(f"value = {word}")
        value = table.get("value")
        if isinstance(value, (bool, int, float, str, list)) and len(table) == 1:
            return value
    except ValueError:  # not TOML, or a number with thousands of digits
        pass
    if re.fullmatch(r"[+-]?[0-9]{1,30}", word):
        return int(word)
    return float(word) if re.fullmatch(r"[+-]?([0-9]+\.|[0-9]*\.[0-9]+)", word) else word


def _find(name_or_path: str | Path) -> tuple[str, str]:
    """Return the text and the path of a packaged grid or of a file."""
    asked = str(name_or_path)
    if not asked:
        raise GridError(
            [Problem("grid", "must be the name of a packaged grid or a file; got empty text")]
        )
    if isinstance(name_or_path, str) and re.fullmatch(r"[\w-]+", asked):
        packaged = packaged_grids()
        if asked in packaged:
            source = resources.files(__package__).joinpath("library", f"{asked}.toml")
            return source.read_text("utf-8"), f"{asked}.toml"
        if not Path(asked).exists():
            names = closest(asked, packaged) or f"; packaged grids: {', '.join(packaged)}"
            message = f"there is no packaged grid or file of this name{names}"
            raise GridError([Problem(asked, message)])
    return _read(asked), asked


def _read(name: str) -> str:
    path = Path(name)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise ValueError("it must be a regular file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes; at most {MAX_BYTES:,} are allowed")
        return path.read_text("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError:
        reason = "its text must be UTF-8"
    except (OSError, ValueError) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error)
    raise GridError([Problem(name, f"the grid file cannot be read: {reason}")])


def _name_problem(name: object) -> Problem | None:
    """Return the problem with the name of a grid, or None if the name is valid."""
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        rule = "must be 1 to 60 of the characters A-Z a-z 0-9 . _ - (it names a folder)"
        return Problem("name", f"{rule}, not {shown(name)}")
    if RESERVED.fullmatch(name):
        return Problem("name", f"{name} is reserved by Windows: choose another name")
    return None


# Reading the tables of a file


@dataclass(frozen=True)
class _Given:
    """The checked values of one axis and their places in the file: `axes.latent_dim[2]`.

    `places` is empty where every value failed its check.
    """

    path: str
    places: Mapping[Value, str]


_Block = Mapping[str, _Given]
"""The axes of one block with their values, in the order of the file."""


class _Reader:
    """Checks the parts of a grid file; collects the problems instead of raising them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def report(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def keys(self, raw: Mapping[str, object]) -> None:
        """Report unknown keys at the top level of the file."""
        for key in map(str, raw):
            if key in AXES:
                self.report(key, f"an axis belongs in [base] or [axes]: move {key} there")
            elif key not in _KEYS:
                self.report(shown(key, quote=False), _unknown("key", key, _KEYS))

    def checked(self, axis: str, raw: object, place: str) -> dict[Value, str]:
        """Return the canonical value and its place; report an invalid value and return {}."""
        try:
            return {cast(Value, AXES[axis].check(raw)): place}
        except ValueError as error:
            self.report(place, str(error))
            return {}

    def known(self, table: Mapping[Any, object], prefix: str) -> Iterator[tuple[str, object]]:
        """Yield the items of a table whose keys are axes; report the others."""
        for axis, value in table.items():
            if axis in AXES:
                yield axis, value
            else:
                is_text = isinstance(axis, str)
                why = (
                    _unknown("axis", axis, AXES) if is_text else "the name of an axis must be text"
                )
                self.report(f"{prefix}{shown(axis, quote=False)}", why)

    def base(self, table: object) -> dict[str, _Given]:
        """Read the table of values that are the same for every cell."""
        if not isinstance(table, Mapping):
            self.report("base", f"must be a table [base], not {shown(table)}")
            return {}
        base = {}
        for axis, raw in self.known(table, "base."):
            path = f"base.{axis}"
            if isinstance(raw, list) and not isinstance(AXES[axis].default, tuple):
                self.report(path, f"[base] takes one value, not a list: move {axis} to [axes]")
                base[axis] = _Given(path, {})
            else:
                base[axis] = _Given(path, self.checked(axis, raw, path))
        return base

    def lists(self, table: Mapping[str, object], prefix: str) -> dict[str, _Given]:
        """Read a list of values for each axis of a table."""
        block = {}
        for axis, raw in self.known(table, prefix):
            path = f"{prefix}{axis}"
            listed = plain(raw)
            places: dict[Value, str] = {}
            if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
                self.report(path, f"must be a list of values: {axis} = [{shown(listed)}]")
            elif not listed:
                self.report(path, "the list must not be empty: add a value, or remove the axis")
            else:
                for index, each in enumerate(listed):
                    for value, place in self.checked(axis, each, f"{path}[{index}]").items():
                        if value in places:
                            self.notes.append(f"{place}: duplicate value {shown(value)}; run once")
                        places.setdefault(value, place)
            block[axis] = _Given(path, places)
        return block

    def tables(self, given: object, path: str) -> list[tuple[str, Mapping[str, object]]]:
        """Return the path and content of each table, given one table or a list of tables."""
        if isinstance(given, Mapping):
            return [(path, given)]
        if isinstance(given, list) and all(isinstance(each, Mapping) for each in given):
            return [(f"{path}[{index}]", each) for index, each in enumerate(given)]
        self.report(path, f"must be a table [{path}] or tables [[{path}]], not {shown(given)}")
        return []

    def excludes(self, given: object) -> dict[str, dict[str, Value]]:
        """Return the axis values that each `[[exclude]]` table matches, by the table's path."""
        read = {}
        for path, table in self.tables(given, "exclude"):
            if not table:
                self.report(path, "an empty table excludes every cell: name an axis and a value")
                continue
            matched = {
                axis: self.checked(axis, raw, f"{path}.{axis}")
                for axis, raw in self.known(table, f"{path}.")
            }
            if matched and all(matched.values()):
                read[path] = {axis: next(iter(value)) for axis, value in matched.items()}
        return read


def _unknown(what: str, name: str, options: Iterable[str]) -> str:
    meant = closest(name, options)
    return f"unknown {what}{meant}" if meant else f"unknown {what}: known are {', '.join(options)}"


# From tables to cells


def _grid(raw: Mapping[str, object], overrides: Overrides, default_name: str) -> Grid:
    """Make a grid from a parsed file; raise GridError with every problem of the file."""
    reader = _Reader()
    reader.keys(raw)
    name, description = raw.get("name", default_name), raw.get("description", "")
    reader.problems += filter(None, [_name_problem(name)])
    if not isinstance(description, str):
        reader.report("description", f"must be text, not {shown(description)}")
    base = reader.base(raw.get("base", {}))
    forced = reader.lists(overrides, "--set ")
    tables = reader.tables(raw.get("axes", []), "axes")
    if not (tables or base or forced or reader.problems):
        reader.report("axes", "the grid has no cells: add a table [axes] or [base]")
    own = [reader.lists(table, f"{path}.") for path, table in tables] or [{}]
    for axis in base:
        if all(axis in block for block in own):
            places = " and ".join(block[axis].path for block in own)
            verb = "replaces" if len(own) == 1 else "replace"
            reader.notes.append(f"{places} {verb} {base[axis].path}")
    blocks = [{**base, **axes, **forced} for axes in own]
    reader.problems += _idle_axes(blocks, overrides)
    combinations = sum(math.prod(len(each.places) or 1 for each in b.values()) for b in blocks)
    if combinations > MAX_CELLS:
        rule = f"at most {MAX_CELLS:,} combinations; got {combinations:,}: make several grids"
        raise GridError([*reader.problems, Problem("axes", rule)])
    for index, block in enumerate(blocks):
        where = f"axes[{index}]: " if len(blocks) > 1 else ""
        reader.notes += [f"{where}{note}" for note in _collapse_notes(block)]
    cells = _join(blocks, reader.excludes(raw.get("exclude", [])), reader)
    if reader.problems:
        raise GridError(reader.problems)
    made = (Cell.model_validate(dict(zip(AXES, values, strict=True))) for values in cells)
    return Grid(str(name), str(description), tuple(made), tuple(reader.notes))


def _join(
    blocks: Sequence[_Block], excludes: Mapping[str, Mapping[str, Value]], reader: _Reader
) -> Iterable[tuple[Value, ...]]:
    """Return the cells of all blocks, each once, without excluded cells.

    Each cell is a tuple of its values in the order of `AXES`. Values that cannot be combined are
    reported.
    """
    order = {axis: place for place, axis in enumerate(AXES)}
    block_of: dict[tuple[Value, ...], _Block] = {}
    shared = 0
    for block in blocks:
        for values in dict.fromkeys(_expand(block)):
            shared += values in block_of
            block_of.setdefault(values, block)
    if shared:
        reader.notes.append(f"cells that are in more than one block are run once: {shared:,}")
    kept = dict(block_of)
    for path, exclude in excludes.items():
        wanted = [(order[axis], value) for axis, value in exclude.items()]
        matched = [cell for cell in block_of if all(cell[i] == value for i, value in wanted)]
        reader.notes.append(f"{path}: cells left out: {len(matched):,}")
        for values in matched:
            kept.pop(values, None)
    if not kept and not reader.problems:
        reader.report("exclude", "the [[exclude]] tables match every cell: remove one of them")
    judged = itemgetter(*(order[axis] for axis in JUDGED))
    for values, block in kept.items():
        for rule, broken in broken_rules(judged(values)):
            places = (
                block[axis].places.get(value)
                for axis, value in zip(rule.axes, broken, strict=True)
                if axis in block
            )
            reader.report(next(filter(None, places), "axes"), rule.explain(broken))
    return kept


def _expand(block: _Block) -> Iterator[tuple[Value, ...]]:
    """Yield the combinations of a block in the order of `AXES`, with collapsed axes neutral."""
    defaults = {axis: each.default for axis, each in AXES.items()}
    for values in itertools.product(*(list(each.places) or [UNREAD] for each in block.values())):
        cell = defaults | dict(zip(block, values, strict=True))
        if "hidden" not in block:
            cell["hidden"] = default_hidden(cell["architecture"])
        for each in DEPENDENCES:
            if not _applies(each, cell[each.on]):
                cell[each.axis] = each.neutral
        if cell["sigma"] is None:
            cell["sigma"] = default_sigma(cell["likelihood"])
        yield tuple(cell.values())


def _applies(dependence: Dependence, choice: Value) -> bool:
    return choice == UNREAD or dependence.applies(choice)


def _values(block: _Block, axis: str) -> list[Value]:
    return list(block[axis].places) or [UNREAD] if axis in block else [AXES[axis].default]


def _idle_axes(blocks: Sequence[_Block], overrides: Overrides) -> Iterator[Problem]:
    """Yield a problem for each given axis that has no meaning for any choice in the grid.

    An axis of the file that loses its meaning through an override is no problem: it collapses.
    """
    for each in DEPENDENCES:
        choices = {value for block in blocks for value in _values(block, each.on)}
        forced = each.on in overrides and each.axis not in overrides
        if forced or not each.refused or any(_applies(each, choice) for choice in choices):
            continue
        for block in blocks:
            if each.axis in block and set(block[each.axis].places) - {each.neutral}:
                only = ", ".join(sorted(map(str, choices)))
                rule = f"{each.reason}, and every {each.on} here is {only}: leave {each.axis} out"
                yield Problem(block[each.axis].path, rule)


def _collapse_notes(block: _Block) -> Iterator[str]:
    """Yield a note for each axis that collapses: where, why, and the number of combinations."""
    total = math.prod(len(given.places) for given in block.values())
    for each in DEPENDENCES:
        idle = [choice for choice in _values(block, each.on) if not _applies(each, choice)]
        values = _values(block, each.axis) if each.axis in block else []
        if idle and any(value != each.neutral for value in values):
            lost = total // len(values) * (len(values) - 1)
            after = total - lost * len(idle) // len(_values(block, each.on))
            counts = f": {total:,} combinations become {after:,}" if after < total else ""
            names = ", ".join(map(str, idle))
            yield f"{each.axis} collapses for {each.on} {names} ({each.reason}){counts}"
