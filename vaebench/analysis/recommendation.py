"""Recommend a design for each purpose, with equally good designs and open questions.

A design is chosen by its mean over seeds on the selection images and scored on the held-out images.
All other designs are compared with it by paired t tests over common seeds with Holm's adjustment.
Designs that are not significantly worse are called its equals.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from numbers import Real
from pathlib import Path
from typing import Final, Literal, get_args

import pandas as pd

from vaebench.analysis.columns import heading, of_data, unit
from vaebench.analysis.comparability import Group, basis, groups, is_bound, is_timing, refusal
from vaebench.analysis.contrasts import Contrast, contrasts, more_seeds, score_table
from vaebench.analysis.frame import Results, read_results, require_folder, without_superseded
from vaebench.analysis.kinds import named_designs, warned
from vaebench.analysis.labels import design_axes, design_label, plain, value_text, varying
from vaebench.analysis.summary import Interval, interval, number
from vaebench.errors import UsageError
from vaebench.grid.values import plain as plain_value
from vaebench.grid.values import plural
from vaebench.records.metrics import metric_choice

Purpose = Literal["bound", "bits", "codes", "samples", "speed"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

PURPOSE_METRICS: Final[Mapping[Purpose, tuple[str, ...]]] = {
    "bound": ("elbo",),
    "bits": ("bits_per_dim",),
    "codes": ("knn_accuracy", "mutual_information"),
    "samples": ("sample_frechet",),
    "speed": ("samples_per_second",),
}
"""Metrics for each purpose; the first one in the records decides."""

GapCode = Literal[
    "one design",
    "one seed",
    "two seeds",
    "optimistic",
    "end of range",
    "two values",
    "not converged",
    "convergence unknown",
    "left out",
    "worse bound",
]


@dataclass(frozen=True)
class Gap:
    """A question that the records do not answer, as a code and a sentence."""

    code: GapCode
    text: str


@dataclass(frozen=True)
class Recommendation:
    """The best design for one purpose among records that may be compared.

    Attributes:
        purpose: purpose of the design.
        metric: name of the metric that decides.
        unit: unit of the metric, with the words for images or tables.
        group: the data that the compared records have in common, in words.
        design: values of the axes in which designs differ, and of likelihood, sigma, latent_dim.
        label: name of the design.
        key: value of the design in the column `design`.
        score: score on the held-out images, over seeds.
        labels: names of all compared designs, by key.
        contrasts: comparisons of the other designs with it, from the smallest loss to the largest.
        more_seeds: number of further seeds that separate the best design from the closest of its
            equals with a probability of 80 % at the observed spread; None if it is unknown.
        gaps: questions that the records do not answer.
    """

    purpose: Purpose
    metric: str
    unit: str
    group: str
    design: Mapping[str, object]
    label: str
    key: str
    score: Interval
    labels: Mapping[str, str]
    contrasts: tuple[Contrast, ...]
    more_seeds: int | None
    gaps: tuple[Gap, ...]

    @property
    def equals(self) -> tuple[str, ...]:
        """Names of the designs that are not significantly worse."""
        return tuple(self.labels[str(c.design)] for c in self.contrasts if not c.worse)

    @property
    def equal_keys(self) -> frozenset[str]:
        """Keys of the best design and its equals."""
        return frozenset([self.key, *(str(c.design) for c in self.contrasts if not c.worse)])

    def lines(self) -> list[str]:
        """Return the recommendation in sentences."""
        half = (self.score.high - self.score.low) / 2
        spread = f" ± {number(half, half)}" if half > 0 else ""
        made = [
            f"For {self.purpose} ({self.group}): {self.label}, {heading(self.metric)} "
            f"{number(self.score.mean, half)}{spread} {self.unit} "
            f"({plural(self.score.n, 'seed')})."
        ]
        equals, total = self.equals, len(self.contrasts)
        if total and self.score.n > 1 and not equals:
            others = "The other design is" if total == 1 else f"All {total} other designs are"
            made.append(f"{others} shown to be worse.")
        elif total and self.score.n > 1:
            named = "; ".join(equals[:3]) + (f"; and {len(equals) - 3} more" if equals[3:] else "")
            text = f"Not shown to be worse: {len(equals)} of {total} other designs ({named})."
            if self.more_seeds:
                text += (
                    f" At the observed spread about {self.more_seeds} more seeds would separate it "
                    "from the next of them."
                )
            made.append(text)
        return [*made, *(gap.text for gap in self.gaps)]

    def document(self) -> dict[str, object]:
        """Return the recommendation as JSON values; a missing number is None."""
        return {
            "purpose": self.purpose,
            "metric": self.metric,
            "unit": self.unit,
            "group": self.group,
            "design": {axis: plain_value(value) for axis, value in self.design.items()},
            "label": self.label,
            "score": _numbers(asdict(self.score)),
            "equals": list(self.equals),
            "others": [
                {"label": self.labels[str(each.design)], "worse": each.worse}
                | _numbers({"p": each.p, **asdict(each.loss)})
                for each in self.contrasts
            ],
            "more_seeds": self.more_seeds,
            "gaps": [asdict(gap) for gap in self.gaps],
        }

    def _repr_html_(self) -> str:
        first, *others = (escape(line) for line in self.lines())
        return f"<p><strong>{first}</strong></p>" + "".join(f"<p>{line}</p>" for line in others)


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if value == value else None for name, value in values.items()}


class Recommendations(tuple[Recommendation, ...]):
    """A tuple of recommendations that a notebook shows as text."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "<hr>".join(each._repr_html_() for each in self)


