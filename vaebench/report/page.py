"""A report's content as one HTML page that needs nothing else and reads no network.

Text from data is only a value of the template and always escaped. The content security policy
allows embedded images, the page's own style sheet and its own scripts, each by its hash.
"""

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

import jinja2
import PIL.Image
from markupsafe import Markup, escape

from vaebench.analysis.columns import heading
from vaebench.analysis.labels import plain
from vaebench.analysis.recommendation import Recommendation
from vaebench.analysis.summary import summary_text
from vaebench.grid.values import plural
from vaebench.records.metrics import METRICS
from vaebench.records.store import Damage
from vaebench.report.interactive import Chart, Name
from vaebench.report.panels import PanelBlock
from vaebench.report.tables import Table


@dataclass(frozen=True)
class Image:
    """A PNG file that the page embeds."""

    path: Path

    @property
    def source(self) -> Markup:
        """The image as a data address; the file is read when the page is rendered."""
        data = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return Markup("data:image/png;base64,") + data

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels: the file has two pixels for each."""
        with PIL.Image.open(self.path) as image:
            return image.width // 2, image.height // 2


@dataclass(frozen=True)
class Picture:
    """A figure on the page: static images, and the chart that replaces them in a browser.

    Attributes:
        key: its id on the page.
        title: what it shows, on which data.
        caption: how to read it.
        static: what is only true of the static images, '' if nothing.
        images: the static figure; a figure with many designs has several.
        chart: the interactive chart, if there is one.
        blocks: panels that replace the static images, if there are any.
    """

    key: str
    title: str
    caption: str
    static: str
    images: tuple[Image, ...]
    chart: Chart | None = None
    blocks: Sequence[PanelBlock] = ()

    @property
    def charts(self) -> dict[str, Chart]:
        """Its charts with their keys on the page."""
        panels = [panel for block in self.blocks for panel in block.panels]
        found = {f"{self.key}-{i}": panel.chart for i, panel in enumerate(panels)}
        return {key: of for key, of in ({self.key: self.chart} | found).items() if of is not None}

    @property
    def description(self) -> str:
        """A description of the figure for readers who cannot see it."""
        if self.chart is not None:
            return f"{self.title}. {self.chart.description}"
        return f"{self.title}. {self.caption}"


@dataclass(frozen=True)
class Section:
    """A part of the page: figures, then tables."""

    key: str
    title: str
    intro: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Page:
    """Everything on the page; one without cells has no metrics to explain."""

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    sections: tuple[Section, ...]
    damaged: tuple[Damage, ...] = ()
    notes: tuple[str, ...] = ()
    has_cells: bool = True
    names: Mapping[str, Name] = field(default_factory=dict)
    answers: Sequence[Recommendation] = ()
    decoder: Mapping[str, Any] | None = None


def _typeset(text: str) -> str:
    """Use minus signs, and keep a number and its interval on one line."""
    signed = re.sub(r"(?<![\w.-])-(?=\d)", "−", text)
    return signed.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _interval(text: str) -> Markup:
    """A number with its interval below it, which keeps wide tables narrow."""
    value, sign, half = _typeset(text).partition("\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    if not sign:
        return escape(value)
    return Markup("{} <small>± {}</small>").format(value, half)


def _score(answer: Recommendation) -> str:
    """The score of a recommended design with its interval, unit and number of seeds."""
    score, metric = answer.score, answer.metric
    text = summary_text(score.mean, score.low, score.high, score.n, score.n, 0)
    return f"{heading(metric)} {text} {answer.unit} ({plural(score.n, 'seed')})"


def _one_line(value: Any) -> Any:
    """Clean the text of every template value; the markup of the page itself stays as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return plain(value, 1000)
    return value


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaebench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_one_line,
    )
    environment.filters["typeset"] = _typeset
    environment.filters["interval"] = _interval
    environment.filters["score"] = _score
    return environment


def _file(name: str) -> str:
    return (resources.files("vaebench.report") / name).read_text(encoding="utf-8")


