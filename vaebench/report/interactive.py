"""The interactive charts of a page: Vega-Lite specifications, and the data that they share.

Every chart of designs is drawn from rows with the same fields, so that the page can exchange the
axes, hide families and highlight a design in all charts at once (`templates/page.js`). Its scripts
set the parameters `selected`, `hidden`, `xlo`, `xhi`, `ylo` and `yhi`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from altair.utils.schemapi import debug_mode

from vaebench.analysis.columns import axis_label, heading, unit
from vaebench.analysis.comparability import Group, is_bound, is_timing
from vaebench.analysis.labels import (
    design_labels,
    drawable_names,
    is_missing,
    order_key,
    ordered,
    reading_order,
    value_text,
    varying,
)
from vaebench.analysis.summary import design_summaries, number
from vaebench.plots.keys import Keys
from vaebench.plots.palette import from_hex, to_hex
from vaebench.plots.selection import evenly, split_places
from vaebench.records.metrics import METRICS

_MOST_DESIGNS: Final = 300
_MOST_POINTS: Final = 40
"""Points of a curve."""
_METRICS: Final = (
    "elbo",
    "kl",
    "reconstruction_error",
    "bits_per_dim",
    "iw_bound",
    "mse",
    "active_units",
    "knn_accuracy",
    "mutual_information",
    "sigma_fitted",
    "samples_per_second",
    "step_ms_median",
    "peak_memory_mib",
    "pack_size",
)
_SHAPES: Final = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "cross",
    "triangle-left",
    "triangle-right",
)
_SCALES: Final = {"z": "log", "active_units": "symlog"}
VISIBLE: Final = "indexof(hidden, datum.family) < 0"
_FOCUS: Final = "selected == null || datum.design == selected || datum.family == selected"


@dataclass(frozen=True)
class Chart:
    """A chart on the page.

    Attributes:
        spec: a Vega-Lite specification without data.
        rows: its data.
        description: what it shows, for readers who cannot see it.
        axes: for a channel ('x' or 'y') the fields that a reader can choose, with title and label;
            the first one is shown.
        families: the families in its legend: name, colour and shape.
        sheets: images of its points side by side, shown when the pointer is over a point.
    """

    spec: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    description: str
    axes: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    families: Sequence[tuple[str, str, str]] = ()
    sheets: Sequence[Mapping[str, Any]] = ()


class Name(NamedTuple):
    """The name of a design on the page, that of its family, and its latent size."""

    design: str
    family: str
    size: int


@dataclass(frozen=True)
class Designs:
    """The designs of a report, with the names and colours that they have on the whole page.

    A family is a design without its latent size. Its name gives likelihood, sigma and everything
    that varies in the report, so that one name always means the same design.

    Args:
        frame: one row per design and seed.
        keys: the colours and markers of the report.
    """

    frame: pd.DataFrame
    keys: Keys

    @cached_property
    def _axes(self) -> list[str]:
        named = dict.fromkeys(["likelihood", "sigma", *varying(self.frame, ["latent_dim"])])
        axes = [axis for axis in named if self.frame[axis].notna().any()]
        return sorted(axes, key=reading_order)

    @cached_property
    def names(self) -> dict[str, Name]:
        """The name of each entry of the column `design`."""
        if self.frame.empty:
            return {}
        rows = self.frame.drop_duplicates("design")
        keys = list(zip(*(rows[axis].map(_plain_key) for axis in self._axes), strict=True))
        distinct = sorted(set(keys), key=lambda key: [order_key(value) for value in key])
        labels = drawable_names(design_labels(self._axes, distinct), 80)
        families = dict(zip(distinct, labels, strict=True))
        found = sorted(
            zip(keys, rows["latent_dim"], rows["design"], strict=True),
            key=lambda row: (distinct.index(row[0]), row[1]),
        )
        return {
            str(design): Name(f"{families[key]}, z {size:,}", families[key], int(size))
            for key, size, design in found
        }

    def rows(self, group: Group) -> list[dict[str, Any]]:
        """One row per design of a group: its names, its size, and its metrics with intervals."""
        frame = group.frame
        metrics = [m for m in _METRICS if m in frame and frame[m].notna().any()]
        if frame["machine"].nunique() != 1:
            metrics = [metric for metric in metrics if not is_timing(metric)]
        if not metrics:
            return []
        parts = split_places(frame, ["design"])
        parts = [parts[place] for place in evenly(len(parts), _MOST_DESIGNS)]
        found = []
        summaries = design_summaries(frame, [rows for _, rows in parts], metrics)
        for ((design,), rows), summary in zip(parts, summaries, strict=True):
            name = self.names[str(design)]
            row = {"design": name.design, "family": name.family, "z": name.size}
            row |= {"sigma": _words(frame["sigma"].iat[rows[0]]), "seeds": len(rows)}
            for metric in metrics:
                ends = {"": "mean", "_low": "low", "_high": "high"}
                row |= {f"{metric}{end}": _short(summary[metric][of]) for end, of in ends.items()}
            found.append(row)
        return sorted(found, key=lambda row: (self._families.index(row["family"]), row["z"]))

    @cached_property
    def _families(self) -> list[str]:
        """The names of families in the order of their values: 6 epochs before 30."""
        return list(dict.fromkeys(name.family for name in self.names.values()))

    def legend(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
        """The families of some rows with their colours and shapes."""
        names = self._families
        book = dict(zip(names, self.keys.designs(names), strict=True))
        present = sorted({str(row["family"]) for row in rows}, key=names.index)
        return [
            (name, to_hex(book[name].colour), _SHAPES[names.index(name) % len(_SHAPES)])
            for name in present
        ]


def _plain_key(value: Any) -> Any:
    """A value that is equal to itself: None instead of NaN."""
    return None if is_missing(value) else value


def _words(value: Any) -> str:
    """A value as it is written on an axis: 'per pixel' for 'per_pixel'."""
    return value_text(value).replace("_", " ")


def _short(value: float) -> float | None:
    """Five significant digits, which keep a page small; None for a missing value."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _title(metric: str, bound: bool = True) -> str:
    return "latent dimension" if metric == "z" else axis_label(metric, bound)