def best(store: Path | str, purpose: Purpose | None = None) -> Recommendations:
    """Recommend a design from a results folder for each purpose, or for one purpose.

    >>> vaebench.best("results/quick", "bits")[0].label  # doctest: +SKIP
    'gaussian, σ learned, z 16'

    Raises:
        UsageError: the purpose does not exist.
        FileNotFoundError: the folder does not exist.
        StorageError: the folder cannot be read.
    """
    if purpose is not None and purpose not in PURPOSES:
        raise UsageError(f"purpose must be one of {', '.join(PURPOSES)}; got {purpose!r}")
    root = Path(store)
    require_folder(root)
    found = recommend(read_results([root]))
    return Recommendations(each for each in found if purpose in (None, each.purpose))


def recommend(results: Results) -> tuple[Recommendation, ...]:
    """Recommend a design for each purpose and each group of comparable records.

    Designs with a diverged cell or a collapsed posterior are not recommended. A group whose ELBO is
    not a bound has no recommendation for the bound. The fastest design is chosen among those that
    are equal in bits per dimension, or in the bound if bits are not recorded.
    """
    frame = without_superseded(results.frame)
    if frame.empty:
        return ()
    lost = frame.loc[(frame["status"] == "diverged") | warned(frame, "collapsed"), "design"]
    kept = frame[~frame["design"].isin(lost) & (frame["status"] == "done")]
    left_out = frame[frame["design"].isin(lost)]
    found: dict[Purpose, list[Recommendation]] = {}
    for purpose, metrics in PURPOSE_METRICS.items():
        measured = [m for m in metrics if m in kept and kept[m].notna().any()]
        if purpose == "speed" or not measured:
            continue
        parts = groups(kept[kept[measured[0]].notna()], measured[0])
        found[purpose] = [
            _recommend(purpose, measured[0], part, results, left_out)
            for part in parts
            if measured[0] != "elbo" or is_bound(part.frame)
        ]
    (speed,) = PURPOSE_METRICS["speed"]
    fastest = []
    for each in found.get("bits") or found.get("bound") or ():
        own = kept[kept["design"].isin(each.equal_keys) & kept[speed].notna()]
        if own["design"].nunique() > 1 and refusal(own, speed) is None:
            group = Group(each.group, "", own)
            fastest.append(_recommend("speed", speed, group, results, left_out))
    bounds = found.get("bound", [])
    told = itertools.chain(*found.values())
    return (*(replace(r, gaps=(*_bound_gaps(r, bounds), *r.gaps)) for r in told), *fastest)


def _recommend(
    purpose: Purpose, metric: str, group: Group, results: Results, left_out: pd.DataFrame
) -> Recommendation:
    frame = group.frame
    chosen_by, scored_by = f"{metric}_selection", f"{metric}_held_out"
    split = all(name in frame and frame[name].notna().all() for name in (chosen_by, scored_by))
    if not split:
        chosen_by = scored_by = metric
    choice, scores = score_table(frame, chosen_by), score_table(frame, scored_by)
    counts = choice.count()
    # One lucky seed must not win against the mean of several seeds.
    candidates = choice[list(counts[counts >= min(2, counts.max())].index)].mean()
    lower = metric_choice(metric).better == "lower"
    key = str(candidates.idxmin() if lower else candidates.idxmax())
    against = sorted(contrasts(scores, key, metric), key=lambda each: each.loss.mean)
    equals = [each for each in against if not each.worse]
    axes = design_axes(frame)
    first = frame.drop_duplicates("design").set_index("design")
    labels = {
        str(name): plain(design_label(axes, tuple(row)), 300)
        for name, row in zip(first.index, first[axes].to_numpy(object), strict=True)
    }
    gaps = _seed_gaps(int(scores[key].count()), scores.shape[1], metric)
    if not split and purpose != "speed":
        text = "The design was chosen on the test images that score it, so its score is optimistic."
        gaps.append(Gap("optimistic", of_data(text, group.frame)))
    if purpose != "speed":
        gaps += [*_range_gaps(frame, key), *_convergence_gaps(frame, key, results)]
        gaps += _left_out_gaps(left_out, frame, metric)
    return Recommendation(
        purpose,
        metric,
        of_data(unit(metric), group.frame),
        group.label,
        {axis: first.loc[key, axis] for axis in axes},
        labels[key],
        key,
        interval(scores[key].dropna().to_numpy(float)),
        labels,
        tuple(against),
        more_seeds(equals[0]) if equals else None,
        tuple(gaps),
    )


