"""The policy of `vaebench advise`: successive halving over designs, epochs and seeds.

The functions of this module are pure: they compute the next trials from the scores so far. A search
can thus be continued after it was stopped, and a benchmark can repeat it from a table of scores.

The first stage trains every design for a few epochs with one seed. The middle stage trains the best
of them four times as long, the last stage the best of these eight times as long with three seeds.
All designs use the same seeds, so that differences are paired. If time remains, the designs that
are not significantly worse than the best one are trained with further seeds.

Source of successive halving: Jamieson and Talwalkar 2016, arXiv 1502.07943.
"""

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vaebench.analysis.contrasts import LEVEL, holm, p_value

LONGEST: Final = 8
"""Ratio of the epochs of the last stage to those of the first one, if the time allows."""

PROBES: Final = 4
"""Number of designs that are first trained for one epoch, to measure the cost of a trial."""
_FIRST_SHARE: Final = 0.5, 0.85
"""Largest share of the time for the first stage: when epochs are added, and for all designs."""
_FACTORS: Final = (LONGEST, 4, 2)

_SEEDS: Final = 3
MOST_SEEDS: Final = 10
_FURTHER: Final = 5, MOST_SEEDS
"""Numbers of seeds for designs that are not separated by three seeds."""
_MIDDLE_SHARE: Final = 0.25
"""Share of the middle stage in the time after the first stage."""


class Trial(NamedTuple):
    """One training: a design, its number of epochs and its seed."""

    design: Hashable
    epochs: int
    seed: int


Floats = NDArray[np.float64]

Scores = Mapping[Trial, float]
"""The loss of each trial: lower is better; infinite for a failed trial."""


class Price(NamedTuple):
    """Average seconds of a trial: for its evaluation, and for each epoch of its training."""

    evaluation: float
    epoch: float

    def of(self, epochs: int) -> float:
        """Return the seconds of a trial with this number of epochs."""
        return self.evaluation + self.epoch * epochs


class Stage(NamedTuple):
    """The number of designs, epochs and seeds of a stage."""

    designs: int
    epochs: int
    seeds: int


def first_stage(designs: int, price: Price, seconds: float, least: int, most: float) -> Stage:
    """Plan the first stage: one seed of all designs, with the largest number of epochs in its time.

    Enough time remains for two designs in a last stage with twice the epochs.

    Args:
        designs: number of designs.
        price: the cost of a trial.
        seconds: time of the whole search, summed over workers.
        least: smallest number of epochs; if the time is too short for it, designs are left out.
        most: largest number of epochs.
    """
    longer, wider = (share * seconds for share in _FIRST_SHARE)
    epochs = least

    def fits(doubled: int) -> bool:
        spent = designs * price.of(doubled)
        last = 2 * _SEEDS * price.of(2 * doubled)
        return doubled <= most and spent <= longer and spent + last <= seconds

    while fits(2 * epochs):
        epochs *= 2
    tried = max(int(wider / price.of(epochs)), PROBES)
    return Stage(min(designs, tried), epochs, 1)


def stages(
    first: Stage, price: Price | None, seconds: float, longest: float = math.inf
) -> tuple[Stage, ...]:
    """Plan the stages of a search, including its first stage.

    Args:
        first: the first stage.
        price: the cost of a trial, from the records of the first stage; None before it has ended,
            when the later stages cannot be planned.
        seconds: time of the whole search, summed over workers.
        longest: largest number of epochs.
    """
    if price is None:
        return (first,)
    designs, epochs, _ = first
    left = seconds - designs * price.of(epochs)

    def last_of(factor: int) -> Stage:
        each = _SEEDS * price.of(factor * epochs)
        count = min(round((1 - _MIDDLE_SHARE) * left / each), int(left / each), designs)
        return Stage(count, factor * epochs, _SEEDS)

    allowed = [factor for factor in _FACTORS if factor * epochs <= longest] or [1]
    last = next((s for s in map(last_of, allowed) if s.designs >= 2), last_of(allowed[-1]))
    last = last._replace(designs=max(last.designs, min(2, designs)))
    rest = left - last.designs * _SEEDS * price.of(last.epochs)
    between = last.epochs // 2
    middle = min(designs, int(rest / price.of(between)))
    if between > epochs and middle > last.designs:
        return first, Stage(middle, between, 1), last
    return first, last


def next_trials(designs: Sequence[Hashable], scores: Scores, plan: Sequence[Stage]) -> list[Trial]:
    """Return the missing trials of the first incomplete stage, the most important ones first.

    After the last stage, these are further seeds of the best design and of those that are not
    significantly worse. The list is empty if the search is complete.
    """
    kept = list(designs)
    for stage in plan:
        kept = kept[: stage.designs]
        missing = _missing(kept, stage, range(stage.seeds), scores)
        if missing:
            return missing
        kept = _ranked(kept, scores, stage)
    found, last = outcome(designs, scores, plan), plan[-1]
    undecided = [found.best, *found.equals]
    if len(plan) == 1 or len(undecided) == 1:
        return []
    further = (_missing(undecided, last, range(last.seeds, most), scores) for most in _FURTHER)
    return next(filter(None, further), [])


