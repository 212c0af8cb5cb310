"""The recommended design for each purpose, its equals, and what would settle the rest.

A design is chosen by its mean over seeds on the selection images and scored on the held-out ones.
The other designs are compared with it by paired differences over common seeds, with Holm's
adjustment; those that are not shown to be worse are its equals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Final, Literal, get_args

import pandas as pd

from vaebench.analysis.columns import AXIS_COLUMNS, heading, unit
from vaebench.analysis.comparability import Group, groups, is_bound, is_timing, refusal
from vaebench.analysis.contrasts import Contrast, contrasts, more_seeds, score_table
from vaebench.analysis.frame import Results, read_results, require_folder, without_superseded
from vaebench.analysis.kinds import warned
from vaebench.analysis.labels import design_label, plain, reading_order, value_text, varying
from vaebench.analysis.summary import Interval, interval, number
from vaebench.errors import UsageError
from vaebench.records.metrics import METRICS, metric_choice

__all__ = ["PURPOSES", "Gap", "Purpose", "Recommendation", "best", "recommend"]

Purpose = Literal["bound", "bits", "codes", "samples", "speed"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

_METRICS: Final[Mapping[Purpose, tuple[str, ...]]] = {
    "bound": ("elbo",),
    "bits": ("bits_per_dim",),
    "codes": ("knn_accuracy", "mutual_information"),
    "samples": ("sample_frechet",),
    "speed": ("samples_per_second",),
}
"""The metrics of a purpose; the first one that the records hold decides."""

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
]


@dataclass(frozen=True)
class Gap:
    """Something that the records do not settle: a code, and a sentence for people."""

    code: GapCode
    text: str


@dataclass(frozen=True)
class Recommendation:
    """The best design for one purpose among records that may be compared.

    Attributes:
        purpose: what the design is for.
        metric: the metric that decides.
        group: what the compared records have in common, in words.
        design: the value of each axis in which the designs differ, and of likelihood, sigma and
            latent_dim.
        label: the design in words.
        key: its value of the column `design`.
        score: its score on the held-out images, over seeds.
        labels: the other compared designs in words, by their keys.
        contrasts: the other designs against it, from the smallest loss to the largest.
        more_seeds: further seeds that would separate the best design from the next of its equals,
            with a probability of 80 % at the observed spread; None where nothing can be said.
        gaps: what the records do not settle.
    """

    purpose: Purpose
    metric: str
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
        """The designs that are not shown to be worse, in words."""
        return tuple(self.labels[str(c.design)] for c in self.contrasts if not c.worse)

    @property
    def equal_keys(self) -> frozenset[str]:
        """The keys of the best design and its equals."""
        return frozenset([self.key, *(str(c.design) for c in self.contrasts if not c.worse)])

    def lines(self) -> list[str]:
        """The recommendation in sentences."""
        half = (self.score.high - self.score.low) / 2
        spread = f" ± {number(half, half)}" if half > 0 else ""
        seeds = f"{self.score.n} seed{'s' * (self.score.n != 1)}"
        made = [
            f"For {self.purpose} ({self.group}): {self.label}, {heading(self.metric)} "
            f"{number(self.score.mean, half)}{spread} {unit(self.metric)} ({seeds})."
        ]
        if self.contrasts and self.score.n > 1:
            made.append(self._against_the_others())
        return [*made, *(gap.text for gap in self.gaps)]

    def _against_the_others(self) -> str:
        equals, total = self.equals, len(self.contrasts)
        if not equals:
            others = "The other design is" if total == 1 else f"All {total} other designs are"
            return f"{others} shown to be worse."
        named = "; ".join(equals[:3]) + (f"; and {len(equals) - 3} more" if equals[3:] else "")
        text = f"Not shown to be worse: {len(equals)} of {total} other designs ({named})."
        if self.more_seeds:
            text += (
                f" At the observed spread about {self.more_seeds} more seeds would separate it "
                "from the next of them."
            )
        return text

    def _repr_html_(self) -> str:
        from html import escape

        first, *others = (escape(line) for line in self.lines())
        return f"<p><strong>{first}</strong></p>" + "".join(f"<p>{line}</p>" for line in others)


def best(store: Path | str, purpose: Purpose | None = None) -> tuple[Recommendation, ...]:
    """Recommend a design of a results folder for each purpose, or for one.

    >>> vaebench.best("results/quick", "bits")[0].label  # doctest: +SKIP
    'gaussian, σ learned, z 16'

    Raises:
        UsageError: there is no such purpose.
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    if purpose is not None and purpose not in PURPOSES:
        raise UsageError(f"purposes are {', '.join(PURPOSES)}; got {purpose!r}")
    root = Path(store)
    require_folder(root)
    found = recommend(read_results([root]))
    return tuple(each for each in found if purpose in (None, each.purpose))


def recommend(results: Results) -> tuple[Recommendation, ...]:
    """Recommend a design for each purpose and each group of records that may be compared.

    Designs with a diverged cell or a collapsed posterior are not recommended. Groups whose score
    is not a bound on the likelihood of the data have no recommendation by it.
    """
    frame = without_superseded(results.frame)
    if frame.empty:
        return ()
    lost = frame.loc[(frame["status"] == "diverged") | warned(frame, "collapsed"), "design"]
    kept = frame[~frame["design"].isin(lost) & (frame["status"] == "done")]
    left_out = int(lost.nunique())
    found = [
        each
        for purpose in ("bound", "bits", "codes", "samples")
        for each in _of_purpose(purpose, kept, results, left_out)
    ]
    return (*found, *_fastest(kept, results, found, left_out))