def _known(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that some of these rows have."""
    return [m for m in _METRICS if any(row.get(m) is not None for row in rows)]


def _tooltips(rows: Sequence[Mapping[str, Any]]) -> list[alt.Tooltip]:
    names = [alt.Tooltip("design:N", title="design"), alt.Tooltip("seeds:Q", title="seeds")]
    return names + [
        alt.Tooltip(f"{metric}:Q", title=f"{heading(metric)} [{unit(metric)}]", format=",.5~g")
        for metric in _known(rows)
    ]


def making() -> AbstractContextManager[None]:
    """Make specifications without validating each of their parts, which takes most of the time.

    The tests validate whole specifications against the schema.
    """
    return debug_mode(False)


def finished(chart: Any, height: int) -> dict[str, Any]:
    """Return the specification with its parameters and size, without data."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec.pop("config", None)
    ends = ({"name": name, "value": 0} for name in ("xlo", "xhi", "ylo", "yhi"))
    params = [{"name": "selected", "value": None}, {"name": "hidden", "value": []}, *ends]
    return spec | {"params": params, "width": "container", "height": height}


def _focus(shown: float, faded: float) -> alt.OpacityValue:
    """The opacity of what is selected, or of everything if nothing is, and of the rest."""
    return alt.OpacityValue(faded, condition={"test": _FOCUS, "value": shown})


def _limits(channel: str, **more: Any) -> alt.Scale:
    ends = {f"domain{end}": alt.ExprRef(f"{channel}{of}") for end, of in _ENDS}
    return alt.Scale(nice=False, **{"zero": False, **ends, **more})


_ENDS: Final = (("Min", "lo"), ("Max", "hi"))


def _marks(
    rows: Sequence[Mapping[str, Any]],
    size: int,
    points: Mapping[str, Any],
    bars: Mapping[str, Any],
) -> list[Any]:
    """The intervals of some rows, and above them their points with tooltips.

    Args:
        rows: the data.
        size: of a point.
        points, bars: where a point, and an interval, is drawn.
    """
    base = alt.Chart(alt.NamedData("rows")).transform_filter(VISIBLE)
    focus = _focus(1.0, 0.12)
    # The page fills in the scales of families from the legend of the chart.
    colour = alt.Color("family:N", legend=None)
    return [
        base.mark_rule(clip=True).encode(**bars, color=colour, opacity=focus),
        base.mark_point(filled=True, size=size, clip=True, cursor="pointer").encode(
            **points,
            opacity=focus,
            tooltip=_tooltips(rows),
            color=colour,
            shape=alt.Shape("family:N", legend=None),
        ),
    ]


def scatter(
    designs: Designs, group: Group, x: str, ys: Sequence[str], xs: Sequence[str] = ()
) -> Chart | None:
    """A point per design with its interval, and a line through the latent sizes of a family.

    Args:
        designs: the names and colours.
        group: comparable rows.
        x: 'z' for the latent dimension, 'sigma', or a metric.
        ys: metrics that the vertical axis can show, the first one at the start.
        xs: metrics that the horizontal axis can show; only `x` if empty.
    """
    rows = designs.rows(group)
    if x == "sigma":
        rows = [row for row in rows if row["sigma"] != "-"]
    known = _known(rows)
    ys = [m for m in ys if m in known]
    swept = len({row["z"] for row in rows}) if x == "z" else len(rows)
    if not ys or swept < 2:
        return None
    families = designs.legend(rows)
    bound, y = is_bound(group.frame), ys[0]
    vertical: dict[str, Any] = {"scale": _limits("y"), "title": _title(y, bound)}
    vertical["axis"] = alt.Axis(tickCount=7)
    if x == "sigma":
        order = [_words(value) for value in ordered(group.frame["sigma"].dropna())]
        horizontal = alt.X(
            "sigma:N",
            sort=order,
            title="σ, scale of the likelihood [pixel]",
            axis=alt.Axis(labelAngle=0),
        )
    elif x == "z":
        scale = _limits("x", type="log", base=2, zero=alt.Undefined)
        horizontal = alt.X(
            "z:Q",
            scale=scale,
            title=_title("z"),
            axis=alt.Axis(format=",d", values=_apart(sorted({row["z"] for row in rows}))),
        )
    else:
        horizontal = alt.X(
            f"{x}:Q", scale=_limits("x"), title=_title(x, bound), axis=alt.Axis(tickCount=9)
        )
    point = {"x": horizontal, "y": alt.Y(f"{y}:Q", **vertical)}
    bar = {"x": horizontal, "y": alt.Y(f"{y}_low:Q", **vertical), "y2": f"{y}_high:Q"}
    layers = _marks(rows, 70, point, bar)
    if x != "sigma":
        base = alt.Chart(alt.NamedData("rows")).transform_filter(VISIBLE)
        line = base.mark_line(strokeWidth=1.2, clip=True).encode(
            **point,
            color=layers[0].encoding.color,
            detail="family:N",
            order=alt.Order("z:Q"),
            opacity=_focus(0.55, 0.08),
        )
        layers.insert(0, line)
    axes = {"y": _options(ys, bound)}
    if x != "sigma":
        axes["x"] = _options([m for m in xs if m in known] or [x], bound)
    spec = finished(alt.layer(*layers), 340)
    return Chart(spec, rows, _described(rows, y), axes, families)


def _apart(sizes: Sequence[int], most: int = 12) -> list[int]:
    """The sizes whose labels have room on a logarithmic axis."""
    gap = (sizes[-1] / sizes[0]) ** (1 / most)
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        if size >= gap * kept[-1] and sizes[-1] >= gap * size:
            kept.append(size)
    return [*kept, sizes[-1]]


def _options(metrics: Sequence[str], bound: bool = True) -> list[dict[str, str]]:
    """The fields that a channel can show."""
    return [
        {
            "field": m,
            "title": _title(m, bound),
            "label": _title(m, bound).partition(" [")[0],
            "scale": _SCALES.get(m, "linear"),
        }
        for m in metrics
    ]


def _described(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """A sentence on the range of a metric in the rows."""
    known = [row for row in rows if row.get(metric) is not None]
    low, high = (pick(known, key=lambda row: row[metric]) for pick in (min, max))
    ends = (f"{number(row[metric])} ({row['design']})" for row in (low, high))
    return f"{heading(metric)} of {len(known)} designs, from {' to '.join(ends)}."


def ranking(
    designs: Designs, group: Group, metrics: Sequence[str], alone: bool = False, most: int = 40
) -> Chart | None:
    """The designs of a group with their intervals, the best value of the first metric on top.

    Args:
        designs: the names and colours.
        group: comparable rows.
        metrics: what the horizontal axis can show.
        alone: only the designs of families with one latent size, and also a single one.
        most: the largest number of designs.
    """
    rows = designs.rows(group)
    counts = Counter(row["family"] for row in rows)
    known = [metric for metric in metrics if metric in _known(rows)]
    if alone:
        rows = [row for row in rows if counts[row["family"]] == 1]
    if not known:
        return None
    first = known[0]
    better, sign = METRICS[first].better, -1 if METRICS[first].better == "higher" else 1
    rows = [row for row in rows if row[first] is not None]
    rows = sorted(rows, key=lambda row: (sign * row[first], row["design"]))[:most]
    if len(rows) < (1 if alone else 2):
        return None
    families = designs.legend(rows)
    order = [row["design"] for row in rows]
    names = alt.Y("design:N", sort=order, title=None, axis=alt.Axis(labelLimit=320))
    scale, title = _limits("x"), f"{axis_label(first)}, {better} is better"
    point = {"x": alt.X(f"{first}:Q", scale=scale, title=title), "y": names}
    low = alt.X(f"{first}_low:Q", scale=scale, title=title)
    layers = _marks(rows, 60, point, {"x": low, "x2": f"{first}_high:Q", "y": names})
    spec = finished(alt.layer(*layers), 24 * len(rows))
    return Chart(spec, rows, _described(rows, first), {"x": _options(known)}, families)


def curves(
    designs: Designs,
    found: Mapping[str, Sequence[tuple[float, float]]],
    titles: tuple[str, str],
    log: bool,
    bottom: float | None = None,
) -> Chart | None:
    """One curve per design, labelled at its end with the latent size.

    Args:
        designs: the names and colours.
        found: for an entry of the column `design` the points of its curve.
        titles: of the horizontal and of the vertical axis.
        log: use logarithmic axes.
        bottom: the lowest value that is shown.
    """
    rows: list[dict[str, Any]] = []
    shown = [list(found)[place] for place in evenly(len(found), 60)]
    for design in shown:
        points = found[design]
        name = designs.names[design]
        known = [(x, y) for x, y in points if math.isfinite(y)]
        places = sorted({round(i) - 1 for i in np.geomspace(1, len(known), _MOST_POINTS)})
        for i in places if known else ():
            x, y = known[i]
            row = {"design": name.design, "family": name.family, "x": x, "y": _short(y)}
            rows.append(row | ({"end": f"z {name.size:,}"} if i == places[-1] else {}))
    if not rows:
        return None
    families = designs.legend(rows)
    several = len({row["end"] for row in rows if "end" in row}) > 1
    values = [row["y"] for row in rows]
    low = min(values) if bottom is None else bottom
    kind = {"type": "log"} if log else {"zero": False}
    base = alt.Chart(alt.NamedData("rows")).transform_filter(VISIBLE)
    scale = alt.Scale(nice=False, **kind)
    horizontal = alt.X("x:Q", title=titles[0], scale=scale, axis=alt.Axis(tickCount=10))
    pad = 0.0 if log else 0.05 * (max(values) - low)
    domain = {"domainMin": low, "domainMax": max(values) + pad}
    vertical = alt.Y("y:Q", title=titles[1], scale=alt.Scale(**domain, **kind))
    focus = _focus(0.9, 0.08)
    shades = _shades([designs.names[design] for design in shown], families)
    scale_of = alt.Scale(domain=list(shades), range=list(shades.values()))
    colour = alt.Color("design:N", scale=scale_of, legend=None)
    tips = [alt.Tooltip("design:N", title="design")]
    tips += [alt.Tooltip("x:Q", title=titles[0], format=",.5~g")]
    tips += [alt.Tooltip("y:Q", title=titles[1], format=",.5~g")]
    shared = {"x": horizontal, "y": vertical, "color": colour, "opacity": focus}
    lines = base.mark_line(strokeWidth=1.6, clip=True).encode(detail="design:N", **shared)
    hit = base.mark_point(filled=True, size=14, clip=True, cursor="pointer").encode(
        tooltip=tips, **shared
    )
    ends = base.transform_filter("isValid(datum.end)").mark_text(align="left", dx=5, fontSize=10)
    labels = ends.encode(text="end:N", **shared)
    layers = [lines, hit, labels] if several else [lines, hit]
    spec = finished(alt.layer(*layers), 340)
    count = len({row["design"] for row in rows})
    return Chart(spec, rows, f"{titles[1]} of {count} designs.", {}, families)


def _shades(names: Sequence[Name], families: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """A colour per design: that of its family, the lighter the smaller its latent size."""
    shades = {}
    for family, colour, _ in families:
        members = sorted((name for name in names if name.family == family), key=lambda n: n.size)
        whites = np.linspace(0.6, 0.0, len(members)) if len(members) > 1 else [0.0]
        for name, white in zip(members, whites, strict=True):
            red, green, blue = ((1 - white) * part + white for part in from_hex(colour))
            shades[name.design] = to_hex((red, green, blue))
    return shades
