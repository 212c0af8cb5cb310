"""A report's content as one HTML page that needs nothing else and reads no network.

Text from data is only a value of the template and always escaped. The content security policy
allows embedded images, the page's own style sheet and its own scripts, each by its hash.
"""

import base64
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from vaebench.analysis.frame import Damaged
from vaebench.analysis.labels import plain
from vaebench.records.metrics import METRICS
from vaebench.report.tables import Table

__all__ = ["Page", "Picture", "Section", "html", "phrase", "render"]


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its file name without an ending, its words, and its PNG."""

    name: str
    title: str
    caption: str
    png: Path

    @property
    def source(self) -> Markup:
        """The image as a data address; the file is read when the page is rendered."""
        data = base64.b64encode(self.png.read_bytes()).decode("ascii")
        return Markup("data:image/png;base64,") + data

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels: the file has two pixels for each."""
        with Image.open(self.png) as image:
            return image.width // 2, image.height // 2


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
    damaged: tuple[Damaged, ...] = ()
    notes: tuple[str, ...] = ()
    has_cells: bool = True


def _typeset(text: str) -> str:
    """Use minus signs, and keep a number and its interval on one line."""
    signed = re.sub(r"(?<![\w.-])-(?=\d)", "−", text)
    return signed.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


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
    return environment


def _file(name: str) -> str:
    return (resources.files("vaebench.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _captions() -> dict[str, Any]:
    return tomllib.loads(_file("captions.toml"))


def phrase(kind: str, key: str, part: str, facts: Mapping[str, Any]) -> str:
    """Return a text of `captions.toml` as plain text, e.g. the caption of a figure.

    Args:
        kind: 'section' or 'figure'.
        key: the section's or figure's name.
        part: 'title', 'intro' or 'caption'.
        facts: the variables that the text may use.
    """
    plain_text = jinja2.Environment(autoescape=False)  # noqa: S701 - the page escapes it
    seeds = plain_text.from_string(_captions()["phrase"]["seeds"]).render(facts)
    return plain_text.from_string(_captions()[kind][key][part]).render(facts, seeds=seeds)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def render(template: str, **values: Any) -> str:
    """Render one of our templates as a whole page; every text among `values` is escaped."""
    style = _file("report.css")
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),  # noqa: S704 - our own file
            style_hash=Markup(_hash(style)),  # noqa: S704
            version=metadata.version("vaebench"),
        )
    )


def html(page: Page) -> str:
    """Return the whole page as text; the same content gives the same text."""
    return render("report.html.j2", **vars(page), metrics=tuple(METRICS.values()))
