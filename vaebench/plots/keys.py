"""The colours and markers of designs and latent sizes, the same in all figures of a report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vaebench.analysis.labels import ordered
from vaebench.plots.palette import Colour, colours, darker, ramp

MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "d", "h")
_COLOURS: Final = 10


@dataclass(frozen=True)
class Key:
    """The colour and marker of one name."""

    colour: Colour
    marker: str


def _key(place: int) -> Key:
    """The key at a place: 20 colours and 13 markers form 260 different pairs."""
    shades = colours(_COLOURS)
    shade = shades[place % _COLOURS]
    return Key(
        shade if place // _COLOURS % 2 == 0 else darker(shade), MARKERS[place % len(MARKERS)]
    )


class Keys:
    """Keys of designs by name, and colours of latent sizes; a name keeps the key that it has.

    Args:
        sizes: the latent sizes of the whole report, so that a size has one colour in all figures.
    """

    def __init__(self, sizes: Iterable[Any] = ()) -> None:
        self._named: dict[str, Key] = {}
        self._sizes = ordered(list(sizes))

    def designs(self, names: Sequence[str], numeric: bool = False) -> list[Key]:
        """Return the key of each name, assigned in order of appearance; a lone name needs none.

        Names of an ordered quantity (`numeric`) that appear together for the first time get
        colours from dark to light.
        """
        if len(names) == 1:
            return [self._named.get(names[0], _key(0))]
        new = [name for name in dict.fromkeys(names) if name not in self._named]
        ramped = ramp(len(new)) if numeric and len(new) == len(names) else None
        for i, name in enumerate(new):
            key = _key(len(self._named))
            self._named[name] = key if ramped is None else Key(ramped[i], key.marker)
        return [self._named[name] for name in names]

    def sizes(self, values: Iterable[Any]) -> dict[Any, Colour]:
        """Return a colour for each latent size, dark to light over all sizes of the report."""
        wanted = ordered(list(values))
        known = self._sizes if set(wanted) <= set(self._sizes) else wanted
        shades = dict(zip(known, ramp(len(known)), strict=False))
        return {size: shades[size] for size in wanted}
