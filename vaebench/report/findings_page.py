"""The page of re-tested findings: verdicts with their numbers, figures and the latent story.

Everything on it is made anew from records; text is only ever a value of the template.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pandas as pd
from matplotlib.figure import Figure

from vaebench.analysis.comparability import groups
from vaebench.analysis.frame import outdated_notes
from vaebench.analysis.labels import drawable
from vaebench.analysis.summary import number
from vaebench.findings.evidence import Evidence, rows_of
from vaebench.findings.finding import Assessed, Counts
from vaebench.findings.latent import LATENT
from vaebench.findings.ledger import ledger
from vaebench.findings.story import latent_rows, latent_story
from vaebench.findings.verdict import Margin, Statistic
from vaebench.plots import figures, pictures, plane_figures
from vaebench.plots.figures import Drawn
from vaebench.plots.keys import Keys
from vaebench.plots.palette import colours
from vaebench.plots.saving import save_png
from vaebench.plots.style import FADED, WIDTH, drawing
from vaebench.report.facts import facts
from vaebench.report.page import Picture, render
from vaebench.system.disk import naming

__all__ = ["measured_text", "write_findings_page"]

_SHOWN_SIZES = (2, 8, 100, 10_000)
_COLOUR = {
    "reproduced": 2,
    "shown at this budget": 2,
    "contradicted": 3,
    "not shown at this budget": 3,
}
_FAMILY_TITLES = {
    "latent-dim": "The size of the latent space",
    "sigma": "Sigma",
    "likelihood": "Likelihoods and bounds",
    "iwae": "Importance-weighted bounds",
    "samples": "Samples and codes",
    "collapse": "Latents that are not used",
    "linear": "The linear VAE, of which everything is known",
    "theory": "Mathematics of the tutorial",
}


@dataclass(frozen=True)
class _Row:
    """One finding as the page shows it, all text."""

    name: str
    claim: str
    source: str
    measure: str
    measured: str
    n: str
    margin: str
    verdict: str
    reason: str
    truncation: str
    setting: str
    definition: str


@dataclass(frozen=True)
class _Section:
    key: str
    title: str
    rows: tuple[_Row, ...]
    pictures: tuple[Picture, ...]


def measured_text(statistic: Statistic | None) -> str:
    """The number with its interval and unit, with no more figures than the interval supports.

    >>> measured_text(Statistic(1.234, 1.1, 1.4, 3, "nats"))
    '1.23 [1.10, 1.40] nats'
    >>> measured_text(None)
    'n/a'
    """
    if statistic is None:
        return "n/a"
    half = (statistic.high - statistic.low) / 2
    text = number(statistic.value, half)
    if half > 0:
        text += f" [{number(statistic.low, half)}, {number(statistic.high, half)}]"
    return f"{text} {statistic.unit}"


def _row(each: Assessed) -> _Row:
    finding, statistic = each.finding, each.statistic
    return _Row(
        name=finding.name,
        claim=finding.claim,
        source=finding.source,
        measure=finding.measure,
        measured=measured_text(statistic),
        n="-" if statistic is None else str(statistic.n),
        margin=_margin_text(each),
        verdict=each.judgement.verdict,
        reason=each.judgement.reason,
        truncation=each.truncation,
        setting=finding.setting.text,
        definition=entry.text() if (entry := ledger().get(finding.name)) else "",
    )


def _margin_text(each: Assessed) -> str:
    if each.margin is None:
        return "-"
    return each.margin.text() + ("" if each.statistic is None else f" {each.statistic.unit}")


@dataclass(frozen=True)
class _Album:
    """Saves the pictures of a page in a folder, from where the page takes them in."""

    folder: Path
    keys: Keys

    def picture(self, drawn: Figure | Drawn, name: str, title: str, caption: str) -> Picture:
        path = Path(mkdtemp(dir=self.folder)) / f"{name}.png"
        of = drawn if isinstance(drawn, Drawn) else Drawn(drawn)
        save_png(of.figure, path)
        return Picture(name, title, caption + of.left_out, path)


def _span(statistic: Statistic, margin: Margin) -> tuple[float, float]:
    """Ends of an axis that shows the interval and the margin, where they are of one size."""
    shown = [statistic.value, statistic.low, statistic.high, margin.low, margin.high]
    finite = [value for value in shown if math.isfinite(value)]
    low, high = min(finite), max(finite)
    room = 0.15 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def _colour(each: Assessed) -> tuple[float, float, float] | str:
    """Green or red for a verdict that decides, grey for one that does not."""
    place = _COLOUR.get(each.judgement.verdict)
    return FADED if place is None else colours(4)[place]


def _strips(rows: Sequence[Assessed]) -> Figure | None:
    """A strip a finding: the interval as a bar, the margin where the claim holds shaded."""
    shown = [each for each in rows if each.statistic is not None and each.margin is not None]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, 0.5 + 0.52 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False).ravel()
    for axes, each in zip(panels, shown, strict=True):
        statistic, margin = each.statistic, each.margin
        if statistic is None or margin is None:
            continue
        low, high = _span(statistic, margin)
        inside = max(low, margin.low), min(high, margin.high)
        axes.axvspan(*inside, color="#dcebdc", lw=0)
        colour = _colour(each)
        if math.isfinite(statistic.low) and math.isfinite(statistic.high):
            axes.plot([statistic.low, statistic.high], [0, 0], color=colour, lw=3)
        axes.plot([statistic.value], [0], marker="o", color=colour)
        axes.set(xlim=(low, high), ylim=(-1, 1), yticks=[])
        axes.grid(visible=False)
        axes.tick_params(axis="x", labelsize=6.5, pad=1)
        name = f"{each.finding.name}\n{each.judgement.verdict}"
        axes.set_ylabel(
            drawable(name.replace("\n", " · "), 70), rotation=0, ha="right", va="center"
        )
        axes.spines["left"].set_color(FADED)
        axes.text(1.01, 0.5, statistic.unit, transform=axes.transAxes, va="center", size=7)
    return figure


def _family_pictures(album: _Album, family: str, rows: Sequence[Assessed]) -> Iterator[Picture]:
    figure = _strips(rows)
    if figure is not None:
        title = _FAMILY_TITLES.get(family, family)
        figures.headed(figure, f"Measured against margins: {title}")
        yield album.picture(
            figure,
            f"verdicts-{family}",
            f"Measured against margins: {family}",
            "A dot and a bar are what was measured and its 95 % interval, each strip in its own "
            "unit; the claim holds in the shaded part.",
        )


def _nearest(sizes: Sequence[int]) -> list[int]:
    """The recorded sizes nearest, by ratio, to 2, 8, 100 and 10,000."""
    found = [min(sizes, key=lambda size: abs(math.log(size / wanted))) for wanted in _SHOWN_SIZES]
    return sorted(set(found))


def _latent_pictures(album: _Album, evidence: Evidence, frame: pd.DataFrame) -> Iterator[Picture]:
    """The curve, rate and distortion, active units, KL by dimension, maps and samples."""
    if frame.empty:
        return
    curve = ["elbo", "kl", "reconstruction_error"]
    for metrics, name in (
        (curve, "latent-curve"),
        (["active_units", "knn_accuracy"], "latent-units"),
    ):
        for figure in figures.against(frame, "latent_dim", metrics, "Latent dimension", album.keys):
            caption = "Means over seeds with 95 % Student t intervals, a line a training budget."
            yield album.picture(figure, name, "Latent dimension", caption)
    rows = frame[frame["epochs"] == frame["epochs"].max()]
    plane = plane_figures.rate_distortion(rows, "Rate and distortion, longest training", album.keys)
    if plane is not None:
        yield album.picture(plane, "latent-plane", "Rate and distortion", "A point a latent size.")
    kept = rows[[size in _nearest(list(rows["latent_dim"])) for size in rows["latent_dim"]]]
    yield from _latent_images(album, evidence, kept)


def _latent_images(album: _Album, evidence: Evidence, rows: pd.DataFrame) -> Iterator[Picture]:
    arrays = {str(cell): evidence.arrays(str(cell)) for cell in rows["cell_id"]}
    curves = {c: of["kl_per_dimension"] for c, of in arrays.items() if "kl_per_dimension" in of}
    made = (
        (
            figures.kl_per_dimension(
                groups(rows, "elbo"), curves, "Where the KL goes", keys=album.keys
            ),
            "latent-kl",
            "Where the KL goes",
            "Latent dimensions sorted by their KL.",
        ),
        (
            pictures.tsne_maps(rows, evidence.arrays, "t-SNE of the codes"),
            "latent-tsne",
            "t-SNE of the codes",
            "Posterior means of test images, coloured by label.",
        ),
        (
            pictures.prior_samples(rows, evidence.arrays, "Samples"),
            "latent-samples",
            "Samples",
            "Means of p(x|z) for codes drawn from the prior.",
        ),
    )
    for figure, name, title, caption in made:
        if figure is not None:
            yield album.picture(figure, name, title, caption)


def _sections(
    album: _Album, rows: Sequence[Assessed], evidence: Evidence, latent: pd.DataFrame
) -> list[_Section]:
    made = []
    for family in dict.fromkeys(each.finding.family for each in rows):
        own = [each for each in rows if each.finding.family == family]
        shown = list(_family_pictures(album, family, own))
        if family == LATENT[0].family:
            shown = [*_latent_pictures(album, evidence, latent), *shown]
        title = _FAMILY_TITLES.get(family, family)
        made.append(_Section(family, title, tuple(map(_row, own)), tuple(shown)))
    return made


def _used(rows: Sequence[Assessed], evidence: Evidence) -> pd.DataFrame:
    """The records of the cells that were judged."""
    return rows_of(evidence.frame, {cell for each in rows for cell in each.cells})


def write_findings_page(
    rows: Sequence[Assessed], evidence: Evidence, folder: Path, title: str = "Findings re-tested"
) -> Path:
    """Write `findings.html` into a folder, made if it is not there; return its path.

    Raises OSError where the page cannot be written; an older one is then left as it was.
    """
    budget = rows[0].budget if rows else "quick"
    about_latents = any(each.finding.family == LATENT[0].family for each in rows)
    latent = latent_rows(evidence, budget) if about_latents else pd.DataFrame()
    told = Evidence(latent, evidence.arrays, evidence.series, evidence.facts)
    keys = Keys(() if latent.empty else latent["latent_dim"])
    with drawing(), TemporaryDirectory() as aside:
        album = _Album(Path(aside), keys)
        text = render(
            "findings.html.j2",
            title=title,
            lead=f"Published claims, tested with the {budget} budget. {Counts.of(rows).text()}.",
            notes=outdated_notes(_used(rows, evidence)),
            facts=facts(_used(rows, evidence)),
            story=latent_story(told, rows) if about_latents else (),
            sections=_sections(album, rows, evidence, latent),
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "findings.html"
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path):
            part.write_text(text, encoding="utf-8", newline="")
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
