"""Sentences that summarise a sweep over latent dimensions, made from records."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from vaebench.analysis.kinds import warned
from vaebench.analysis.summary import number, summarise
from vaebench.findings.evidence import Evidence, over_seeds, rows_of
from vaebench.findings.finding import Assessed
from vaebench.findings.latent import PLATEAUS, latent_tests, loss, unused_kl
from vaebench.findings.settings import Budget
from vaebench.findings.verdict import Statistic, Untested
from vaebench.grid.values import plural

_LEAST_SAMPLES = 10
"""Number of effective importance samples below which k is described as too small."""


def latent_rows(evidence: Evidence, budget: Budget) -> pd.DataFrame:
    """Return the finished rows of the largest sweep with at least three latent dimensions.

    The tests of `latent_tests` are tried in their order, so an incomplete sweep does not replace a
    complete one. The result is empty if there is no sweep.
    """
    for cells in latent_tests(budget):
        with suppress(Untested):
            sweep = Evidence(rows_of(evidence.frame, cells)).where()
            if _longest(sweep).frame["latent_dim"].nunique() >= 3:
                return sweep.frame
    return pd.DataFrame()


def latent_story(evidence: Evidence, judged: Sequence[Assessed] = ()) -> tuple[str, ...]:
    """Return sentences about a sweep over latent dimensions; empty if there is no sweep.

    Args:
        evidence: the rows of the sweep.
        judged: judged findings; some describe further experiments with the largest dimension.
    """
    try:
        sweep = evidence.where()
    except Untested:
        return ()
    longest = _longest(sweep)
    tried = set(longest.frame["latent_dim"])
    plateau = PLATEAUS.get(sweep.frame["dataset"].iloc[0], ())
    if len(tried) < 3 or not tried & set(plateau[:1]):
        return ()
    made = []
    for sentence, rows in (
        (_curve, longest),
        (_few, longest),
        (_parts, longest),
        (_units, longest),
        (_bounds, longest),
        (_by_training, sweep),
    ):
        # In an incomplete store two dimensions may have no seed in common.
        with suppress(Untested):
            made.append(sentence(rows))
    return (*filter(None, made), *_tried(judged))


def _longest(rows: Evidence) -> Evidence:
    return rows.where(epochs=rows.frame["epochs"].max())


def _text(values: "pd.Series[float]", unit: str = "nats") -> str:
    """Return the mean over seeds with the half-width of its interval."""
    found = over_seeds(values)
    half = (found.high - found.low) / 2
    spread = f" ± {number(half, half)}" if half > 0 else ""
    return f"{number(found.value, half)}{spread} {unit}"


def _mean(rows: Evidence, size: int, metric: str, unit: str = "nats") -> str:
    return _text(rows.where(latent_dim=size).frame[metric].dropna(), unit)


def _lost(rows: Evidence, size: int, metric: str = "elbo") -> str:
    return _text(loss(rows, size, metric, _sizes(rows)))


def _sizes(rows: Evidence) -> list[int]:
    return sorted(rows.frame.loc[rows.frame["elbo"].notna(), "latent_dim"].unique().tolist())


def _curve(rows: Evidence) -> str:
    table = summarise(rows.frame, ["latent_dim"], "elbo")
    table = table[table["n"] > 0]
    if table.empty:
        raise Untested("no record has a value of elbo")
    few, many = int(table["n"].min()), int(table["n"].max())
    seeds = plural(many, "seed") if few == many else f"{few} to {many} seeds a size"
    sizes = [int(size) for size in table["latent_dim"]]
    first, last = sizes[0], sizes[-1]
    best = sizes[int(table["mean"].to_numpy(float).argmax())]
    pair = rows.table("latent_dim", "elbo", list(dict.fromkeys([best, last])))
    below = _text(pair[best] - pair[last]) if best != last else "0 nats"
    return (
        f"After {plural(int(rows.frame['epochs'].iloc[0]), 'epoch')} ({seeds}) the ELBO rises "
        f"from {_mean(rows, first, 'elbo')} at latent size {first:,} to its highest value, "
        f"{_mean(rows, best, 'elbo')}, at {best:,}; at {last:,} it is "
        f"{_mean(rows, last, 'elbo')}, {below} below the highest."
    )


def _few(rows: Evidence) -> str:
    losses = [f"{_lost(rows, size)} with {size}" for size in _sizes(rows) if size < 4]
    return f"Fewer than four latents lose, against the best size: {', '.join(losses)}."


def _parts(rows: Evidence) -> str:
    start, last = PLATEAUS[rows.frame["dataset"].iloc[0]][0], _sizes(rows)[-1]
    rate, distortion = (
        f"from {_mean(rows, start, metric)} to {_mean(rows, last, metric)}"
        for metric in ("kl", "reconstruction_error")
    )
    return f"From {start:,} to {last:,} latents the rate goes {rate}, the distortion {distortion}."


def _units(rows: Evidence) -> str:
    """Describe active units, and the effective rank, which does not depend on a threshold."""
    last = _sizes(rows)[-1]
    text = f"With {last:,} latents {_mean(rows, last, 'active_units', 'of them')} are active"
    with suppress(Untested):
        rank = _mean(rows, last, "effective_rank", "").strip()
        text += f", and the effective rank of the posterior means is {rank}"
    with suppress(Untested):
        own = unused_kl(rows.where(latent_dim=last))
        text += f"; the units that are not active hold {_text(own)} of KL"
    return f"{text}."


def _bounds(rows: Evidence) -> str:
    """Describe the loss of the largest dimension in both bounds, and whether k is sufficient."""
    last = _sizes(rows)[-1]
    own = rows.where(latent_dim=last).frame
    text = (
        f"Against the best size {last:,} latents lose {_lost(rows, last)} of ELBO and "
        f"{_lost(rows, last, 'iw_bound')} of the importance-weighted bound"
    )
    effective = float((own["iw_samples"] * own["iw_ess"]).min())
    if effective < _LEAST_SAMPLES or warned(own, "too_few_samples").any():
        text += (
            f"; k is too small there ({number(effective)} effective samples), so the second "
            "number is an upper limit of the loss of likelihood"
        )
    if "iw_shortfall" in own and own["iw_shortfall"].notna().any():
        missed = _text(own["iw_shortfall"].dropna())
        text += f"; annealed importance sampling finds {missed} above the importance-weighted bound"
    return f"{text}."


def _by_training(sweep: Evidence) -> str:
    """Describe the loss of the largest dimension after each number of epochs."""
    size = int(sweep.frame["latent_dim"].max())
    losses = {}
    for epochs in sorted(sweep.frame["epochs"].unique().tolist()):
        with suppress(Untested):
            rows = sweep.where(epochs=epochs)
            losses[epochs] = loss(rows, size, sizes=_sizes(rows))
    if len(losses) < 2:
        return ""
    first, *_, last = losses
    mended = (losses[first] - losses[last]).dropna()
    won = _text(mended)
    each = ", ".join(f"{_text(lost)} after {plural(n, 'epoch')}" for n, lost in losses.items())
    change = f"wins back {won}" if mended.mean() > 0 else "does not win that back"
    text = f"Against the best size {size:,} latents lose {each}: longer training {change}."
    with suppress(Untested):
        early, late = (
            _text(unused_kl(sweep.where(latent_dim=size, epochs=epochs)))
            for epochs in (first, last)
        )
        text += f" The KL of inactive units goes from {early} to {late}."
    return text


_TRIED = {
    "latent-lower-rate-mends": "a lower learning rate changes the loss of the largest size by",
    "latent-tutorial-network": "with the tutorial's own network 10,000 latents lose, against the "
    "best size,",
    "latent-tutorial-network-thousand": "with the tutorial's own network 1,000 latents lose, "
    "against the best size,",
    "latent-tutorial-network-kl": "with the tutorial's own network the inactive units of 10,000 "
    "latents hold, in KL,",
}


def _tried(judged: Sequence[Assessed]) -> Iterator[str]:
    for each in judged:
        words, found = _TRIED.get(each.finding.name), each.statistic
        if words is None or found is None:
            continue
        if each.finding.name == "latent-lower-rate-mends":
            found = Statistic(-found.value, -found.high, -found.low, found.n, found.unit)
        half = (found.high - found.low) / 2
        value, low, high = (number(end, half) for end in (found.value, found.low, found.high))
        interval = f" [{low}, {high}]" if np.isfinite(half) else ""
        budget = f" ({each.shortfall['iterations']})" if "iterations" in each.shortfall else ""
        yield f"Tried{budget}: {words} {value}{interval} nats ({plural(found.n, 'seed')})."