def _missing(
    designs: Sequence[Hashable], stage: Stage, seeds: Iterable[int], scores: Scores
) -> list[Trial]:
    wanted = (Trial(design, stage.epochs, seed) for seed in seeds for design in designs)
    return [trial for trial in wanted if trial not in scores]


@dataclass(frozen=True)
class Outcome:
    """The result of a search so far.

    Attributes:
        best: the best design of the last stage that has a score; None if no design has one.
        stage: this stage.
        equals: the other designs of the stage that are not significantly worse.
        worse: the designs of the stage that are significantly worse.
        open: designs that were dropped before this stage although they may be the best, in the
            order of their scores.
        excluded: the other designs that were dropped.
    """

    best: Hashable
    stage: Stage
    equals: tuple[Hashable, ...] = ()
    worse: tuple[Hashable, ...] = ()
    open: tuple[Hashable, ...] = ()
    excluded: tuple[Hashable, ...] = ()


def outcome(designs: Sequence[Hashable], scores: Scores, plan: Sequence[Stage]) -> Outcome:
    """Compare the designs of a search by their scores, also if it was stopped within a stage.

    A dropped design is excluded if its distance to the best one exceeds a margin. The margin is the
    root mean square change of the distances of the kept designs from its stage to the next, times
    the 99 % quantile of Student's t for the number of these designs.
    """
    reached: list[tuple[Stage, list[Hashable]]] = []
    kept = list(designs)
    for stage in plan:
        tried = [d for d in kept[: stage.designs] if Trial(d, stage.epochs, 0) in scores]
        if not tried:
            break
        kept = _ranked(tried, scores, stage)
        reached.append((stage, kept))
    if not reached:
        return Outcome(None, plan[0])
    stage, compared = reached[-1]
    best, *others = compared
    if not math.isfinite(np.nanmean(_losses(best, scores, stage))):
        return Outcome(None, stage)
    behind = [_behind(names, best, scores, at) for at, names in reached]
    worse = _worse(behind[-1])
    dropped: dict[bool, list[Hashable]] = {False: [], True: []}
    for before, after in itertools.pairwise(behind):
        changes = [after[d].mean() - before[d].mean() for d in after]
        finite = [change for change in changes if math.isfinite(change)]
        margin = math.inf
        if finite:
            margin = stats.t.ppf(0.99, len(finite)) * math.sqrt(np.mean(np.square(finite)))
        for design in (d for d in before if d not in after):
            distance = before[design].mean()
            dropped[bool(distance > margin or distance == math.inf)].append(design)
    return Outcome(
        best,
        stage,
        tuple(d for d in others if d not in worse),
        tuple(d for d in others if d in worse),
        tuple(dropped[False]),
        tuple(dropped[True]),
    )


def _losses(design: Hashable, scores: Scores, stage: Stage) -> Floats:
    """Return the loss of each seed, ``(S,)``; NaN for a seed without a score."""
    seeds = 1 if stage.seeds == 1 else MOST_SEEDS
    trials = (Trial(design, stage.epochs, seed) for seed in range(seeds))
    return np.array([scores.get(trial, math.nan) for trial in trials])


def _ranked(designs: Sequence[Hashable], scores: Scores, stage: Stage) -> list[Hashable]:
    """Sort the designs by their mean loss, the best first; designs with one seed come last."""
    losses = np.array([_losses(design, scores, stage) for design in designs])
    counts, means = np.isfinite(losses).sum(1), np.nanmean(losses, 1)
    order = np.lexsort((means, counts < min(2, counts.max())))
    return [designs[place] for place in order]


def _behind(
    designs: Sequence[Hashable], best: Hashable, scores: Scores, stage: Stage
) -> dict[Hashable, Floats]:
    """Return the difference of each other design to the best one, for each common seed."""
    least = _losses(best, scores, stage)
    others = {d: _losses(d, scores, stage) - least for d in designs if d != best}
    return {design: each[~np.isnan(each)] for design, each in others.items()}


def _worse(behind: Mapping[Hashable, Floats]) -> set[Hashable]:
    """Return the designs that failed or are worse by a paired t test with Holm adjustment."""
    tested = {design: each for design, each in behind.items() if np.isfinite(each).all()}
    p_values = holm([p_value(each) for each in tested.values()])
    shown = {
        design
        for (design, each), p in zip(tested.items(), p_values, strict=True)
        if p < LEVEL and each.mean() > 0
    }
    return shown | (behind.keys() - tested.keys())