@cache
def _captions() -> dict[str, Any]:
    return tomllib.loads(_file("templates/captions.toml"))


def phrase(kind: str, key: str, part: str, facts: Mapping[str, Any]) -> str:
    """Return a text of `captions.toml` as plain text, e.g. the caption of a figure.

    Args:
        kind: 'section' or 'figure'.
        key: the section's or figure's name.
        part: 'title', 'intro', 'caption', or 'static' for what is only true of a static figure.
        facts: the variables that the text may use.
    """
    seeds = _plain_template(_captions()["phrase"]["seeds"]).render(facts)
    text = _captions()[kind][key].get(part, "")
    return _plain_template(text).render(facts, seeds=seeds)


@cache
def _plain_template(text: str) -> jinja2.Template:
    return jinja2.Environment(autoescape=False).from_string(text)  # noqa: S701 - the page escapes it


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


_SCRIPTS: Final = (
    "vendor/vega.min.js",
    "vendor/vega-lite.min.js",
    "vendor/vega-interpreter.js",
    "templates/page.js",
)


def _column(values: Sequence[Any]) -> dict[str, list[Any]]:
    """A column as its distinct values and their places, if that is shorter: names repeat."""
    of = list(dict.fromkeys(values))
    if len(of) > len(values) // 2:
        return {"of": list(values)}
    places = {value: place for place, value in enumerate(of)}
    return {"of": of, "at": [places[value] for value in values]}


def _shared_rows(charts: Mapping[str, Chart]) -> dict[str, Any]:
    """The charts; equal tables of rows and equal images are on the page once.

    The rows of a chart are a place in the list of tables, the source of a sheet one in the list of
    images.
    """
    tables: dict[str, dict[str, dict[str, list[Any]]]] = {}
    shown = {}
    images: dict[str, int] = {}
    for key, chart in charts.items():
        names = dict.fromkeys(name for row in chart.rows for name in row)
        table = {name: _column([row.get(name) for row in chart.rows]) for name in names}
        text = json.dumps(table)
        tables.setdefault(text, table)
        sheets = [
            {**sheet, "source": images.setdefault(sheet["source"], len(images))}
            for sheet in chart.sheets
        ]
        shown[key] = {**vars(chart), "rows": list(tables).index(text), "sheets": sheets}
    return {"charts": shown, "tables": list(tables.values()), "images": list(images)}


def render(
    template: str,
    pictures: Sequence[Picture],
    decoder: Mapping[str, Any] | None = None,
    **values: Any,
) -> str:
    """Render one of our templates as a whole page; every text among `values` is escaped.

    Args:
        template: the file name in `templates`.
        pictures: the pictures of the page; if none has a chart, the scripts that draw charts are
            left out.
        decoder: the decoder that sliders move, see `panels.decoder_of`.
        values: the variables of the template.
    """
    charts = {key: chart for each in pictures for key, chart in each.charts.items()}
    style = _file("templates/report.css")
    scripts = [_file(name) for name in (_SCRIPTS if charts else _SCRIPTS[-1:])]
    data = json.dumps(
        {**_shared_rows(charts), "decoder": decoder}, ensure_ascii=False, separators=(",", ":")
    )
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            decoder=decoder,
            style=Markup(style),  # noqa: S704 - our own files, here and below
            style_hash=Markup(_hash(style)),  # noqa: S704
            scripts=[Markup(script) for script in scripts],  # noqa: S704
            script_hashes=Markup(" ".join(map(_hash, scripts))),  # noqa: S704
            # In a script element, only "<" could end the data.
            data=Markup(data.replace("<", "\\u003c")),  # noqa: S704
            version=metadata.version("vaebench"),
        )
    )


def html(page: Page) -> str:
    """Return the whole page as text; the same content gives the same text."""
    pictures = [picture for section in page.sections for picture in section.pictures]
    words = _captions()["purpose"]
    metrics = tuple(METRICS.values())
    return render("report.html.j2", pictures, **vars(page), metrics=metrics, purposes=words)
