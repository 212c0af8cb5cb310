"""Grid: a TOML file turned into cells, with every error of the file told at once.

A block of axes is a product; where an axis means nothing (a sigma for a likelihood that has no
scale) its values collapse into one. Blocks are joined, each cell once, and what `[[exclude]]`
matches is left out. All of this is done on boxes, so that a grid of ten million cells is counted
at once and walked through lazily.
"""

import itertools
import math
import re
import tomllib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from operator import itemgetter
from pathlib import Path
from typing import cast

from vaebench.errors import GridError, Problem
from vaebench.grid.boxes import Box, combinations, difference, volume
from vaebench.grid.cell import (
    AXES,
    DEPENDENCES,
    RULES,
    Cell,
    Dependence,
    Rule,
    Value,
    default_hidden,
    default_sigma,
)
from vaebench.grid.reading import Block, Draft, Overrides, name_problem, read_draft
from vaebench.grid.values import closest, shown

__all__ = [
    "Grid",
    "collapse_notes",
    "packaged_grids",
    "parse_override",
]

# Stands for an axis none of whose values could be read: no rule is judged on it.
_UNREAD = "\0unread"


@dataclass(frozen=True, eq=False)
class Grid:
    """A set of cells with a name.

    `boxes` are disjoint and together hold every cell once; `notes` say what collapsed, what stands
    there twice and what was left out. Made by `load`, `from_dict` or `of`.

    Raises:
        GridError: the name can't be that of a folder, or a box lacks an axis.
    """

    name: str
    description: str = ""
    boxes: tuple[Box, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problem = name_problem(self.name)
        if problem is not None:
            raise GridError([problem])
        for box in self.boxes:
            if box.keys() != AXES.keys():
                rule = "a box holds values of every axis: make a grid by Grid.from_dict or Grid.of"
                raise GridError([Problem("boxes", rule)])

    @property
    def count(self) -> int:
        """Number of cells, without building one."""
        return sum(volume(box) for box in self.boxes)

    def iter_cells(self) -> Iterator[Cell]:
        """Yield the cells one by one, in the order of the file."""
        for box in self.boxes:
            for values in combinations(box):
                yield Cell.model_validate(values)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells at once."""
        return tuple(self.iter_cells())

    @classmethod
    def of(cls, name: str, cells: Iterable[Cell], description: str = "") -> "Grid":
        """Make a grid of given cells, each once."""
        cells = list(cells)
        for cell in cells:
            if not isinstance(cell, Cell):
                raise TypeError(f"cells: needs a list of vaebench.Cell; got {shown(cell)}")
        boxes = ({axis: (getattr(cell, axis),) for axis in AXES} for cell in dict.fromkeys(cells))
        return cls(name, description, tuple(boxes))

    @classmethod
    def load(cls, name_or_path: str | Path, overrides: Overrides | None = None) -> "Grid":
        """Read a packaged grid by its name, or a TOML file by its path.

        Raises GridError with all problems, also for a file that is missing, unreadable or no TOML.
        """
        text, path = _find(name_or_path)
        try:
            raw = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise GridError([Problem(path, f"is no valid TOML: {error}")]) from None
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem).strip(".")[:60]
        return _grid(read_draft(raw, overrides or {}, stem or "grid"), overrides or {})

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], overrides: Overrides | None = None) -> "Grid":
        """Make a grid of what a TOML file would hold; raises GridError with all problems."""
        if not isinstance(raw, Mapping):
            raise TypeError(f"a grid is made of a mapping, as a TOML file has it; got {shown(raw)}")
        return _grid(read_draft(raw, overrides or {}, "grid"), overrides or {})


def packaged_grids() -> dict[str, str]:
    """Return the name and description of every packaged grid, in alphabetical order."""
    folder = resources.files(__package__).joinpath("library")
    files = (each for each in folder.iterdir() if each.name.endswith(".toml"))
    raws = (tomllib.loads(each.read_text("utf-8")) for each in files)
    return {raw["name"]: raw["description"] for raw in sorted(raws, key=itemgetter("name"))}


def parse_override(text: str) -> tuple[str, list[object]]:
    """Read `--set axis=value[,value]`: the axis and its raw values.

    A value is read as TOML would read it, a number also as people write it (`.5`, `01`), and a
    bare word is text: `sigma=0.1,learned`, `hidden=[128],[400]`. Raises GridError where there is
    no axis or no value; the values are checked when the grid is made.

    >>> parse_override("sigma=0.1,learned")
    ('sigma', [0.1, 'learned'])
    """
    axis, equals, values = text.partition("=")
    words = [word.strip() for word in _split(values)]
    if not equals or not axis.strip() or not all(words):
        rule = "must be axis=value or axis=value,value, like latent_dim=2,8"
        raise GridError([Problem(f"--set {shown(text)}", rule)])
    return axis.strip(), [_parse_word(word) for word in words]


def _split(values: str) -> list[str]:
    """Split at the commas that are in no brackets."""
    words, depth = [""], 0
    for letter in values:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return words


def _parse_word(word: str) -> object:
    try:
        table = tomllib.loads(f"value = {word}")
    except ValueError:  # no TOML, or a number of thousands of digits
        return _number(word)
    value = table.get("value")
    return value if isinstance(value, (bool, int, float, str, list)) and len(table) == 1 else word


def _number(word: str) -> int | float | str:
    """A number that is none of TOML's, or the word itself."""
    if re.fullmatch(r"[+-]?[0-9]{1,30}", word):
        return int(word)
    return float(word) if re.fullmatch(r"[+-]?([0-9]+\.|[0-9]*\.[0-9]+)", word) else word


def _find(name_or_path: str | Path) -> tuple[str, str]:
    """Return the text and the path of a packaged grid or of a file."""
    asked = str(name_or_path)
    if not asked:
        raise GridError([Problem("grid", "give a packaged grid's name or a file; got nothing")])
    if isinstance(name_or_path, str) and re.fullmatch(r"[\w-]+", asked):
        packaged = packaged_grids()
        if asked in packaged:
            source = resources.files(__package__).joinpath("library", f"{asked}.toml")
            return source.read_text("utf-8"), f"{asked}.toml"
        if not Path(asked).exists():
            names = closest(asked, packaged) or f"; packaged are {', '.join(packaged)}"
            raise GridError(
                [Problem(asked, f"there is no packaged grid or file of this name{names}")]
            )
    try:
        # Some editors begin a file with a mark of its byte order.
        return Path(asked).read_text("utf-8-sig"), asked
    except UnicodeDecodeError:
        raise GridError([Problem(asked, "is no grid file: its text is not UTF-8")]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GridError([Problem(asked, f"the grid file cannot be read: {reason}")]) from None


def _grid(draft: Draft, overrides: Overrides) -> Grid:
    """Make a grid of a draft; raise GridError with everything that is wrong with it."""
    draft.problems += _idle_axes(draft.blocks, overrides)
    boxes: list[Box] = []
    seen: list[Box] = []
    for block in draft.blocks:
        for box in _block_boxes(block):
            kept = difference(box, [*draft.excludes.values(), *seen])
            draft.problems += _impossible(block, kept)
            boxes += kept
            seen.append(box)
    if not boxes and not draft.problems:
        draft.report("exclude", "leaves out every cell: drop one of the exclusions")
    if draft.problems:
        raise GridError(draft.problems)
    notes = [*draft.notes, *_block_notes(draft), *_set_notes(draft, seen)]
    return Grid(draft.name, draft.description, tuple(boxes), tuple(notes))


def _values(block: Block, axis: str) -> tuple[Hashable, ...]:
    if axis not in block:
        return (AXES[axis].default,)
    return block[axis].values or (_UNREAD,)


def _block_boxes(block: Block) -> Iterator[Box]:
    """Yield the boxes of a block: one for each choice that other axes depend on."""
    names = [*block, *(axis for axis in AXES if axis not in block)]
    product = {axis: _values(block, axis) for axis in names}
    deciding = [axis for axis in names if any(each.on == axis for each in DEPENDENCES)]
    for chosen in itertools.product(*(product[axis] for axis in deciding)):
        box = product | {axis: (value,) for axis, value in zip(deciding, chosen, strict=True)}
        if "hidden" not in block:
            box["hidden"] = (default_hidden(box["architecture"][0]),)
        for each in DEPENDENCES:
            if not _applies(each, box[each.on][0]):
                box[each.axis] = (each.neutral,)
        settled = (default_sigma(box["likelihood"][0]) if s is None else s for s in box["sigma"])
        yield box | {"sigma": tuple(dict.fromkeys(settled))}


def _applies(dependence: Dependence, choice: Hashable) -> bool:
    return choice == _UNREAD or dependence.applies(cast(Value, choice))


def _impossible(block: Block, boxes: Iterable[Box]) -> Iterator[Problem]:
    """Yield a problem for each combination of values in the boxes that breaks a rule."""
    for box in boxes:
        for rule in RULES:
            for values in itertools.product(*(box[axis] for axis in rule.axes)):
                if _UNREAD not in values and not rule.allows(*values):
                    yield Problem(_place(block, rule, values), rule.explain(values))


def _place(block: Block, rule: Rule, values: Sequence[Hashable]) -> str:
    """Return where the first value of a broken rule that the file gives stands."""
    for axis, value in zip(rule.axes, values, strict=True):
        if axis in block and value in block[axis].values:
            return block[axis].place(value)
    return "axes"


def _idle_axes(blocks: Sequence[Block], overrides: Overrides) -> Iterator[Problem]:
    """Yield a problem for each axis that is given and that no choice in the grid has a use for.

    An axis of the file that an override leaves without use only collapses.
    """
    for each in DEPENDENCES:
        choices = {value for block in blocks for value in _values(block, each.on)}
        forced = each.on in overrides and each.axis not in overrides
        if forced or not each.refused or any(_applies(each, choice) for choice in choices):
            continue
        for block in blocks:
            if each.axis in block and set(block[each.axis].values) - {each.neutral}:
                only = ", ".join(sorted(map(str, choices)))
                rule = f"{each.reason}, and every {each.on} here is {only}: leave {each.axis} out"
                yield Problem(block[each.axis].path, rule)


def _block_notes(draft: Draft) -> Iterator[str]:
    for index, block in enumerate(draft.blocks):
        where = f"axes[{index}]: " if len(draft.blocks) > 1 else ""
        values = {axis: given.values for axis, given in block.items()}
        yield from (f"{where}{note}" for note in collapse_notes(values))


def collapse_notes(axes: Mapping[str, Sequence[Value]]) -> tuple[str, ...]:
    """Say which axes of a product collapse, for what, why, and what that does to the count.

    `axes` holds the values of every axis that is given; one that is not has its default.

    >>> collapse_notes({"likelihood": ["bernoulli", "gaussian"], "sigma": [0.1, 1.0]})[0]
    'sigma collapses for likelihood bernoulli (a likelihood without a scale has no sigma): 4 \
combinations become 3'
    """
    return tuple(_collapse_note(each, axes) for each in DEPENDENCES if _collapses(each, axes))


def _idle_choices(each: Dependence, axes: Mapping[str, Sequence[Value]]) -> list[Value]:
    choices = axes.get(each.on, [AXES[each.on].default])
    return [choice for choice in choices if not each.applies(choice)]


def _collapses(each: Dependence, axes: Mapping[str, Sequence[Value]]) -> bool:
    given = any(value != each.neutral for value in axes.get(each.axis, []))
    return given and bool(_idle_choices(each, axes))


def _collapse_note(each: Dependence, axes: Mapping[str, Sequence[Value]]) -> str:
    idle = _idle_choices(each, axes)
    before = math.prod(len(values) for values in axes.values())
    lost = before // len(axes[each.axis]) * (len(axes[each.axis]) - 1)
    after = before - lost * len(idle) // len(axes.get(each.on, [None]))
    names = ", ".join(map(str, idle))
    counts = f": {before:,} combinations become {after:,}" if after < before else ""
    return f"{each.axis} collapses for {each.on} {names} ({each.reason}){counts}"


def _set_notes(draft: Draft, boxes: Sequence[Box]) -> Iterator[str]:
    """Say what several blocks share and what each exclusion leaves out."""
    apart = [piece for i, box in enumerate(boxes) for piece in difference(box, boxes[:i])]
    shared = sum(map(volume, boxes)) - sum(map(volume, apart))
    if shared:
        yield f"cells that stand in more than one block are run once: {shared:,}"
    for path, exclude in draft.excludes.items():
        kept = sum(volume(piece) for box in apart for piece in difference(box, [exclude]))
        yield f"{path}: cells left out: {sum(map(volume, apart)) - kept:,}"