def _seed_gaps(seeds: int, designs: int, metric: str) -> list[Gap]:
    made = []
    if designs == 1:
        made.append(Gap("one design", "There is one design, so nothing is compared: add an axis."))
    if seeds == 1:
        what = "measurement (seeds of one pack share it)" if is_timing(metric) else "seed"
        text = (
            f"There is one {what}: no design is shown to be better or worse. Run 3 seeds or more."
        )
        made.append(Gap("one seed", text))
    elif seeds == 2 and designs > 1:
        text = "With two seeds only very large differences can be shown: run at least 3."
        made.append(Gap("two seeds", text))
    return made


def _range_gaps(frame: pd.DataFrame, key: str) -> Iterator[Gap]:
    """Yield a gap for each numeric axis whose best value is at an end of the tried values."""
    first = frame.drop_duplicates("design").set_index("design")
    axes = list(varying(frame))
    texts = first[axes].map(value_text)
    for axis in axes:
        others = [other for other in axes if other != axis]
        same = first[(texts[others] == texts.loc[key, others]).all(axis=1)]
        tried = sorted({value for value in same[axis] if _is_number(value)})
        chosen = first.loc[key, axis]
        if not _is_number(chosen) or len(tried) < 2:
            continue
        if len(tried) == 2:
            yield Gap("two values", f"Two values of {heading(axis)} were tried: add a third one.")
        elif chosen in (tried[0], tried[-1]):
            end, beyond = ("smallest", "smaller") if chosen == tried[0] else ("largest", "larger")
            text = (
                f"The best {heading(axis)}, {value_text(chosen)}, is the {end} that was tried: try "
                f"{beyond} values."
            )
            yield Gap("end of range", text)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def _convergence_gaps(frame: pd.DataFrame, key: str, results: Results) -> Iterator[Gap]:
    """Yield a gap if the training loss of the best design still decreased at the end."""
    shares = []
    for cell in frame.loc[frame["design"] == key, "cell_id"]:
        curve = results.series.get(str(cell), {}).get("train_loss", ())
        losses = [value for value in curve if value is not None]
        if len(losses) >= 5 and losses[0] > losses[-1]:
            before = losses[-1 - max(1, len(losses) // 10)]
            shares.append((before - losses[-1]) / (losses[0] - losses[-1]))
    if not shares:
        text = "The records do not show whether training converged."
        yield Gap("convergence unknown", text)
    elif (share := sum(shares) / len(shares)) > _SHARE:
        text = (
            f"Training had not converged: {share:.0%} of the whole improvement came in the last "
            "tenth of the epochs. Longer training may change the choice."
        )
        yield Gap("not converged", text)


_SHARE: Final = 0.01
"""Training has converged if the last tenth gives at most this share of the improvement."""


def _left_out_gaps(left_out: pd.DataFrame, frame: pd.DataFrame, metric: str) -> list[Gap]:
    """Name the designs that are left out of the comparison because they failed."""
    columns = list(basis(metric))
    ground = frame[columns].iloc[0].map(value_text)
    lost = left_out[(left_out[columns].map(value_text) == ground).all(axis=1)]
    if lost.empty:
        return []
    count = lost["design"].nunique()
    text = (
        f"{count} design{' is' if count == 1 else 's are'} left out, because a cell diverged or "
        f"its posterior collapsed: {named_designs(pd.concat([frame, lost]), lost)}."
    )
    return [Gap("left out", text)]


def _bound_gaps(found: Recommendation, bounds: Sequence[Recommendation]) -> list[Gap]:
    """Report that a design that is best for another purpose has a worse bound."""
    return [
        Gap(
            "worse bound",
            f"Its {heading(bound.metric)} is {number(loss.mean, (loss.high - loss.low) / 2)} "
            f"{bound.unit} lower than that of {bound.label}.",
        )
        for bound in bounds
        for contrast in bound.contrasts
        if found.purpose != "bound" and contrast.design == found.key
        for loss in [contrast.loss]
        if contrast.worse or (loss.n == 1 and loss.mean > 0)
    ]
