"""The page of re-tested findings: verdicts with their numbers, and the story of latent sizes.

Everything on it follows from records; text is only ever a value of the template.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pandas as pd

from vaebench.analysis.frame import Results, outdated_notes
from vaebench.analysis.summary import number
from vaebench.findings.evidence import Evidence, rows_of
from vaebench.findings.finding import Assessed, Counts
from vaebench.findings.story import latent_rows, latent_story
from vaebench.findings.verdict import VERDICTS, Margin, Statistic
from vaebench.plots.keys import Keys
from vaebench.report.drawing import draw
from vaebench.report.facts import facts
from vaebench.report.interactive import making
from vaebench.report.page import Picture, render
from vaebench.report.sections import SECTIONS, Content, FigureSpec
from vaebench.system.disk import naming

_SHOWN_SIZES: Final = (2, 8, 100, 1000, 10_000)
"""The maps and samples are of the recorded sizes nearest to these."""
_STORY: Final = (
    "elbo-by-latent-dim",
    "bounds-and-published",
    "code-spectra",
    "codes-by-latent-dim",
    "rate-distortion",
    "kl-per-dimension",
    "tsne",
    "samples",
)
_OWN: Final = (FigureSpec("bounds-and-published"), FigureSpec("code-spectra"))
_OF_CELLS: Final = ("tsne", "samples")
_LATENT: Final = "latent-dim"
"""The family of findings that has a story."""
_KINDS: Final = {
    "reproduced": "good",
    "shown at this budget": "good",
    "contradicted": "bad",
    "not shown at this budget": "bad",
}
_FAMILY_TITLES: Final = {
    _LATENT: "The size of the latent space",
    "sigma": "Sigma",
    "likelihood": "Likelihoods and bounds",
    "iwae": "Importance-weighted bounds",
    "samples": "Samples and codes",
    "collapse": "Latents that are not used",
    "linear": "The linear VAE, which has exact answers",
    "theory": "Mathematics of the tutorial",
}


def _strip(statistic: Statistic | None, margin: Margin | None) -> dict[str, Any] | None:
    """An interval against its margin on a line of 0 to 100; None if nothing was measured.

    Returns:
        `inside`: where the claim holds; `interval`: the ends of the 95 % interval, None without
        one; `value`: the measured number; `low`, `high`: the numbers at 0 and 100.
    """
    if statistic is None or margin is None or not math.isfinite(statistic.value):
        return None
    ends = [statistic.value, statistic.low, statistic.high, margin.low, margin.high]
    finite = [end for end in ends if math.isfinite(end)]
    low, high = min(finite), max(finite)
    room = 0.12 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    known = math.isfinite(statistic.low) and math.isfinite(statistic.high)
    return {
        "inside": (place(margin.low), place(margin.high)),
        "interval": (place(statistic.low), place(statistic.high)) if known else None,
        "value": place(statistic.value),
        "low": number(low, (high - low) / 10),
        "high": number(high, (high - low) / 10),
    }


def _claim(each: Assessed) -> dict[str, Any]:
    """The texts of a finding and its verdict, and its strip."""
    finding, statistic, margin = each.finding, each.statistic, each.margin
    limit = "-" if margin is None else margin.text()
    return {
        "name": finding.name,
        "claim": finding.claim,
        "source": finding.source,
        "measure": finding.measure,
        "measured": measured_text(statistic),
        "n": "-" if statistic is None else str(statistic.n),
        "margin": limit if statistic is None else f"{limit} {statistic.unit}",
        "verdict": each.judgement.verdict,
        "kind": _KINDS.get(each.judgement.verdict, "open"),
        "reason": each.judgement.reason,
        "truncation": each.truncation,
        "proxy": each.proxy,
        "setting": finding.setting.text,
        "definition": finding.history,
        "strip": _strip(statistic, margin),
    }


def measured_text(statistic: Statistic | None) -> str:
    """Return the number with its interval and unit, to the figures that the interval supports.

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


def _latent_pictures(evidence: Evidence, frame: pd.DataFrame, folder: Path) -> list[Picture]:
    """Curves, rate and distortion, KL by dimension, maps and samples of the latent sizes."""
    if frame.empty:
        return []
    sizes = sorted(set(frame["latent_dim"]))
    nearest = {min(sizes, key=lambda size: abs(math.log(size / near))) for near in _SHOWN_SIZES}
    longest = frame[frame["epochs"] == frame["epochs"].max()]
    kept = longest[longest["latent_dim"].isin(nearest)]
    every = [*(spec for section in SECTIONS for spec in section.figures), *_OWN]
    specs = {spec.name: spec for spec in every}
    made: list[Picture] = []
    for name in _STORY:
        rows = kept if name in _OF_CELLS else frame
        results = Results(rows, evidence.series, evidence.arrays)
        content = Content(rows, results, pd.DataFrame(), Keys(frame["latent_dim"]))
        made += draw(specs[name], content, folder, static=False)
    return made


def write_findings_page(
    rows: Sequence[Assessed], evidence: Evidence, folder: Path, title: str = "Findings re-tested"
) -> Path:
    """Write `findings.html` into a folder, which is made if needed, and return its path.

    Raises:
        OSError: the page cannot be written; an older one stays as it was.
    """
    budget = rows[0].budget if rows else "quick"
    about_latents = any(each.finding.family == _LATENT for each in rows)
    latent = latent_rows(evidence, budget) if about_latents else pd.DataFrame()
    story = latent_story(replace(evidence, frame=latent), rows) if about_latents else ()
    used = rows_of(evidence.frame, {cell for each in rows for cell in each.cells})
    verdicts = [each.judgement.verdict for each in rows]
    with making(), TemporaryDirectory() as aside:
        pictures = _latent_pictures(evidence, latent, Path(aside))
        families = [
            {
                "key": key,
                "title": _FAMILY_TITLES.get(key, key),
                "claims": [_claim(each) for each in rows if each.finding.family == key],
                "pictures": pictures if key == _LATENT else [],
            }
            for key in dict.fromkeys(each.finding.family for each in rows)
        ]
        text = render(
            "findings.html.j2",
            pictures,
            title=title,
            lead=f"Published claims, tested with the {budget} budget. {Counts.of(rows).text()}.",
            notes=outdated_notes(used),
            facts=facts(used),
            story=story,
            families=families,
            verdicts=[
                (verdict, _KINDS.get(verdict, "open"), verdicts.count(verdict))
                for verdict in VERDICTS
                if verdict in verdicts
            ],
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