def _of_purpose(
    purpose: Purpose, frame: pd.DataFrame, results: Results, left_out: int
) -> list[Recommendation]:
    metric = next(
        (m for m in _METRICS[purpose] if m in METRICS and m in frame and frame[m].notna().any()),
        None,
    )
    if metric is None:
        return []
    parts = groups(frame[frame[metric].notna()], metric)
    if metric == "elbo":
        parts = tuple(part for part in parts if is_bound(part.frame))
    return [_recommend(purpose, metric, part, results, left_out) for part in parts]


def _fastest(
    frame: pd.DataFrame, results: Results, found: Sequence[Recommendation], left_out: int
) -> list[Recommendation]:
    """The fastest of the designs that are not shown to be worse in bits, else in the bound."""
    metric = _METRICS["speed"][0]
    good = [each for each in found if each.purpose == "bits"]
    good = good or [each for each in found if each.purpose == "bound"]
    made = []
    for each in good:
        own = frame[frame["design"].isin(each.equal_keys) & frame[metric].notna()]
        if own["design"].nunique() > 1 and refusal(own, metric) is None:
            made.append(_recommend("speed", metric, Group(each.group, "", own), results, left_out))
    return made


def _recommend(
    purpose: Purpose, metric: str, group: Group, results: Results, left_out: int
) -> Recommendation:
    frame = group.frame
    chosen_by, scored_by = f"{metric}_selection", f"{metric}_held_out"
    split = all(name in frame and frame[name].notna().all() for name in (chosen_by, scored_by))
    if not split:
        chosen_by = scored_by = metric
    choice, scores = score_table(frame, chosen_by), score_table(frame, scored_by)
    counts = choice.count()
    # The mean of a lucky seed must not win against the mean of several.
    candidates = choice[list(counts[counts >= min(2, counts.max())].index)].mean()
    lower = metric_choice(metric).better == "lower"
    key = str(candidates.idxmin() if lower else candidates.idxmax())
    against = sorted(contrasts(scores, key, metric), key=lambda each: each.loss.mean)
    equals = [each for each in against if not each.worse]
    axes = sorted(
        dict.fromkeys([*varying(frame), "likelihood", "sigma", "latent_dim"]), key=reading_order
    )
    first = frame.drop_duplicates("design").set_index("design")
    labels = {
        str(name): plain(design_label(axes, tuple(row)), 300)
        for name, row in zip(first.index, first[axes].to_numpy(object), strict=True)
    }
    gaps = [
        *_seed_gaps(scores, key, metric),
        *_selection_gaps(metric, split=split),
        *(() if purpose == "speed" else _range_gaps(frame, key)),
        *(() if purpose == "speed" else _convergence_gaps(frame, key, results)),
        *_left_out_gaps(left_out),
    ]
    return Recommendation(
        purpose,
        metric,
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


def _seed_gaps(scores: pd.DataFrame, key: str, metric: str) -> list[Gap]:
    seeds, designs = int(scores[key].count()), scores.shape[1]
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


def _selection_gaps(metric: str, *, split: bool) -> list[Gap]:
    if split or metric == "samples_per_second":
        return []
    return [
        Gap(
            "optimistic",
            "The design was chosen on the test images that score it, so its score is optimistic.",
        )
    ]


def _range_gaps(frame: pd.DataFrame, key: str) -> list[Gap]:
    """Axes of numbers whose best value is the smallest or largest one that was tried."""
    first = frame.drop_duplicates("design").set_index("design")
    axes = [axis for axis in varying(frame) if axis in AXIS_COLUMNS and axis != "seed"]
    made = []
    for axis in axes:
        others = [other for other in axes if other != axis]
        same = first[
            (first[others].map(value_text) == first.loc[key, others].map(value_text)).all(axis=1)
        ]
        tried = sorted({value for value in same[axis] if _is_number(value)})
        chosen = first.loc[key, axis]
        if not _is_number(chosen) or len(tried) < 2:
            continue
        if len(tried) == 2:
            text = f"Two values of {heading(axis)} were tried: add a third one."
            made.append(Gap("two values", text))
        elif chosen in (tried[0], tried[-1]):
            end = "smallest" if chosen == tried[0] else "largest"
            text = (
                f"The best {heading(axis)}, {value_text(chosen)}, is the {end} that was tried: try "
                f"{'smaller' if chosen == tried[0] else 'larger'} values."
            )
            made.append(Gap("end of range", text))
    return made


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


_SHARE: Final = 0.01
"""Share of the whole improvement in the last tenth of training up to which it had converged."""

_LEAST_EPOCHS: Final = 5


def _convergence_gaps(frame: pd.DataFrame, key: str, results: Results) -> list[Gap]:
    """Whether the training loss of the best design still fell noticeably at the end."""
    shares = []
    for cell in frame.loc[frame["design"] == key, "cell_id"]:
        curve = results.series.get(str(cell), {}).get("train_loss", ())
        losses = [value for value in curve if value is not None]
        if len(losses) >= _LEAST_EPOCHS and losses[0] > losses[-1]:
            before = losses[-1 - max(1, len(losses) // 10)]
            shares.append((before - losses[-1]) / (losses[0] - losses[-1]))
    if not shares:
        return [Gap("convergence unknown", "The records do not show whether training converged.")]
    share = sum(shares) / len(shares)
    if share <= _SHARE:
        return []
    text = (
        f"Training had not converged: {share:.0%} of the whole improvement came in the last tenth "
        "of the epochs. Longer training may change the choice."
    )
    return [Gap("not converged", text)]


def _left_out_gaps(count: int) -> list[Gap]:
    if not count:
        return []
    designs = "1 design is" if count == 1 else f"{count} designs are"
    return [Gap("left out", f"{designs} left out: a cell diverged, or its posterior collapsed.")]
