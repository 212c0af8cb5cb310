"""A report's content as one HTML page that needs nothing else: no network, no script.

Text from data is only ever a value of the template and always escaped; the page's content security
policy allows embedded images and its own style sheet, nothing more.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
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

__all__ = ["Page", "Picture", "Section", "html", "render"]


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its file name without an ending, its words and its PNG's path.

    The file is read when the page is rendered.
    """

    name: str
    title: str
    caption: str
    png: Path

    @property
    def source(self) -> Markup:
        """The image itself as an address."""
        data = base64.b64encode(self.png.read_bytes()).decode("ascii")
        return Markup("data:image/png;base64,") + data

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        with Image.open(self.png) as image:
            return image.size


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
    """All that the page says; without cells it has no metrics to explain."""

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    sections: tuple[Section, ...]
    damaged: tuple[Damaged, ...] = ()
    notes: tuple[str, ...] = ()
    has_cells: bool = True


def _typeset(text: str) -> str:
    """A hyphen before a number becomes a minus sign; a number and its interval stay on one line."""
    signed = re.sub(r"(?<![\w.-])-(?=\d)", "−", text)
    return signed.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _one_line(value: Any) -> Any:
    """Every text of the page goes through here; what the page itself is made of does not."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return plain(value, 1000)
    return value


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaebench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_one_line,
    )
    environment.filters["typeset"] = _typeset
    return environment.get_template(name)


def render(template: str, **values: Any) -> str:
    """One of our templates as a whole page; every text among `values` is escaped."""
    folder = resources.files("vaebench.report") / "templates"
    style = (folder / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return _template(template).render(
        **values,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=f"sha256-{digest}",
        version=metadata.version("vaebench"),
    )


def html(page: Page) -> str:
    """The whole page as text; the same for the same content."""
    return render("report.html.j2", **vars(page), metrics=tuple(METRICS.values()))
