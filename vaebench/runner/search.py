"""The policy of `vaebench advise`: successive halving over designs, epochs and seeds.

Every function here is pure: it maps the scores so far to the next trainings, so that a search that
was stopped continues, and a benchmark can replay it from a table of scores.

The first stage trains every design for a few epochs with one seed. The middle stage trains the best
of them four times as long, the last stage the best of these eight times as long with three seeds.
The seeds are common to all designs, so that differences are paired. If time remains, the designs
that are not shown to be worse than the best one get further seeds.

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
"""Epochs of the last stage over those of the first one, if the time allows."""

PROBES: Final = 4
"""The first designs of a search, trained for one epoch to learn what a trial costs."""
_FIRST_SHARE: Final = 0.5, 0.85
"""Share of the time that the first stage may take: for more epochs, and to try every design."""
_FACTORS: Final = (LONGEST, 4, 2)

_SEEDS: Final = 3
MOST_SEEDS: Final = 10
_FURTHER: Final = 5, MOST_SEEDS
"""Numbers of seeds of designs that three seeds do not separate."""
_MIDDLE_SHARE: Final = 0.25
"""Share of the middle stage in the time after the first one: one seed there, three in the last."""


class Trial(NamedTuple):
    """One training: a design, its number of epochs and its seed."""

    design: Hashable
    epochs: int
    seed: int


Floats = NDArray[np.float64]

Scores = Mapping[Trial, float]
"""What a trial lost: lower is better, and infinite for one that failed."""


class Price(NamedTuple):
    """Seconds of one trial of a search, on average over its designs: evaluation, and each epoch."""

    evaluation: float
    epoch: float

    def of(self, epochs: int) -> float:
        """Return the seconds of a trial of that many epochs."""
        return self.evaluation + self.epoch * epochs


class Stage(NamedTuple):
    """How many designs a stage trains, for how many epochs, with how many seeds."""

    designs: int
    epochs: int
    seeds: int


def first_stage(designs: int, price: Price, seconds: float, least: int, most: float) -> Stage:
    """Plan the first stage: all designs with one seed, for as many epochs as its time allows.

    Time is left for two designs in a last stage that is twice as long.

    Args:
        designs: number of designs.
        price: of a trial.
        seconds: of the whole search, all workers together.
        least: smallest number of epochs, at which designs are left out if there is no time for all.
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
    """Plan a search after its first stage.

    Args:
        first: the first stage.
        price: of a trial, from the records of the first stage; None before it has ended, when
            there is no plan for the stages after it.
        seconds: of work, all workers together.
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
    """Return what the first stage that is not complete lacks, the most important trials first.

    After the last stage, the best design and those not shown to be worse get further seeds. An
    empty list means that nothing is left to settle.
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
    """What a search found so far.

    Attributes:
        best: the best design of the last stage that has a score; None if no design has one.
        stage: that stage.
        equals: the other designs of the stage that are not shown to be worse.
        worse: those that are.
        open: designs that were dropped before that stage, but are not excluded by the scores that
            they had then, in the order of these scores.
        excluded: the other designs that were dropped.
    """

    best: Hashable
    stage: Stage
    equals: tuple[Hashable, ...] = ()
    worse: tuple[Hashable, ...] = ()
    open: tuple[Hashable, ...] = ()
    excluded: tuple[Hashable, ...] = ()


def outcome(designs: Sequence[Hashable], scores: Scores, plan: Sequence[Stage]) -> Outcome:
    """Judge the scores of a search, also of one that was stopped within a stage.

    A design that was dropped is excluded if it was behind the best one by more than distances to
    the best one change from its stage to the next: their root mean square over the designs that
    were kept, times the 99 % quantile of Student's t for that number of designs.
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
    """The loss of each seed, ``(S,)``; NaN where there is no score yet."""
    seeds = 1 if stage.seeds == 1 else MOST_SEEDS
    trials = (Trial(design, stage.epochs, seed) for seed in range(seeds))
    return np.array([scores.get(trial, math.nan) for trial in trials])


def _ranked(designs: Sequence[Hashable], scores: Scores, stage: Stage) -> list[Hashable]:
    """The designs by their mean loss, the best first; those with one seed behind the others."""
    losses = np.array([_losses(design, scores, stage) for design in designs])
    counts, means = np.isfinite(losses).sum(1), np.nanmean(losses, 1)
    order = np.lexsort((means, counts < min(2, counts.max())))
    return [designs[place] for place in order]


def _behind(
    designs: Sequence[Hashable], best: Hashable, scores: Scores, stage: Stage
) -> dict[Hashable, Floats]:
    """By how much each other design is behind the best one, for each common seed."""
    least = _losses(best, scores, stage)
    others = {d: _losses(d, scores, stage) - least for d in designs if d != best}
    return {design: each[~np.isnan(each)] for design, each in others.items()}


def _worse(behind: Mapping[Hashable, Floats]) -> set[Hashable]:
    """The designs that failed, or that a paired t test, Holm-adjusted, shows to be worse."""
    tested = {design: each for design, each in behind.items() if np.isfinite(each).all()}
    p_values = holm([p_value(each) for each in tested.values()])
    shown = {
        design
        for (design, each), p in zip(tested.items(), p_values, strict=True)
        if p < LEVEL and each.mean() > 0
    }
    return shown | (behind.keys() - tested.keys())
